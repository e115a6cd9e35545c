"""A stable id for a *kind* of failure, so that dead letters group by what went wrong.

It is made of codes only, never of messages: reporters in Python, Go and Rust word their messages differently but share
the code list, so the same failure has the same fingerprint whoever reported it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

_VERSION = "v1"


@lru_cache(maxsize=1_024)
def fingerprint(code: str, target_code: str = "") -> str:
    """Twelve hex digits: SHA-256 of the version, the error code and the target's own code, newline between them."""
    text = f"{_VERSION}\n{code}\n{target_code}"
    # a target's code comes out of its JSON, where "\\ud800" is no character that UTF-8 could hold
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
