"""What is done to each log line before it is written: nothing secret, nothing that plays tricks on a terminal (I27)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from broker_bridge.errors import BridgeError, ContractError, DeliveryError
from broker_bridge.observability import names
from broker_bridge.text import printable

LONGEST_TEXT: Final = 2_048
DEEPEST: Final = 4
MOST_ITEMS: Final = 100
MOST_FRAMES: Final = 30
INNERMOST_FRAMES: Final = 12
MASK: Final = "***"

_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")


def key_hash(key: bytes | None) -> str:
    """12 hex digits that stand for a record key in logs; ``-`` for no key.

    Equal keys have equal hashes, so an operator can follow one key and look one up; it hides keys from a reader of
    logs, not from someone who can guess them all.
    """
    return "-" if key is None else hashlib.blake2b(key, digest_size=6).hexdigest()


def scrubbed(value: object, *, depth: int = 0) -> object:
    """``value`` fit for a log line: JSON types; bytes by their size only; texts escaped, cut, URLs without userinfo."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        pairs = list(value.items())[:MOST_ITEMS]
        return {_text(str(name)): masked(str(name), item, depth=depth + 1) for name, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [scrubbed(item, depth=depth + 1) for item in list(value)[:MOST_ITEMS]]
    if isinstance(value, BaseException):
        return _text(said_by(value))
    return _text(str(value))


def masked(name: str, value: object, *, depth: int = 0) -> object:
    """``value`` scrubbed, or a mask where a field of that ``name`` must not be logged."""
    if name.lower() in names.NEVER_LOGGED and not (name == names.TOKEN and isinstance(value, int)):
        return MASK
    return scrubbed(value, depth=depth)


def said_by(error: BaseException) -> str:
    """The error's text where it is ours and about the machinery; else its class only.

    What a handler or a target says, and what a decoder saw, may quote the message itself.
    """
    if isinstance(error, BridgeError) and not isinstance(error, DeliveryError | ContractError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def exception_fields(error: BaseException) -> dict[str, object]:
    """Class, code, text and the places of the stack (no source lines, no variables) of an exception."""
    fields: dict[str, object] = {names.ERROR_CLASS: type(error).__name__, names.ERROR: said_by(error)}
    if isinstance(error, BridgeError):
        fields[names.CODE] = error.code
    if isinstance(error, BaseExceptionGroup):
        fields[names.ERRORS] = [said_by(inner) for inner in error.exceptions[:MOST_FRAMES]]
    stack: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(stack) < MOST_FRAMES:
        if cause is not error:
            stack.append(f"caused by {type(cause).__name__}")
        stack += _frames(cause.__traceback__)[-INNERMOST_FRAMES:]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    if stack:
        fields[names.STACK] = stack[:MOST_FRAMES]
    return fields


def _frames(trace: TracebackType | None) -> list[str]:
    found: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found


def _text(text: str) -> str:
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return printable(_USERINFO.sub(f"{MASK}@", cut) if "://" in cut else cut)


def as_exception(exc_info: Any) -> BaseException | None:
    """The exception meant by what a logging call was given as ``exc_info``."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple) and len(exc_info) == 3 and isinstance(exc_info[1], BaseException):
        return exc_info[1]
    return None
