"""What of a selection may stand in the operations topic, which is kept for ever: no key, no header's value, and of an
expression no text that is compared with (I27)."""

from __future__ import annotations

import re
from typing import Final

from broker_bridge.core.letters import Selection
from broker_bridge.core.replay_plan import key_hash

_TEXT: Final = re.compile(r"""(["'])(?:\\.|(?!\1).)*(?:\1|$)""", re.DOTALL)


def recorded_selection(selection: Selection) -> dict[str, object]:
    """The fields that were given: the key by its hash, headers by their names, texts of ``where`` as ``"…"``."""
    given = selection.as_json()
    if selection.key:
        given["key"] = key_hash(selection.key.encode())
    if selection.headers:
        given["headers"] = [one.partition("=")[0] for one in selection.headers]
    if selection.where:
        given["where"] = _TEXT.sub('"…"', selection.where)
    return given
