"""A replay plan: which dead letters go back, decided once, looked at by a person, and never changed after that.

On disk it is JSON lines: one header, one line an item, and an end line with the count and the SHA-256 of every byte
before it. A file that was cut, edited or glued is refused; a million items need no more memory than one. The plan's
id, which is also the replay's id, comes from the hash: whoever changes a plan has made another replay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import claim_key, payload_fingerprint
from broker_bridge.errors import PlanInvalidError

PLAN_VERSION = 1
_REMAKE = "make the plan again with: broker-bridge replay plan"


@dataclass(slots=True, frozen=True)
class Prediction:
    """What the plan expected when it was made; ``selected`` is the sum of the others that are counts of letters.

    ``undecodable_at`` lists the first places of those that do not decode against the contract.
    """

    selected: int = 0
    to_replay: int = 0
    already_completed: int = 0
    superseded: int = 0
    in_hand: int = 0
    over_hop_limit: int = 0
    key_conflicts: int = 0
    claim_expired: int = 0
    undecodable: int = 0
    undecodable_at: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class PlanHeader:
    """Everything about a plan but its items.

    ``by`` who made it, ``why`` for what reason. ``destination`` is the group's own redrive lane. ``selection`` the
    filters as given. ``allow_expired``: letters without a claim were let in by name. ``dead_letters_until`` is the
    next offset of each dead-letter partition when it was read; ``redrive_from`` that of the redrive lane, where a
    later run looks for what it has sent already.
    """

    created_at: str
    by: str
    why: str
    route: str
    group: str
    topic: str
    dead_letter_topic: str
    destination: str
    max_hops: int
    allow_expired: bool
    selection: Mapping[str, object]
    dead_letters_until: Mapping[str, int]
    redrive_from: Mapping[str, int]
    prediction: Prediction = field(default_factory=Prediction)


class PlanItem(NamedTuple):
    """One dead letter to be sent back. ``claim`` and ``payload`` are hex; ``key_hash`` stands for the record key."""

    partition: int
    offset: int
    origin: str
    claim: str
    payload: str
    fingerprint: str
    code: str
    hops: int
    key_hash: str


class PlanEnd(NamedTuple):
    """The last line: how many items, the id, and the hash of everything before."""

    items: int
    plan_id: str
    sha256: str


def key_hash(key: bytes | None) -> str:
    """Eight hex digits that stand for a record key where the key itself may be personal data; empty without a key."""
    return "" if key is None else hashlib.blake2b(key, digest_size=4).hexdigest()


def plan_item(letter: DeadLetter, *, namespace: str) -> PlanItem:
    """The item for a letter; ``namespace`` is the route's source topic."""
    return PlanItem(
        partition=letter.position.partition,
        offset=letter.position.offset,
        origin=str(letter.origin),
        claim=claim_key(letter.idempotency_key, namespace=namespace).hex(),
        payload=payload_fingerprint(letter.value).hex(),
        fingerprint=letter.failure.fingerprint,
        code=letter.failure.code,
        hops=letter.hops,
        key_hash=key_hash(letter.key),
    )


def difference(item: PlanItem, letter: DeadLetter, *, namespace: str) -> str:
    """Which fields of the letter found in the log are not what the item says; empty where it is the same letter."""
    found = plan_item(letter, namespace=namespace)
    return ", ".join(name for name in PlanItem._fields if getattr(found, name) != getattr(item, name))


def canonical(value: object) -> bytes:
    """One JSON line: sorted names, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def item_line(item: PlanItem) -> bytes:
    """An item as its line of the file."""
    return canonical({"kind": "item", **item._asdict()})


def header_line(header: PlanHeader) -> bytes:
    """The header as its line of the file."""
    return canonical({"kind": "plan", "version": PLAN_VERSION, **asdict(header)})


def end_line(end: PlanEnd) -> bytes:
    """The end as its line of the file."""
    return canonical({"kind": "end", "items": end.items, "id": end.plan_id, "sha256": end.sha256})


def seal(lines: Iterable[bytes]) -> PlanEnd:
    """The end that belongs to a header line and item lines."""
    digest, count = hashlib.sha256(), -1
    for line in lines:
        digest.update(line)
        count += 1
    return _end_of(digest.hexdigest(), count)


def verify(lines: Iterable[bytes]) -> tuple[PlanHeader, PlanEnd]:
    """Read a whole plan and answer its header and end. Raises ``PlanInvalidError`` for anything that is not, byte
    for byte, what was written."""
    digest, items = hashlib.sha256(), 0
    header: PlanHeader | None = None
    found_end: bytes | None = None
    for number, line in enumerate(lines, start=1):
        if found_end is not None:
            raise PlanInvalidError(f"line {number} comes after the end of the plan", remedy=_REMAKE)
        if not line.endswith(b"\n"):
            raise PlanInvalidError(f"line {number} is cut off", remedy="copy the file again, or " + _REMAKE)
        if line.endswith(b"\r\n"):
            raise PlanInvalidError(f"line {number} ends in CR LF: the file was converted", remedy=_REMAKE)
        fields_ = _parse(line, number)
        if header is None:
            header = _header(fields_)
        elif fields_.get("kind") == "item":
            items += 1
            _item(fields_, number)
        elif fields_.get("kind") == "end":
            found_end = line
            continue
        else:
            raise PlanInvalidError(f"line {number} is neither an item nor the end", remedy=_REMAKE)
        digest.update(line)
    if header is None:
        raise PlanInvalidError("the file is empty", remedy=_REMAKE)
    if found_end is None:
        raise PlanInvalidError(f"the file was cut short after {items} items", remedy="copy it again, or " + _REMAKE)
    return header, _checked_end(found_end, _end_of(digest.hexdigest(), items))


def items_of(lines: Iterable[bytes]) -> Iterator[PlanItem]:
    """The items of a plan that was verified, one at a time."""
    for number, line in enumerate(lines, start=1):
        fields_ = _parse(line, number)
        if fields_.get("kind") == "item":
            yield _item(fields_, number)


def _end_of(sha256: str, items: int) -> PlanEnd:
    return PlanEnd(items=items, plan_id=f"rp-{sha256[:16]}", sha256=sha256)


def _checked_end(line: bytes, expected: PlanEnd) -> PlanEnd:
    if line == end_line(expected):
        return expected
    stated = _parse(line, expected.items + 2)
    if stated.get("items") != expected.items:
        why = f"it says {stated.get('items')} items but holds {expected.items}"
    else:
        why = f"it was changed after it was made (its content has the hash {expected.sha256[:12]}…)"
    raise PlanInvalidError(why, remedy=_REMAKE)


def _parse(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PlanInvalidError(f"line {number} is not JSON", remedy=_REMAKE) from error
    if not isinstance(value, dict):
        raise PlanInvalidError(f"line {number} is not a JSON object", remedy=_REMAKE)
    return value


def _header(found: dict[str, Any]) -> PlanHeader:
    if found.get("kind") != "plan":
        raise PlanInvalidError("the file does not begin as a replay plan", remedy="name a file that replay plan wrote")
    if found.get("version") != PLAN_VERSION:
        raise PlanInvalidError(
            f"the plan has version {found.get('version')}, this program reads version {PLAN_VERSION}", remedy=_REMAKE
        )
    values = {name: found[name] for name in found.keys() - {"kind", "version"}}
    try:
        prediction = dict(values.pop("prediction"))
        prediction["undecodable_at"] = tuple(prediction["undecodable_at"])
        return PlanHeader(**values, prediction=Prediction(**prediction))
    except (KeyError, TypeError, ValueError) as error:
        missing = sorted({f.name for f in fields(PlanHeader)} - found.keys())
        what = f"its header lacks {', '.join(missing)}" if missing else "its header has unknown fields"
        raise PlanInvalidError(what, remedy=_REMAKE) from error


def _item(found: dict[str, Any], number: int) -> PlanItem:
    try:
        return PlanItem(**{name: found[name] for name in found.keys() - {"kind"}})
    except (KeyError, TypeError) as error:
        raise PlanInvalidError(f"line {number} is not an item of a plan", remedy=_REMAKE) from error
