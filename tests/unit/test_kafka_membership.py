"""The rebalance listener's order, without a broker: what is ours when, and what a commit in flight holds up."""

from __future__ import annotations

import asyncio

import pytest

from broker_bridge.errors import LeaseLostError
from broker_bridge.message import TopicPartition
from broker_bridge.testing.virtual_time import run_virtual
from broker_bridge.transport.base import PartitionsHook
from broker_bridge.transport.kafka_membership import Membership

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


class Group:
    """What the coordinator knows."""

    def __init__(self, *, on_assigned: PartitionsHook | None = None, on_revoked: PartitionsHook | None = None) -> None:
        self.generation = 1
        self.placed: list[frozenset[TopicPartition]] = []
        self.membership = Membership(
            place=self.place,
            group_generation=lambda: self.generation,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
            commit_wait_ms=4_000,
        )

    async def place(self, partitions: frozenset[TopicPartition]) -> None:
        self.placed.append(partitions)


async def test_a_commit_is_refused_between_two_generations() -> None:
    allowed_while_revoking = []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        group.membership.refuse_foreign([ONE])
        allowed_while_revoking.append(partitions)

    group = Group(on_revoked=on_revoked)
    await group.membership.on_partitions_assigned([ONE])
    group.membership.refuse_foreign([ONE])
    await group.membership.on_partitions_revoked([ONE])
    assert allowed_while_revoking == [{ONE}]
    group.generation = 2  # JoinGroup was answered, SyncGroup not yet: a commit would carry the new generation
    with pytest.raises(LeaseLostError):
        group.membership.refuse_foreign([ONE])
    await group.membership.on_partitions_assigned([TWO])
    group.membership.refuse_foreign([TWO])
    with pytest.raises(LeaseLostError, match="t/0"):
        group.membership.refuse_foreign([ONE, TWO])


async def test_a_commit_is_refused_once_the_coordinator_has_forgotten_us() -> None:
    """aiokafka would send it as of no generation, which a group without members takes from anybody."""
    group = Group()
    await group.membership.on_partitions_assigned([ONE])
    group.generation = -1
    with pytest.raises(LeaseLostError):
        group.membership.refuse_foreign([ONE])


def test_the_rebalance_waits_for_commits_in_flight() -> None:
    async def scenario() -> None:
        group = Group()
        await group.membership.on_partitions_assigned([ONE])
        with group.membership.committing():
            revoking = asyncio.ensure_future(group.membership.on_partitions_revoked([ONE]))
            await asyncio.sleep(1)
            assert not revoking.done()
        await asyncio.sleep(0.001)
        assert revoking.done()

    run_virtual(scenario())


def test_but_not_for_ever() -> None:
    async def scenario() -> None:
        group = Group()
        await group.membership.on_partitions_assigned([ONE])
        with group.membership.committing():
            began = asyncio.get_running_loop().time()
            await group.membership.on_partitions_revoked([ONE])
            assert asyncio.get_running_loop().time() - began == pytest.approx(4)

    run_virtual(scenario())


def test_stop_during_the_assignment_hook_runs_the_hooks_one_after_the_other() -> None:
    async def scenario() -> None:
        events: list[str] = []

        async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
            await asyncio.sleep(1)
            events.append("assigned")

        async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
            events.append("revoked")

        group = Group(on_assigned=on_assigned, on_revoked=on_revoked)
        assigning = asyncio.ensure_future(group.membership.on_partitions_assigned([ONE]))
        await asyncio.sleep(0.5)
        await asyncio.gather(group.membership.revoke(), group.membership.revoke())
        await assigning
        assert events == ["assigned", "revoked"]
        assert not group.membership.settled.is_set()
        assert group.membership.held == frozenset()

    run_virtual(scenario())


def test_stop_while_positions_are_looked_up_tells_nobody() -> None:
    async def scenario() -> None:
        events: list[str] = []

        async def hook(partitions: frozenset[TopicPartition]) -> None:
            events.append("called")

        group = Group(on_assigned=hook, on_revoked=hook)
        gate = asyncio.Event()

        async def place(partitions: frozenset[TopicPartition]) -> None:
            await gate.wait()

        group.membership._place = place
        assigning = asyncio.ensure_future(group.membership.on_partitions_assigned([ONE]))
        await asyncio.sleep(0)
        revoking = asyncio.ensure_future(group.membership.revoke())
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(assigning, revoking)
        assert events == [], "what was never assigned is not revoked"

    run_virtual(scenario())


async def test_what_a_hook_raised_is_raised_once() -> None:
    async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
        raise ValueError("broken")

    group = Group(on_assigned=on_assigned)
    await group.membership.on_partitions_assigned([ONE])
    assert group.membership.settled.is_set()
    with pytest.raises(ValueError, match="broken"):
        group.membership.raise_failure()
    group.membership.raise_failure()
    assert group.placed == [{ONE}]
