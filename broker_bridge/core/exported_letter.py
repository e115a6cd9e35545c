"""Dead letters as lines of a file: what ``dlq export`` writes, and ``dlq import`` and a replay from a file read.

JSON lines. The first is the header: which route, group and topic the letters are of, which were selected, by whom,
when. Then one line a letter, and an end line with their count and the SHA-256 of every byte before it: a file that was
cut, edited or glued is refused::

    {"kind":"dead_letters","version":1,"group":"payments",…}
    {"kind":"letter","partition":0,"offset":17,"timestamp_ms":…,"key":{"text":"customer-1"},"value":{"base64":"AAA…"},
     "headers":[["ce_id",{"text":"o-1"}],["tag",null],…],"about":{…},"value_json":{…}}
    {"kind":"end","letters":1,"sha256":"…"}

The record is there byte for byte: place, timestamp, key, value, and all headers in their order, the bridge's own among
them. Bytes are ``{"text": …}`` where they are UTF-8 without control characters, otherwise ``{"base64": …}``, and never
both: of two forms that disagree nobody could say which one counts.

``about`` (origin, failure, state when exported) and ``value_json`` (the value decoded) are for people and for ``jq``.
The hash covers them, and whoever reads the file back ignores them: what they say follows from the bytes, or was true
only then.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, NamedTuple

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.errors import ExportInvalidError
from broker_bridge.message import Header, Record

EXPORT_VERSION: Final = 1
LONGEST_LINE: Final = 64 << 20
"""Bytes. A letter has at most a few MiB, and a file without line ends must not fill the memory."""
_AGAIN = "make the file again with: broker-bridge dlq export"
_COPY = "copy the file again, or " + _AGAIN
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MAX_PARTITION, _MAX_LONG = (1 << 31) - 1, (1 << 63) - 1


@dataclass(slots=True, frozen=True)
class ExportHeader:
    """Everything about an export but its letters. ``topic`` is the route's source topic, ``selection`` the filters as
    given, ``at`` RFC 3339."""

    at: str
    by: str
    route: str
    group: str
    topic: str
    dead_letter_topic: str
    selection: Mapping[str, object]


class ExportEnd(NamedTuple):
    """The last line: how many letters, and the hash of every byte before it."""

    letters: int
    sha256: str


class Seal:
    """Hashes and counts the lines of an export while they are written or read."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.lines = 0

    def add(self, line: bytes) -> bytes:
        """One more line before the end; answers it."""
        self._digest.update(line)
        self.lines += 1
        return line

    def end(self) -> ExportEnd:
        """The end that belongs to the lines so far, the first of which is the header."""
        return ExportEnd(self.lines - 1, self._digest.hexdigest())


# -- writing


def header_line(header: ExportHeader) -> bytes:
    """The header as its line of the file."""
    return _line({"kind": "dead_letters", "version": EXPORT_VERSION, **asdict(header)})


def end_line(end: ExportEnd) -> bytes:
    """The end as its line of the file."""
    return _line({"kind": "end", **end._asdict()})


def letter_line(record: Record, letter: DeadLetter, *, state: str = "", decoded: object = None) -> bytes:
    """A dead letter as its line: ``record`` as it stands in the log, ``letter`` the same as it was read.

    ``decoded`` is the value as JSON types; None, or what is not JSON, leaves it out.
    """
    failure = letter.failure
    fields_: dict[str, object] = {
        "kind": "letter",
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _form(record.key),
        "value": _form(record.value),
        "headers": [[name, _form(value)] for name, value in record.headers],
        "about": {
            "origin": str(letter.origin),
            "idempotency_key": letter.idempotency_key,
            "fingerprint": failure.fingerprint,
            "code": failure.code,
            "error_class": failure.error_class,
            "message": failure.message,
            "target_code": failure.target_code,
            "attempts": failure.attempts,
            "first_ms": failure.first_ms,
            "last_ms": failure.last_ms,
            "hops": letter.hops,
            "state": state,
        },
    }
    if decoded is not None:
        try:
            return _line({**fields_, "value_json": decoded})
        except (ValueError, TypeError, RecursionError):  # NaN, or nested deeper than JSON is written
            pass
    return _line(fields_)


def _form(value: bytes | None) -> dict[str, str] | None:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or _NOT_TEXT.search(text):
        return {"base64": base64.b64encode(value).decode()}
    return {"text": text}


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _line(value: object) -> bytes:
    return _encode(value).encode() + b"\n"


# -- reading


class Checked(NamedTuple):
    """A file that is, byte for byte, what was written."""

    header: ExportHeader
    end: ExportEnd


def verify(lines: Iterable[bytes]) -> Checked:
    """Read a whole export, each letter of it. Raises ``ExportInvalidError``, which names the line."""
    seal = Seal()
    header: ExportHeader | None = None
    found_end: bytes | None = None
    for number, line in enumerate(lines, start=1):
        if found_end is not None:
            raise _invalid(number, "comes after the end: two files in one?", "give each export on its own")
        _check_line(line, number)
        found = _parse(line, number)
        if header is None:
            header = _header(found)
        elif found.get("kind") == "end":
            found_end = line
            continue
        else:
            _record(found, number, header.dead_letter_topic)
        seal.add(line)
    if header is None:
        raise ExportInvalidError("the file is empty", remedy=_COPY)
    end = seal.end()
    if found_end is None:
        raise _invalid(seal.lines + 1, f"is missing: the file was cut short after {end.letters} letters", _COPY)
    _check_end(found_end, end)
    return Checked(header, end)


def letter_record(line: bytes, number: int, *, topic: str) -> Record | None:
    """The record of a letter's line, as it stood in ``topic``; None of the header and the end. ``number`` is the
    line's, for the error. Raises ``ExportInvalidError``."""
    found = _parse(line, number)
    return _record(found, number, topic) if found.get("kind") == "letter" else None


def _check_line(line: bytes, number: int) -> None:
    if number == 1 and line.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK")):
        raise _invalid(number, "is compressed", "unpack the file first")
    if len(line) > LONGEST_LINE:
        raise _invalid(number, f"is longer than {LONGEST_LINE >> 20} MiB: no letter is", _COPY)
    if not line.endswith(b"\n"):
        raise _invalid(number, "is cut off", _COPY)
    if line.endswith(b"\r\n"):
        raise _invalid(number, "ends in CR LF: the file was converted", "copy it as binary, or " + _AGAIN)


def _check_end(line: bytes, expected: ExportEnd) -> None:
    if line == end_line(expected):
        return
    number = expected.letters + 2
    stated = _parse(line, number)
    if stated.get("letters") != expected.letters:
        why = f"says {stated.get('letters')} letters, but the file holds {expected.letters}"
    else:
        why = f"says another hash than the lines before it have ({expected.sha256[:12]}…): one of them was changed"
    raise _invalid(number, why, _AGAIN)


def _invalid(number: int, what: str, remedy: str) -> ExportInvalidError:
    return ExportInvalidError(f"line {number} {what}", remedy=remedy)


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _parse(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _invalid(number, "is not JSON", _AGAIN) from error
    if not isinstance(value, dict):
        raise _invalid(number, "is not a JSON object", _AGAIN)
    return value


def _header(found: dict[str, Any]) -> ExportHeader:
    if found.get("kind") != "dead_letters":
        raise _invalid(1, "is not the header of an export", "name a file that dlq export wrote")
    if found.get("version") != EXPORT_VERSION:
        what = f"says version {found.get('version')}, this program reads version {EXPORT_VERSION}"
        raise _invalid(1, what, "read it with the release that wrote it, or " + _AGAIN)
    wanted = {one.name: dict if one.name == "selection" else str for one in fields(ExportHeader)}
    if wrong := [name for name, kind in wanted.items() if not isinstance(found.get(name), kind)]:
        raise _invalid(1, f"has no sound {', '.join(wrong)}", _AGAIN)
    return ExportHeader(**{name: found[name] for name in wanted})


def _record(found: dict[str, Any], number: int, topic: str) -> Record:
    try:
        if found["kind"] != "letter":
            raise ValueError("kind")
        return Record(
            topic,
            _whole(found["partition"], 0, _MAX_PARTITION),
            _whole(found["offset"], 0, _MAX_LONG),
            _whole(found["timestamp_ms"], -1, _MAX_LONG),
            _bytes(found["key"]),
            _bytes(found["value"]),
            [_one_header(*pair) for pair in found["headers"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid(number, "is not a letter of an export", _AGAIN) from error


def _one_header(name: object, form: object) -> Header:
    if not isinstance(name, str):
        raise TypeError("name")
    return name, _bytes(form)


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError("number")
    return value


def _bytes(form: object) -> bytes | None:
    if form is None:
        return None
    if not isinstance(form, dict) or len(form) != 1:
        raise ValueError("form")
    ((name, text),) = form.items()
    if not isinstance(text, str):
        raise TypeError("form")
    if name == "text":
        return text.encode()
    if name == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError("base64") from error
    raise ValueError("form")
