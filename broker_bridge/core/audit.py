"""Closing the books of a route: every record of the source topic is put under exactly one heading.

A record is looked at twice. The *first look* compares it with the claim of its key and with what its group has
committed; where that alone does not prove what became of it, the record is *in doubt* and says which evidence would.
The *second look* decides with that evidence: dead letters, copies in the lanes, the other record of the same key.

Why a running system can be audited: the group's committed offsets are read before the claims, the ends of the
dead-letter topic and of the lanes after them. A worker acknowledges the copy first, then settles the claim, then
commits::

    worker   copy acked ──► claim settled ──► offset committed
    audit         committed offsets ──► claims ──► ends of lanes and dead letters

so whatever a claim speaks of is inside what is read for it.
"""

from __future__ import annotations

import enum
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from broker_bridge.core.claim import ClaimState, ClaimView, pack_origin, unpack_place
from broker_bridge.message import Position


class Outcome(enum.StrEnum):
    """The headings of the books."""

    COMPLETED = "completed"
    DEAD = "dead"
    """A dead letter holds it, and was seen there."""
    DUPLICATE = "duplicate"
    """Another record has its idempotency key, and speaks for both."""
    PENDING = "pending"
    """The group has not come to it yet."""
    IN_RETRY = "in_retry"
    IN_PROGRESS = "in_progress"
    UNACCOUNTED = "unaccounted"


class Doubt(enum.Enum):
    """Why the first look does not settle it."""

    LETTER = "the claim says a dead letter holds it"
    CARRIER = "the claim says it comes again"
    NO_CLAIM = "no claim is stored, but the group has passed it"
    OTHER_ORIGIN = "the claim belongs to another record of its key"


class InDoubt(NamedTuple):
    """A record that needs evidence. ``place`` is the dead letter's (partition, offset); ``original`` the record that
    holds the claim, None where the claim is of another topic."""

    position: Position
    doubt: Doubt
    state: ClaimState | None = None
    place: tuple[int, int] | None = None
    original: Position | None = None


class Letter(NamedTuple):
    """A dead letter as evidence: its place in the dead-letter topic and its error code."""

    place: tuple[int, int]
    code: str


class Ruling(NamedTuple):
    """What became of a record. ``why`` and ``remedy`` are set for the unaccounted, ``code`` for the dead."""

    outcome: Outcome
    why: str = ""
    remedy: str = ""
    code: str = ""


@dataclass(slots=True)
class Evidence:
    """What was found for the records in doubt, by their position in the source topic.

    ``originals`` are the records, among those named as ``InDoubt.original``, that exist and have the same key.
    """

    letters: Mapping[Position, Collection[Letter]]
    copies: Collection[Position]
    originals: Collection[Position]


def unpack_origin(origin: bytes, topic: str) -> Position | None:
    """The position packed in a claim, where it is one of ``topic``."""
    if len(origin) != 16 or int.from_bytes(origin[:4], "big") != zlib.crc32(topic.encode()):
        return None
    return Position(topic, int.from_bytes(origin[4:8], "big"), int.from_bytes(origin[8:], "big"))


def first_look(position: Position, claim: ClaimView | None, *, committed: int) -> Outcome | InDoubt:
    """What the claim alone proves. ``committed`` is the group's next offset in the record's partition."""
    passed = position.offset < committed
    if claim is None:
        return InDoubt(position, Doubt.NO_CLAIM) if passed else Outcome.PENDING
    if claim.origin != pack_origin(*position):
        if not passed:
            return Outcome.PENDING
        original = unpack_origin(claim.origin, position.topic)
        return InDoubt(position, Doubt.OTHER_ORIGIN, claim.state, original=original)
    if claim.state is ClaimState.COMPLETED:
        return Outcome.COMPLETED
    if claim.state is ClaimState.DEAD:
        return InDoubt(position, Doubt.LETTER, claim.state, place=unpack_place(claim.detail))
    if passed:
        return InDoubt(position, Doubt.CARRIER, claim.state)
    return Outcome.IN_RETRY if claim.state is ClaimState.RETRY else Outcome.IN_PROGRESS


def second_look(case: InDoubt, evidence: Evidence, *, group: str, dead_letter_topic: str) -> Ruling:
    """Decide a record in doubt."""
    letters = evidence.letters.get(case.position, ())
    if case.doubt is Doubt.LETTER:
        return _by_letter(case, letters, dead_letter_topic)
    if case.position in evidence.copies:
        return Ruling(Outcome.IN_PROGRESS if case.state is ClaimState.IN_PROGRESS else Outcome.IN_RETRY)
    if letters:
        # Before the claim's own word: Redis may have lost what it acknowledged (W3), the letter is still there.
        return Ruling(Outcome.DEAD, code=next(iter(letters)).code)
    if case.doubt is Doubt.CARRIER:
        return Ruling(
            Outcome.UNACCOUNTED,
            f"its claim is {_name(case.state)}, but no lane of the group holds a copy that could still come",
            f"look at the retention of the lanes; the record itself is at {case.position} in the source topic",
        )
    if case.doubt is Doubt.NO_CLAIM:
        return Ruling(
            Outcome.UNACCOUNTED, "the group has passed it, yet nothing says what became of it", _again(case, group)
        )
    if case.original is not None and case.original in evidence.originals:
        return Ruling(Outcome.DUPLICATE)
    where = str(case.original) if case.original else "another topic"
    return Ruling(
        Outcome.UNACCOUNTED,
        f"its claim belongs to {where}, where no record with this key is",
        "two routes of one group must not share a topic name; was the source topic made anew under old claims?",
    )


def _by_letter(case: InDoubt, letters: Collection[Letter], dead_letter_topic: str) -> Ruling:
    assert case.place is not None
    for letter in letters:
        if letter.place == case.place:
            return Ruling(Outcome.DEAD, code=letter.code)
    where = f"{dead_letter_topic}/{case.place[0]}/{case.place[1]}"
    others = ", ".join(f"{dead_letter_topic}/{letter.place[0]}/{letter.place[1]}" for letter in letters)
    return Ruling(
        Outcome.UNACCOUNTED,
        f"its claim names the dead letter {where}, which is not there"
        + (f"; another copy is {others}" if others else ""),
        f"broker-bridge dlq show {others.partition(',')[0]}"
        if others
        else f"look at the retention of {dead_letter_topic}; the record itself is at {case.position}",
    )


def _again(case: InDoubt, group: str) -> str:
    topic, partition, offset = case.position
    return (
        "with the workers stopped: kafka-consumer-groups.sh --reset-offsets --execute "
        f"--group {group} --topic {topic}:{partition} --to-offset {offset} (claims skip what has completed)"
    )


def _name(state: ClaimState | None) -> str:
    return "missing" if state is None else state.name


class Unaccounted(NamedTuple):
    """A record that the books cannot explain, for a person to look at."""

    position: Position
    key_hash: str
    why: str
    remedy: str


@dataclass(slots=True)
class Books:
    """Counts by partition and heading. Of the unaccounted at most ``keep`` are listed, all are counted."""

    keep: int = 1_000
    by_partition: dict[int, Counter[Outcome]] = field(default_factory=dict)
    unaccounted: list[Unaccounted] = field(default_factory=list)
    produced: Counter[int] = field(default_factory=Counter)

    def count_produced(self, partition: int) -> None:
        """One more record was read from the source topic."""
        self.produced[partition] += 1

    def enter(self, position: Position, ruling: Ruling, *, key_hash: str) -> None:
        """Put one record under its heading."""
        self.by_partition.setdefault(position.partition, Counter())[ruling.outcome] += 1
        if ruling.outcome is Outcome.UNACCOUNTED and len(self.unaccounted) < self.keep:
            self.unaccounted.append(Unaccounted(position, key_hash, ruling.why, ruling.remedy))

    def total(self, outcome: Outcome) -> int:
        """How many records are under a heading."""
        return sum(counts[outcome] for counts in self.by_partition.values())

    def count(self, partition: int, outcome: Outcome) -> int:
        """How many records of one partition are under a heading."""
        counts = self.by_partition.get(partition)
        return counts[outcome] if counts else 0

    @property
    def adds_up(self) -> bool:
        """Produced = the sum of all headings, in every partition (I23): true unless the audit itself is broken."""
        entered = {partition: counts.total() for partition, counts in self.by_partition.items() if counts.total()}
        return entered == {partition: count for partition, count in self.produced.items() if count}

    @property
    def drained(self) -> bool:
        """Nothing is left to be done."""
        return not any(self.total(open_) for open_ in (Outcome.PENDING, Outcome.IN_RETRY, Outcome.IN_PROGRESS))

    def balanced(self, *, expect_drained: bool) -> bool:
        """Whether the books close."""
        settled = self.drained or not expect_drained
        return self.adds_up and not self.total(Outcome.UNACCOUNTED) and settled


@dataclass(slots=True)
class OutputTally:
    """Whether completed records have their results. Ids are those of the output events (``ce_id``)."""

    expected: dict[str, Position] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def expect(self, event_id: str | None, position: Position) -> None:
        """A record completed: its result has an id made of the source event's id, or of its place."""
        self.expected[f"{event_id or position}.out"] = position

    def see(self, output_id: str | None) -> None:
        """A result was read."""
        self.seen[output_id or ""] += 1

    def missing(self) -> list[Position]:
        """Completed records without any result."""
        return sorted(position for output_id, position in self.expected.items() if not self.seen[output_id])

    @property
    def repeated(self) -> int:
        """Results beyond the first of each id: at-least-once publishing, told apart by their equal ids."""
        return sum(count - 1 for output_id, count in self.seen.items() if output_id in self.expected)

    @property
    def unexpected(self) -> int:
        """Results that no completed record of the audited range explains."""
        return sum(count for output_id, count in self.seen.items() if output_id not in self.expected)
