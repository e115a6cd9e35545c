"""Making text that came from elsewhere safe to show: on a terminal, in a log line."""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""C0 and C1 controls (ESC starts ANSI sequences), invisible and direction-changing characters, lone surrogates."""


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""``text`` with all escaped that could move the cursor, hide or reorder other text: ESC becomes ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(lambda match: _escaped(match[0], keep_newlines=keep_newlines), text)


def _escaped(char: str, *, keep_newlines: bool) -> str:
    if char == "\n" and keep_newlines:
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"
