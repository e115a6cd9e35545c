"""A replay plan as lines of a file, read strictly: what was cut, edited or glued is refused.

The first line is the header, a JSON object. Then a line for each item and, after them, for each skipped letter: short
JSON arrays (``["i", …]`` and ``["s", …]``, the fields of ``PlanItem`` and ``SkippedLetter`` in their order, trailing
defaults left out), because a million of them are read while a replay runs. The end line has the counts and the SHA-256
of every byte before it. A million items need no more memory than one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from broker_bridge.core.newest_version import ReplayOrder
from broker_bridge.core.replay_plan import (
    PREDICTED,
    SKIPPED,
    SOURCES,
    PlanEnd,
    PlanHeader,
    PlanItem,
    Prediction,
    SkippedLetter,
)
from broker_bridge.errors import PlanInvalidError

PLAN_VERSION = 2
_REMAKE = "make the plan again with: broker-bridge replay plan"

_ITEM = b'["i",'
_SKIPPED = b'["s",'
_END = b'{"'

_loads = json.JSONDecoder().decode


# -- writing


def canonical(value: object) -> bytes:
    """One JSON line: sorted names, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def item_line(item: PlanItem) -> bytes:
    """An item as its line of the file."""
    if item[10:] != _NOTHING_SPECIAL:
        return _array("i", item, item._field_defaults)
    partition, offset, origin_partition, origin_offset, claim, payload, code, fingerprint, hops, key = item[:10]
    text = encode_basestring
    return (
        f'["i",{partition},{offset},{origin_partition},{origin_offset},"{claim}","{payload}",'
        f'{text(code)},{text(fingerprint)},{hops},"{key}"]\n'
    ).encode()


def skipped_line(letter: SkippedLetter) -> bytes:
    """A skipped letter as its line of the file."""
    return _array("s", letter, letter._field_defaults)


_NOTHING_SPECIAL = tuple(PlanItem._field_defaults.values())


def header_line(header: PlanHeader) -> bytes:
    """The header as its line of the file."""
    return canonical({"kind": "plan", "version": PLAN_VERSION, **asdict(header)})


def end_line(end: PlanEnd) -> bytes:
    """The end as its line of the file."""
    found = {"kind": "end", "items": end.items, "skipped": end.skipped, "id": end.plan_id, "sha256": end.sha256}
    return canonical(found)


def seal(lines: Iterable[bytes]) -> PlanEnd:
    """The end that belongs to a header line and the lines after it."""
    digest, items, skipped = hashlib.sha256(), 0, 0
    for line in lines:
        digest.update(line)
        items += line.startswith(_ITEM)
        skipped += line.startswith(_SKIPPED)
    return _end_of(digest.hexdigest(), items, skipped)


def _array(kind: str, values: Sequence[int | str], defaults: dict[str, Any]) -> bytes:
    last = len(values)
    for default in reversed(defaults.values()):
        if values[last - 1] != default:
            break
        last -= 1
    written = [encode_basestring(one) if isinstance(one, str) else str(one) for one in (kind, *values[:last])]
    return f"[{','.join(written)}]\n".encode()


# -- reading


class _Shape(NamedTuple):
    """What the array of a line must look like."""

    name: str
    types: tuple[type, ...]
    least: int


_ITEM_SHAPE = _Shape(
    "an item",
    (str, int, int, int, int, str, str, str, str, int, str, str, str, str, str, int),
    1 + len(PlanItem._fields) - len(PlanItem._field_defaults),
)
_SKIPPED_SHAPE = _Shape("a skipped letter", (str, int, int, int, int, str, str, str), len(SkippedLetter._fields))


def verify(lines: Iterable[bytes]) -> tuple[PlanHeader, PlanEnd]:
    """Read a whole plan and answer its header and end. Raises ``PlanInvalidError`` for anything that is not, byte
    for byte, what was written. The hash speaks for the items; they are parsed when they are walked."""
    digest, items, skipped = hashlib.sha256(), 0, 0
    header: PlanHeader | None = None
    found_end: bytes | None = None
    for number, line in enumerate(lines, start=1):
        if found_end is not None:
            raise PlanInvalidError(f"line {number} comes after the end of the plan", remedy=_REMAKE)
        if not line.endswith(b"\n"):
            raise PlanInvalidError(f"line {number} is cut off", remedy="copy the file again, or " + _REMAKE)
        if line.endswith(b"\r\n"):
            raise PlanInvalidError(f"line {number} ends in CR LF: the file was converted", remedy=_REMAKE)
        if header is None:
            header = _header(_object(line, number))
        elif line.startswith(_ITEM) and not skipped:
            items += 1
        elif line.startswith(_SKIPPED):
            skipped += 1
        elif line.startswith(_END):
            found_end = line
            continue
        else:
            raise PlanInvalidError(f"line {number} is not what comes next in a plan", remedy=_REMAKE)
        digest.update(line)
    if header is None:
        raise PlanInvalidError("the file is empty", remedy=_REMAKE)
    if found_end is None:
        raise PlanInvalidError(
            f"the file was cut short after {items + skipped} letters", remedy="copy it again, or " + _REMAKE
        )
    return header, _checked_end(found_end, _end_of(digest.hexdigest(), items, skipped))


def items_of(lines: Iterable[bytes]) -> Iterator[PlanItem]:
    """The items of a plan that was verified, one at a time. Raises ``PlanInvalidError`` for what no plan holds."""
    for number, line in enumerate(lines, start=1):
        if line.startswith(_ITEM):
            yield read_item(line, number)
        elif number > 1:
            return


def read_item(line: bytes, number: int = 0) -> PlanItem:
    """The item of a line, the ``number``-th of its file. Raises ``PlanInvalidError``."""
    found = _values(line, number, _ITEM_SHAPE)
    item = PlanItem._make(found + _ITEM_DEFAULTS[len(found)])
    if item.predicted not in PREDICTED or not (_is_hex(item.claim, 16) and _is_hex(item.payload, 8)):
        raise PlanInvalidError(f"line {number} is not an item of a plan", remedy=_REMAKE)
    return item


def ends_of(lines: Iterable[bytes]) -> list[tuple[int, PlanItem]]:
    """Of the items of a plan that was verified those with the lowest and the highest offset of each partition, each
    with its number, rising. Only they are parsed: 0.5 µs a line."""
    lowest: dict[bytes, tuple[int, int, bytes]] = {}
    highest: dict[bytes, tuple[int, int, bytes]] = {}
    for number, line in enumerate(lines, start=-1):  # the first line is the header
        if not line.startswith(_ITEM):
            if number >= 0:
                break
            continue
        _, partition, text, _ = line.split(b",", 3)
        offset = int(text)
        if partition not in lowest or offset < lowest[partition][0]:
            lowest[partition] = (offset, number, line)
        if partition not in highest or offset > highest[partition][0]:
            highest[partition] = (offset, number, line)
    ends = {number: line for _, number, line in (*lowest.values(), *highest.values())}
    return [(number, read_item(line, number + 2)) for number, line in sorted(ends.items())]


def skipped_of(lines: Iterable[bytes]) -> Iterator[SkippedLetter]:
    """The skipped letters of a plan that was verified, as ``items_of``."""
    for number, line in enumerate(lines, start=1):
        if line.startswith(_SKIPPED):
            letter = SkippedLetter(*_values(line, number, _SKIPPED_SHAPE))
            if letter.why not in SKIPPED or not _is_hex(letter.claim, 16):
                raise PlanInvalidError(f"line {number} is not a skipped letter of a plan", remedy=_REMAKE)
            yield letter


_ITEM_DEFAULTS = {
    n: tuple(PlanItem._field_defaults.values())[n - len(PlanItem._fields) :] if n < len(PlanItem._fields) else ()
    for n in range(len(PlanItem._fields) + 1)
}
"""Number of fields that a line has → the values of those that it leaves out."""


def _values(line: bytes, number: int, shape: _Shape) -> tuple[Any, ...]:
    try:
        found = _loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise PlanInvalidError(f"line {number} is not JSON", remedy=_REMAKE) from error
    if len(found) < shape.least or tuple(map(type, found)) != shape.types[: len(found)]:
        raise PlanInvalidError(f"line {number} is not {shape.name} of a plan", remedy=_REMAKE)
    return tuple(found[1:])


def _is_hex(text: str, size: int) -> bool:
    try:
        return len(text) == 2 * size and len(bytes.fromhex(text)) == size
    except ValueError:
        return False


def _end_of(sha256: str, items: int, skipped: int) -> PlanEnd:
    return PlanEnd(items=items, skipped=skipped, plan_id=f"rp-{sha256[:16]}", sha256=sha256)


def _checked_end(line: bytes, expected: PlanEnd) -> PlanEnd:
    if line == end_line(expected):
        return expected
    stated = _object(line, expected.items + expected.skipped + 2)
    said, held = (stated.get("items"), stated.get("skipped")), (expected.items, expected.skipped)
    if said != held:
        why = f"it says {said[0]} items and {said[1]} skipped letters but holds {held[0]} and {held[1]}"
    else:
        why = f"it was changed after it was made (its content has the hash {expected.sha256[:12]}…)"
    raise PlanInvalidError(why, remedy=_REMAKE)


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PlanInvalidError(f"line {number} is not JSON", remedy=_REMAKE) from error
    if not isinstance(value, dict):
        raise PlanInvalidError(f"line {number} is not a JSON object", remedy=_REMAKE)
    return value


# -- the header


def _counts(value: object) -> bool:
    return isinstance(value, dict) and all(type(count) is int for count in value.values())


_HEADER_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("created_at", "by", "why", "route", "group", "topic", "dead_letter_topic", "destination"),
        lambda value: isinstance(value, str),
    ),
    "max_hops": lambda value: type(value) is int,
    "source": lambda value: isinstance(value, dict) and value.get("kind") in SOURCES,
    "selection": lambda value: isinstance(value, dict),
    "source_until": _counts,
    "redrive_from": _counts,
    "order": lambda value: value in tuple(ReplayOrder),
    "allow_expired": lambda value: isinstance(value, bool),
    "force": lambda value: isinstance(value, bool),
    "edit": lambda value: value is None or isinstance(value, dict),
    "rate_per_s": lambda value: type(value) in (int, float),
    "expected_s": lambda value: type(value) in (int, float),
    "prediction": lambda value: isinstance(value, dict),
}


def _header(found: dict[str, Any]) -> PlanHeader:
    if found.get("kind") != "plan":
        raise PlanInvalidError("the file does not begin as a replay plan", remedy="name a file that replay plan wrote")
    if found.get("version") != PLAN_VERSION:
        raise PlanInvalidError(
            f"the plan has version {found.get('version')}, this program reads version {PLAN_VERSION}", remedy=_REMAKE
        )
    values = {name: found[name] for name in found.keys() - {"kind", "version"}}
    if missing := sorted({one.name for one in fields(PlanHeader)} - values.keys()):
        raise PlanInvalidError(f"its header lacks {', '.join(missing)}", remedy=_REMAKE)
    if unknown := sorted(values.keys() - _HEADER_CHECKS.keys()):
        raise PlanInvalidError(f"its header has unknown fields: {', '.join(unknown)}", remedy=_REMAKE)
    if wrong := sorted(name for name, is_right in _HEADER_CHECKS.items() if not is_right(values[name])):
        raise PlanInvalidError(f"its header has no sound {', '.join(wrong)}", remedy=_REMAKE)
    return PlanHeader(**{**values, "prediction": _prediction(values["prediction"])})


def _prediction(found: dict[str, Any]) -> Prediction:
    listed = {"undecodable_at", "patch_failed_at"}
    names = {one.name for one in fields(Prediction)}
    are_sound = all(isinstance(value, list) if name in listed else type(value) is int for name, value in found.items())
    if found.keys() != names or not are_sound:
        raise PlanInvalidError("its header has no sound prediction", remedy=_REMAKE)
    read: dict[str, Any] = {name: tuple(value) if name in listed else value for name, value in found.items()}
    return Prediction(**read)
