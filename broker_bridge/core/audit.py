"""Closing the books of a route: every record of the source topic is put under exactly one heading.

A record is looked at twice. The *first look* compares it with the claim of its key and with what its group has
committed; where that alone does not prove what became of it, the record is *in doubt* and says which evidence would.
The *second look* decides with that evidence: dead letters, copies in the lanes, the other record of the same key.

Why a running system can be audited: the group's committed offsets are read before the claims, the ends of the
dead-letter topic and of the lanes after them. A worker acknowledges the copy first, then settles the claim, then
commits::

    worker   copy acked ──► claim settled ──► offset committed
    audit         committed offsets ──► claims ──► ends of lanes and dead letters ──► the target's own list

so whatever a claim speaks of is inside what is read for it. That holds for every heading:

* *discarded* and *stale* are words of the claim itself, written in one step with its end: one look, nothing to race.
* *parked*, *in_retry*: the copy was acknowledged before the claim spoke of it. What the group had committed in the
  lanes is read with the first offsets, so a copy that is taken up meanwhile still counts as the one that was to come.
* *dead* and *expired* are one dead letter with one code or another, acknowledged before the claim names it.
* *forgotten* needs that no claim was found, no letter, no copy, and an age that only grows: what is looked up later can
  take a record out of it, never bring one in that has just been settled.
* A target that answers when it has written its list down has every completed record in it when that is read, last.
"""

from __future__ import annotations

import enum
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, ClaimState, ClaimView, pack_origin, unpack_place
from broker_bridge.errors import DeadlinePassedError
from broker_bridge.message import Position

T = TypeVar("T")
LISTED = 1_000
"""How many of a kind are kept to be shown; all are counted."""
LONGEST_MARGIN_MS = 3_600_000


class Outcome(enum.StrEnum):
    """The headings of the books."""

    COMPLETED = "completed"
    DUPLICATE = "duplicate"
    """Another record has its idempotency key, and speaks for both."""
    DEAD = "dead"
    """A dead letter holds it, and was seen there."""
    EXPIRED = "expired"
    """A dead letter holds it: its own deadline was over before it could be handed over."""
    DISCARDED = "discarded"
    """An operator discarded its dead letter, for a reason that ``broker-bridge history`` tells."""
    STALE = "stale"
    """Its replay was turned away: a newer version of its record key had completed."""
    PENDING = "pending"
    """The group has not come to it yet."""
    PARKED = "parked"
    """A copy waits in a retry lane behind an earlier message of its key; it was never tried."""
    IN_RETRY = "in_retry"
    IN_PROGRESS = "in_progress"
    FORGOTTEN = "forgotten"
    """The group passed it so long ago that its claim may have run out: nothing can prove what became of it."""
    UNACCOUNTED = "unaccounted"


OPEN = frozenset({Outcome.PENDING, Outcome.PARKED, Outcome.IN_RETRY, Outcome.IN_PROGRESS})
"""Something is left to be done."""

_ENDINGS = {STALE_DETAIL: Outcome.STALE, DISCARDED_DETAIL: Outcome.DISCARDED}


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


class Waiting(enum.IntEnum):
    """What the lanes hold of a record that the group has not come to. The larger one counts."""

    NOTHING = 0
    PARKED = 1
    """A copy of a message that was never tried."""
    TRIED = 2


class Evidence(NamedTuple):
    """What was found for one record in doubt: its dead letters from the oldest on, its copy in the lanes, whether the
    record named as ``InDoubt.original`` exists and has the same key."""

    letters: Sequence[Letter] = ()
    waiting: Waiting = Waiting.NOTHING
    has_original: bool = False


class Ruling(NamedTuple):
    """What became of a record. ``why`` and ``remedy`` are set for the unaccounted, and ``command``, the arguments of
    the ``broker-bridge`` command that mends it, where one does; ``code`` for the dead."""

    outcome: Outcome
    why: str = ""
    remedy: str = ""
    code: str = ""
    command: tuple[str, ...] = ()


def unpack_origin(origin: bytes, topic: str) -> Position | None:
    """The position packed in a claim, where it is one of ``topic``."""
    if len(origin) != 16 or int.from_bytes(origin[:4], "big") != zlib.crc32(topic.encode()):
        return None
    return Position(topic, int.from_bytes(origin[4:8], "big"), int.from_bytes(origin[8:], "big"))


def forgotten_after_ms(claim_ttl_ms: int) -> int:
    """The age of a record, by its timestamp, from which its claim may have run out. Claims count from when they are
    settled, which is later; the margin is for clocks of producers that are ahead. It errs to the side on which nobody
    is told to execute again what may have completed."""
    return claim_ttl_ms - min(LONGEST_MARGIN_MS, claim_ttl_ms // 10)


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
        return _ENDINGS.get(claim.detail, Outcome.COMPLETED)
    if claim.state is ClaimState.DEAD:
        return InDoubt(position, Doubt.LETTER, claim.state, place=unpack_place(claim.detail))
    if passed:
        return InDoubt(position, Doubt.CARRIER, claim.state)
    return Outcome.IN_RETRY if claim.state is ClaimState.RETRY else Outcome.IN_PROGRESS


def second_look(case: InDoubt, found: Evidence, *, dead_letter_topic: str, may_be_forgotten: bool) -> Ruling:
    """Decide a record in doubt. ``may_be_forgotten``: it is older than ``forgotten_after_ms``."""
    if case.doubt is Doubt.LETTER:
        return _by_letter(case, found.letters, dead_letter_topic)
    if found.waiting:
        if case.state is ClaimState.IN_PROGRESS:
            return Ruling(Outcome.IN_PROGRESS)
        return Ruling(Outcome.PARKED if found.waiting is Waiting.PARKED else Outcome.IN_RETRY)
    if found.letters:
        # Before the claim's own word: Redis may have lost what it acknowledged (W3), the letter is still there.
        return _dead(found.letters[-1])
    if case.doubt is Doubt.CARRIER:
        return _unaccounted(
            case,
            f"its claim is {case.state.name if case.state else 'missing'}, but no lane of the group holds a copy that "
            "could still come",
            "look at the retention of the lanes. Until that claim runs out ([route.claims] ttl) the record counts as "
            "being worked on, and no replay takes it; then this audit names the command that does",
            mends=None,
        )
    if case.doubt is Doubt.NO_CLAIM:
        if may_be_forgotten:
            return Ruling(Outcome.FORGOTTEN)
        return _unaccounted(
            case,
            "the group has passed it, yet nothing says what became of it",
            "its target may know whether it was applied; to send the record again from the source topic",
            mends=("--allow-expired",),
        )
    if found.has_original:
        return Ruling(Outcome.DUPLICATE)
    where = str(case.original) if case.original else "another topic"
    return _unaccounted(
        case,
        f"its claim belongs to {where}, where no record with this key is",
        "two routes of one group must not share a topic name; was the source topic made anew under old claims? No "
        "replay takes it while that claim holds its key: produce the event again under an idempotency key of its own",
        mends=None,
    )


def _by_letter(case: InDoubt, letters: Sequence[Letter], dead_letter_topic: str) -> Ruling:
    assert case.place is not None
    for letter in letters:
        if letter.place == case.place:
            return _dead(letter)
    where = f"{dead_letter_topic}/{case.place[0]}/{case.place[1]}"
    others = ", ".join(f"{dead_letter_topic}/{letter.place[0]}/{letter.place[1]}" for letter in letters)
    return _unaccounted(
        case,
        f"its claim names the dead letter {where}, which is not there"
        + (f"; another copy is {others}" if others else ""),
        f"look at the retention of {dead_letter_topic}; to send the record again from the source topic",
        mends=(),
    )


def _dead(letter: Letter) -> Ruling:
    return Ruling(Outcome.EXPIRED if letter.code == DeadlinePassedError.code else Outcome.DEAD, code=letter.code)


def _unaccounted(case: InDoubt, why: str, remedy: str, *, mends: tuple[str, ...] | None) -> Ruling:
    """``mends``: what a replay of the record needs beside its place; None where a replay would leave it alone."""
    if mends is None:
        return Ruling(Outcome.UNACCOUNTED, why, remedy)
    _, partition, offset = case.position
    scope = ("--partition", str(partition), "--from-offset", str(offset), "--to-offset", str(offset + 1))
    command = ("replay", "plan", "--source", "topic", *scope, *mends, "--why", "unaccounted by the audit")
    return Ruling(Outcome.UNACCOUNTED, why, remedy, command=command)


class Unaccounted(NamedTuple):
    """A record that the books cannot explain, for a person to look at. ``command`` as in ``Ruling``."""

    position: Position
    key_hash: str
    why: str
    remedy: str
    command: tuple[str, ...] = ()


class Listing(Generic[T]):
    """Things of which all are counted and the first ``LISTED`` kept: what there may be a million of."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[T] = []

    def add(self, one: T) -> None:
        """One more."""
        self.count += 1
        if len(self.kept) < LISTED:
            self.kept.append(one)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[T]:
        return iter(self.kept)


@dataclass(slots=True)
class Books:
    """Counts by partition and heading. Of the unaccounted at most ``LISTED`` are listed, all are counted."""

    by_partition: dict[int, Counter[Outcome]] = field(default_factory=dict)
    unaccounted: list[Unaccounted] = field(default_factory=list)
    produced: Counter[int] = field(default_factory=Counter)

    def count_produced(self, partition: int) -> None:
        """One more record was read from the source topic."""
        self.produced[partition] += 1

    def enter(self, position: Position, ruling: Ruling, *, key_hash: str) -> None:
        """Put one record under its heading."""
        self.by_partition.setdefault(position.partition, Counter())[ruling.outcome] += 1
        if ruling.outcome is Outcome.UNACCOUNTED and len(self.unaccounted) < LISTED:
            self.unaccounted.append(Unaccounted(position, key_hash, ruling.why, ruling.remedy, ruling.command))

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
        return not any(self.total(outcome) for outcome in OPEN)

    def balanced(self, *, expect_drained: bool = False, allow_forgotten: bool = False) -> bool:
        """Whether the books close."""
        settled = self.drained or not expect_drained
        proven = allow_forgotten or not self.total(Outcome.FORGOTTEN)
        return self.adds_up and not self.total(Outcome.UNACCOUNTED) and settled and proven


@dataclass(slots=True)
class OutputTally:
    """Whether completed records have their results. Ids are those of the output events (``ce_id``).

    ``expected`` and ``seen`` count ids of completed records and results read, ``repeated`` results beyond the first of
    each id (at-least-once publishing, told apart by their equal ids), ``unexpected`` results that no completed record
    of the audited range explains; ``missing`` are completed records without any result.
    """

    expected: int = 0
    seen: int = 0
    repeated: int = 0
    unexpected: int = 0
    missing: Listing[Position] = field(default_factory=Listing)

    def judge(self, position: Position | None, results: int) -> None:
        """One id: the completed record that has it, if any, and how many results do."""
        self.seen += results
        if position is None:
            self.unexpected += results
            return
        self.expected += 1
        if results:
            self.repeated += results - 1
        else:
            self.missing.add(position)


def output_id(event_id: str | None, position: Position) -> str:
    """The id of a record's result: made of the source event's id, or of its place."""
    return f"{event_id or position}.out"
