"""What became of every item of a plan, and of every letter it left alone, one at a time: by the claims and the lane."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from broker_bridge.core.claim import ClaimView
from broker_bridge.core.identity import replay_tag
from broker_bridge.core.replay_plan import PlanItem, SkippedLetter
from broker_bridge.core.replay_state import ItemStatus, SkippedStatus, after_sending, claim_of, skipped_status
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import TopicPartition
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import LaneContent
from broker_bridge.transport.base import LogReader

T = TypeVar("T")
_BATCH: Final = 1_000

Committed = dict[TopicPartition, int | None]


class ItemOutcome(NamedTuple):
    """An item, its number, and where it stands."""

    number: int
    item: PlanItem
    status: ItemStatus


class SkippedOutcome(NamedTuple):
    """A skipped letter, and whether it is as the plan said."""

    letter: SkippedLetter
    status: SkippedStatus


async def item_outcomes(
    plan: Plan, lane: LaneContent, committed: Committed, store: IdempotencyStore
) -> AsyncGenerator[list[ItemOutcome], None]:
    """Every item in the plan's order.

    The lane is read first, then the group's offsets in it, then the claims: a worker settles the claim before it
    commits, so an item that the group has passed has its settled claim by the time the claims are read.
    """
    header, plan_id, tag = plan.header, plan.id, replay_tag(plan.id)
    partition_of = {tp.partition: offset or 0 for tp, offset in committed.items()}
    found = _claims_of(
        enumerate(plan.items()),
        lambda numbered: claim_of(numbered[1], plan_id, namespace=header.topic),
        store,
        header.group,
    )
    async for batch in found:
        yield [
            ItemOutcome(
                number,
                item,
                after_sending(
                    item,
                    claim,
                    header=header,
                    replay=tag,
                    lane_offset=lane.lane_offset(number),
                    committed=partition_of.get(item.origin_partition, 0),
                ),
            )
            for (number, item), claim in batch
        ]


async def skipped_outcomes(plan: Plan, store: IdempotencyStore) -> AsyncGenerator[list[SkippedOutcome], None]:
    """Every letter that the plan left where it was."""
    tag = replay_tag(plan.id)
    found = _claims_of(plan.skipped(), lambda letter: bytes.fromhex(letter.claim), store, plan.header.group)
    async for batch in found:
        yield [
            SkippedOutcome(letter, skipped_status(letter, claim, header=plan.header, replay=tag))
            for letter, claim in batch
        ]


async def committed_in_lane(plan: Plan, reader: LogReader) -> Committed:
    """The group's next offsets in the lane."""
    return await reader.group_offsets(plan.header.group, [plan.header.destination])


def _claims_of(
    things: Iterable[T], key_of: Callable[[T], bytes], store: IdempotencyStore, group: str
) -> AsyncGenerator[list[tuple[T, ClaimView | None]], None]:
    return with_claims(_batches(iter(things)), key_of=key_of, store=store, group=group)


async def _batches(things: Iterator[T]) -> AsyncGenerator[list[T], None]:
    while batch := list(islice(things, _BATCH)):
        yield batch
