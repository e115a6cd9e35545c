"""A replay plan: what goes back, decided once, looked at by a person, and never changed after that.

A plan has a header, its items in the order in which they are sent, and a line for each letter that was selected but
does not go back. The plan's id, which is also the replay's id, comes from the hash of all that (``core.plan_lines``):
whoever changes a plan has made another replay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import claim_key, payload_fingerprint
from broker_bridge.core.newest_version import ReplayOrder
from broker_bridge.message import Position

COMPLETED: Final = "completed"
STALE: Final = "stale"
DEAD_AGAIN: Final = "dead_again"
PREDICTED: Final = (COMPLETED, STALE, DEAD_AGAIN)

DEAD_LETTERS: Final = "dead_letters"
TOPIC: Final = "topic"
FILE: Final = "file"
SOURCES: Final = (DEAD_LETTERS, TOPIC, FILE)


@dataclass(slots=True, frozen=True)
class Prediction:
    """What the plan expected when it was made, in counts of letters.

    ``selected`` is the sum of ``to_replay`` and of every reason not to go back (``SKIPPED``). The rest counts among
    ``to_replay``: ``forced`` are completed and executed again; ``fixed_by_upcaster`` decode only thanks to an
    upcaster; ``breaks_order`` have a newer completed message of their record key; ``order_unknown`` were not looked
    at for that; ``predicted_stale`` and ``predicted_dead`` are expected to be turned away as stale, or to die again.

    ``undecodable_at`` lists the first places of those that do not decode against the contract, ``patch_failed_at`` of
    those that could not be edited.
    """

    selected: int = 0
    to_replay: int = 0
    already_completed: int = 0
    stale: int = 0
    discarded: int = 0
    superseded: int = 0
    in_hand: int = 0
    over_hop_limit: int = 0
    key_conflicts: int = 0
    claim_expired: int = 0
    undecodable: int = 0
    patch_failed: int = 0
    held_back: int = 0
    pending: int = 0
    forced: int = 0
    fixed_by_upcaster: int = 0
    breaks_order: int = 0
    order_unknown: int = 0
    predicted_stale: int = 0
    predicted_dead: int = 0
    undecodable_at: tuple[str, ...] = ()
    patch_failed_at: tuple[str, ...] = ()


SKIPPED: Final = {
    "already_completed": "completed since",
    "stale": "turned away before: a newer version was completed",
    "discarded": "discarded by an operator",
    "superseded": "a later dead letter of the message counts",
    "in_hand": "being worked on",
    "over_hop_limit": "replayed too often",
    "key_conflicts": "its key was used for another payload",
    "claim_expired": "its claim is gone: nothing would stop a second effect",
    "undecodable": "does not decode against the contract",
    "patch_failed": "could not be edited",
    "held_back": "a newer message of its record key was completed",
    "pending": "not consumed yet: the group will come to it",
}
"""Why a letter that was selected does not go back: the heading of ``Prediction`` and of a skipped line."""


@dataclass(slots=True, frozen=True)
class PlanHeader:
    """Everything about a plan but its items.

    ``by`` who made it, ``why`` for what reason. ``destination`` is the group's own redrive lane. ``source`` says where
    the letters are: ``{"kind": "dead_letters" | "topic", "topic": …}`` or ``{"kind": "file", "path": …, "sha256": …}``.
    ``selection`` the filters as given. ``order`` is a ``ReplayOrder``. ``allow_expired``: letters without a claim were
    let in by name; ``force``: completed ones are executed again. ``edit`` what is done to every value before it is
    sent, None for nothing. ``source_until`` is the next offset of each partition of the source when it was read;
    ``redrive_from`` that of the redrive lane, where a later run looks for what it has sent already. ``expected_s`` is
    how long the run takes at ``rate_per_s``.
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
    source: Mapping[str, Any]
    selection: Mapping[str, Any]
    source_until: Mapping[str, int]
    redrive_from: Mapping[str, int]
    order: str = ReplayOrder.AS_IS.value
    allow_expired: bool = False
    force: bool = False
    edit: Mapping[str, Any] | None = None
    rate_per_s: float = 0
    expected_s: float = 0
    prediction: Prediction = field(default_factory=Prediction)

    @property
    def is_foreign(self) -> bool:
        """Whether the letters are another system's: dead letters of a topic that is not the group's own."""
        return self.source.get("kind") == DEAD_LETTERS and self.source.get("topic") != self.dead_letter_topic

    @property
    def order_header(self) -> str:
        """What ``bridge-order`` says on the records of this plan. With ``hold`` a newer message may have been completed
        after the plan was made: then the worker has the last word."""
        order = ReplayOrder.AS_IS if self.order == ReplayOrder.AS_IS else ReplayOrder.SKIP_STALE
        return order.value


class PlanItem(NamedTuple):
    """One letter to be sent back. Its number is its place among the items, from 0.

    ``partition`` and ``offset`` are its place in the dead-letter topic, or in the source topic where that is the plan's
    source; ``at`` is where its line begins in a file, in bytes, -1 for a plan of another source. ``claim`` and
    ``payload`` are hex and of the letter as it is; ``key_hash`` stands for the record key. ``predicted`` is one of
    ``PREDICTED``. ``sends`` is the payload fingerprint of what is sent where an edit changes it. ``forces`` is the
    idempotency key, as it was produced, of a completed message that is executed again. ``origin_topic`` is empty for
    the plan's ``topic``.
    """

    partition: int
    offset: int
    origin_partition: int
    origin_offset: int
    claim: str
    payload: str
    code: str
    fingerprint: str
    hops: int
    key_hash: str
    predicted: str = COMPLETED
    sends: str = ""
    forces: str = ""
    origin_topic: str = ""
    at: int = -1

    def origin(self, topic: str) -> Position:
        """Where the message was produced; ``topic`` is that of the plan."""
        return Position(self.origin_topic or topic, self.origin_partition, self.origin_offset)


class SkippedLetter(NamedTuple):
    """One letter that was selected and does not go back; ``why`` is one of ``SKIPPED``, the rest as for an item."""

    partition: int
    offset: int
    origin_partition: int
    origin_offset: int
    claim: str
    why: str
    origin_topic: str = ""

    def origin(self, topic: str) -> Position:
        """As for an item."""
        return Position(self.origin_topic or topic, self.origin_partition, self.origin_offset)


class PlanEnd(NamedTuple):
    """The last line: how many items and skipped letters, the id, and the hash of everything before."""

    items: int
    skipped: int
    plan_id: str
    sha256: str


def key_hash(key: bytes | None) -> str:
    """Eight hex digits that stand for a record key where the key itself may be personal data; empty without a key."""
    return "" if key is None else hashlib.blake2b(key, digest_size=4).hexdigest()


_FORCED_BEFORE: Final = re.compile(r"(#force:rp-[0-9a-f]{16})+\Z")
"""What earlier plans put behind the key of a message that they forced (``replay_state.forced_key``)."""


def plan_item(
    letter: DeadLetter,
    *,
    namespace: str,
    predicted: str = COMPLETED,
    sends: str = "",
    force: bool = False,
    at: int = -1,
) -> PlanItem:
    """The item for a letter; ``namespace`` is the route's source topic."""
    origin = letter.origin
    return PlanItem(
        letter.position.partition,
        letter.position.offset,
        origin.partition,
        origin.offset,
        claim_key(letter.idempotency_key, namespace=namespace).hex(),
        payload_fingerprint(letter.value).hex(),
        letter.failure.code,
        letter.failure.fingerprint,
        letter.hops,
        key_hash(letter.key),
        predicted,
        sends,
        _FORCED_BEFORE.sub("", letter.idempotency_key) if force else "",
        "" if origin.topic == namespace else origin.topic,
        at,
    )


def skipped_letter(letter: DeadLetter, why: str, *, namespace: str) -> SkippedLetter:
    """The line for a letter that does not go back."""
    origin = letter.origin
    return SkippedLetter(
        letter.position.partition,
        letter.position.offset,
        origin.partition,
        origin.offset,
        claim_key(letter.idempotency_key, namespace=namespace).hex(),
        why,
        "" if origin.topic == namespace else origin.topic,
    )


_OF_THE_LETTER = (*PlanItem._fields[:10], "origin_topic")
_EMPTY_PAYLOAD = payload_fingerprint(None).hex()


def is_same(item: PlanItem, letter: DeadLetter, *, namespace: str) -> bool:
    """Whether the letter found in the log is the one that was planned: place, origin, key, value, claim and hops.

    How it failed is not looked at: a record at the same place with all of these is the same.
    """
    origin, value = letter.origin, letter.value
    return (
        origin.offset == item.origin_offset
        and letter.position.offset == item.offset
        and letter.position.partition == item.partition
        and origin.partition == item.origin_partition
        and origin.topic == (item.origin_topic or namespace)
        and letter.hops == item.hops
        and (_EMPTY_PAYLOAD if value is None else payload_fingerprint(value).hex()) == item.payload
        and claim_key(letter.idempotency_key, namespace=namespace).hex() == item.claim
        and key_hash(letter.key) == item.key_hash
    )


def difference(item: PlanItem, letter: DeadLetter, *, namespace: str) -> str:
    """Which fields of the letter found in the log are not what the item says; empty where it is the same letter."""
    if is_same(item, letter, namespace=namespace):
        return ""
    found = plan_item(letter, namespace=namespace)
    return ", ".join(name for name in _OF_THE_LETTER if getattr(found, name) != getattr(item, name))
