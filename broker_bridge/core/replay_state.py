"""Where one item of a replay plan stands: before it is sent, and after."""

from __future__ import annotations

import enum

from broker_bridge.core.claim import ClaimState, ClaimView, pack_place
from broker_bridge.core.replay_plan import PlanItem


class Heading(enum.StrEnum):
    """What a run does with an item."""

    TO_SEND = "to_send"
    SENT_BEFORE = "sent_before"
    """By an earlier run of the same plan."""
    ALREADY_COMPLETED = "already_completed"
    SUPERSEDED = "superseded"
    """A later dead letter of the message took its place."""
    IN_HAND = "in_hand"
    """Another replay of it is on its way."""
    CLAIM_EXPIRED = "claim_expired"
    """Nothing would stop a second effect (I19)."""


def before_sending(
    item: PlanItem, claim: ClaimView | None, *, replay: bytes, was_sent: bool, allow_expired: bool
) -> Heading:
    """What to do with an item now. ``replay`` is the tag of the plan's id; ``was_sent``: the redrive lane has it."""
    if was_sent or (claim is not None and claim.replay == replay):
        return Heading.SENT_BEFORE
    if claim is None:
        return Heading.TO_SEND if allow_expired else Heading.CLAIM_EXPIRED
    if claim.state is ClaimState.COMPLETED:
        return Heading.ALREADY_COMPLETED
    if claim.state is not ClaimState.DEAD:
        return Heading.IN_HAND
    return Heading.TO_SEND if _names(claim, item) else Heading.SUPERSEDED


class ItemStatus(enum.StrEnum):
    """What became of an item."""

    COMPLETED = "completed"
    DEAD_AGAIN = "dead_again"
    """This replay died; a new dead letter holds it."""
    SUPERSEDED = "superseded"
    """Another replay took the message over; this plan is done with it."""
    IN_PROGRESS = "in_progress"
    QUEUED = "queued"
    """In the redrive lane, not yet reached by the group."""
    NOT_SENT = "not_sent"
    MISSING = "missing"
    """The group has passed it in the redrive lane, yet nothing says what became of it."""


OPEN = frozenset({ItemStatus.IN_PROGRESS, ItemStatus.QUEUED, ItemStatus.NOT_SENT})
"""Not settled: asking again later may give another answer."""
BAD = frozenset({ItemStatus.DEAD_AGAIN, ItemStatus.MISSING})


def after_sending(
    item: PlanItem, claim: ClaimView | None, *, replay: bytes, lane_offset: int | None, committed: int
) -> ItemStatus:
    """What became of an item. ``lane_offset`` is its last copy's place in the redrive lane, None where it was never
    sent; ``committed`` is the group's next offset there, read *before* the claims."""
    if claim is not None and claim.state is ClaimState.COMPLETED:
        return ItemStatus.COMPLETED
    if claim is not None and claim.state is not ClaimState.DEAD:
        return ItemStatus.IN_PROGRESS
    if claim is not None and claim.replay == replay:
        return ItemStatus.DEAD_AGAIN
    is_current = claim is None or _names(claim, item)
    if lane_offset is None:
        return ItemStatus.NOT_SENT if is_current else ItemStatus.SUPERSEDED
    if lane_offset >= committed:
        return ItemStatus.QUEUED
    return ItemStatus.MISSING if is_current else ItemStatus.SUPERSEDED


def _names(claim: ClaimView, item: PlanItem) -> bool:
    return claim.detail[:12] == pack_place(item.partition, item.offset)
