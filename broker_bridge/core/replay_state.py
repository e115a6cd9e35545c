"""Where one item of a replay plan stands: before it is sent, and after. And whether a skipped letter still is."""

from __future__ import annotations

import enum
from typing import Final

from broker_bridge.core.claim import DISCARDED_DETAIL, NO_REPLAY, STALE_DETAIL, ClaimState, ClaimView, pack_place
from broker_bridge.core.identity import claim_key
from broker_bridge.core.replay_plan import TOPIC, PlanHeader, PlanItem, SkippedLetter


def forced_key(item: PlanItem, plan_id: str) -> str:
    """The idempotency key under which a completed message is executed again: it has a claim of its own, so it runs once
    for each plan, and a target that knows keys sees a new one."""
    return f"{item.forces}#force:{plan_id}"


def claim_of(item: PlanItem, plan_id: str, *, namespace: str) -> bytes:
    """The key of the claim that tells what became of an item. ``namespace`` is the plan's source topic."""
    return claim_key(forced_key(item, plan_id), namespace=namespace) if item.forces else bytes.fromhex(item.claim)


class Heading(enum.StrEnum):
    """What a run does with an item."""

    TO_SEND = "to_send"
    SENT_BEFORE = "sent_before"
    """By an earlier run of the same plan."""
    ALREADY_COMPLETED = "already_completed"
    STALE = "stale"
    """Another replay of it was turned away: a newer version was completed."""
    DISCARDED = "discarded"
    """By an operator, since the plan was made."""
    SUPERSEDED = "superseded"
    """A later dead letter of the message took its place."""
    IN_HAND = "in_hand"
    """Another replay of it is on its way."""
    CLAIM_EXPIRED = "claim_expired"
    """Nothing would stop a second effect (I19)."""


_ENDINGS: Final = {STALE_DETAIL: Heading.STALE, DISCARDED_DETAIL: Heading.DISCARDED}


def before_sending(
    item: PlanItem, claim: ClaimView | None, *, header: PlanHeader, replay: bytes, was_sent: bool
) -> Heading:
    """What to do with an item now. ``claim`` is that of ``claim_of``, ``replay`` the tag of the plan's id, ``was_sent``
    whether the redrive lane has it."""
    if was_sent or (claim is not None and claim.replay == replay):
        return Heading.SENT_BEFORE
    if item.forces:
        return Heading.TO_SEND if claim is None else Heading.SENT_BEFORE
    if claim is None:
        # those of another system were planned because the group never took them (``replay.plan_checks.check_age``)
        return Heading.TO_SEND if header.allow_expired or header.is_foreign else Heading.CLAIM_EXPIRED
    if claim.state is ClaimState.COMPLETED:
        return _ENDINGS.get(claim.detail, Heading.ALREADY_COMPLETED)
    if claim.state is not ClaimState.DEAD:
        return Heading.IN_HAND
    return Heading.TO_SEND if _is_current(claim, item, header) else Heading.SUPERSEDED


class ItemStatus(enum.StrEnum):
    """What became of an item."""

    COMPLETED = "completed"
    STALE = "stale"
    """Turned away by the worker: a newer version of its record key was completed."""
    DISCARDED = "discarded"
    DEAD_AGAIN = "dead_again"
    """This replay died; a new dead letter holds it."""
    SUPERSEDED = "superseded"
    """Somebody else took the message over, another replay as a rule; this plan is done with it."""
    IN_PROGRESS = "in_progress"
    QUEUED = "queued"
    """In the redrive lane, not yet reached by the group."""
    NOT_SENT = "not_sent"
    MISSING = "missing"
    """The group has passed it in the redrive lane, yet nothing says what became of it."""


OPEN = frozenset({ItemStatus.IN_PROGRESS, ItemStatus.QUEUED, ItemStatus.NOT_SENT})
"""Not settled: asking again later may give another answer."""
BAD = frozenset({ItemStatus.DEAD_AGAIN, ItemStatus.MISSING})

_ENDED: Final = {STALE_DETAIL: ItemStatus.STALE, DISCARDED_DETAIL: ItemStatus.DISCARDED}


def after_sending(
    item: PlanItem,
    claim: ClaimView | None,
    *,
    header: PlanHeader,
    replay: bytes,
    lane_offset: int | None,
    committed: int,
) -> ItemStatus:
    """What became of an item. ``claim`` is that of ``claim_of``. ``lane_offset`` is its last copy's place in the
    redrive lane, None where it was never sent; ``committed`` the group's next offset there, read *before* the claims.
    """
    if claim is not None and claim.state is ClaimState.COMPLETED:
        ended = _ENDED.get(claim.detail, ItemStatus.COMPLETED)
        return ended if claim.replay == replay or ended is ItemStatus.DISCARDED else ItemStatus.SUPERSEDED
    if claim is not None and claim.state is not ClaimState.DEAD:
        return ItemStatus.IN_PROGRESS
    if claim is not None and claim.replay == replay:
        return ItemStatus.DEAD_AGAIN
    is_current = claim is None or _is_current(claim, item, header)
    if lane_offset is None:
        return ItemStatus.NOT_SENT if is_current else ItemStatus.SUPERSEDED
    if lane_offset >= committed:
        return ItemStatus.QUEUED
    return ItemStatus.MISSING if is_current else ItemStatus.SUPERSEDED


def _is_current(claim: ClaimView, item: PlanItem, header: PlanHeader) -> bool:
    """Whether a dead message is dead in the way that the item means. A letter of the group is named by its claim, also
    one that was exported; of another system's letter it knows nothing, so that the group took the message since. A
    record of the source topic is its message as long as no replay of it died."""
    if header.source["kind"] == TOPIC:
        return claim.replay == NO_REPLAY
    return not header.is_foreign and claim.detail[:12] == pack_place(item.partition, item.offset)


class SkippedStatus(enum.StrEnum):
    """What became of a letter that the plan left where it was."""

    AS_PLANNED = "as_planned"
    CHANGED = "changed"
    """Not by this replay: somebody else replayed or discarded it since, or its claim ran out."""
    TOUCHED = "touched"
    """This replay did something to it, which it must not."""


_MUST_BE_DEAD: Final = frozenset({"over_hop_limit", "undecodable", "patch_failed", "held_back"})
_MUST_BE_COMPLETED: Final = {"already_completed": None, "stale": STALE_DETAIL, "discarded": DISCARDED_DETAIL}
_SHARED: Final = frozenset({"superseded", "key_conflicts"})
"""The claim belongs to another letter, which may well be an item of the plan."""


def skipped_status(
    letter: SkippedLetter, claim: ClaimView | None, *, header: PlanHeader, replay: bytes
) -> SkippedStatus:
    """Whether a letter that does not go back is as the plan said; ``claim`` is that of its key."""
    if letter.why in _SHARED:
        return SkippedStatus.AS_PLANNED
    if claim is not None and claim.replay == replay:
        return SkippedStatus.TOUCHED
    if letter.why in _MUST_BE_COMPLETED:
        detail = _MUST_BE_COMPLETED[letter.why]
        is_so = claim is not None and claim.state is ClaimState.COMPLETED and detail in (None, claim.detail)
    elif letter.why in _MUST_BE_DEAD:
        is_so = _may_have_been_chosen(claim, header)
    elif letter.why == "claim_expired":
        is_so = claim is None
    else:  # in hand, or not consumed yet: whatever it came to since is not ours
        is_so = True
    return SkippedStatus.AS_PLANNED if is_so else SkippedStatus.CHANGED


def _may_have_been_chosen(claim: ClaimView | None, header: PlanHeader) -> bool:
    """Whether a letter with this claim would go back by this plan, but for what is wrong with it."""
    if claim is None:
        return header.allow_expired or header.is_foreign
    return claim.state is ClaimState.DEAD or (header.force and claim.state is ClaimState.COMPLETED)
