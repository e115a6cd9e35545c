"""Plan, run, kill, resume: in memory, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from replay_runs import (
    copies_per_letter,
    dead_records,
    make_plan,
    new_world,
    runner_of,
    status_of,
    virtual,
)
from replay_world import World, a_route

from broker_bridge import headers as h
from broker_bridge.core.letters import Selection
from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.core.replay_plan import Prediction
from broker_bridge.core.replay_state import Heading, ItemStatus
from broker_bridge.errors import DeliveryTimeoutError, PlanRefusedError, ReplayError, UsageError
from broker_bridge.message import Position, TopicPartition
from broker_bridge.replay.plan_file import open_plan
from broker_bridge.replay.run_report import RunReport
from broker_bridge.replay.sending import RunHooks


@pytest.fixture
def world() -> World:
    return new_world()


@virtual
async def test_plan_run_work_status(world: World, tmp_path: Path) -> None:
    await dead_records(world, 10)
    prediction = await make_plan(world, tmp_path / "p")
    assert prediction == Prediction(selected=20, to_replay=20)
    with open_plan(tmp_path / "p") as plan:
        preview = await runner_of(world).preview(plan)
        assert preview.headings == {Heading.TO_SEND: 20}
        assert await world.read_all(world.route.redrive_topic) == [], "a preview writes nothing"
        assert (await status_of(world).read(plan)).counts == {ItemStatus.NOT_SENT: 20}

        report = await runner_of(world).send(plan)
        assert (report.sent, report.was_stopped) == (20, False)
        status = await status_of(world).read(plan)
        assert status.counts == {ItemStatus.QUEUED: 20}
        assert not status.is_settled

        assert await world.work_redrive() == (20, 0, 0)
        status = await status_of(world).read(plan)
        assert status.counts == {ItemStatus.COMPLETED: 20}
        assert status.is_good
        assert (await runner_of(world).preview(plan)).headings[Heading.TO_SEND] == 0


@virtual
async def test_copies_keep_the_record_and_its_partition(world: World, tmp_path: Path) -> None:
    await dead_records(world, 3)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        copies = await world.read_all(world.route.redrive_topic)
        sources = {record.position: record for record in await world.read_all(world.route.topic)}
        for copy in copies:
            origin = h.identify(copy, trusted=True).origin
            source = sources[origin]
            assert (copy.partition, copy.key, copy.value) == (source.partition, source.key, source.value)
            assert h.without_bridge(copy.headers) == list(source.headers)
            assert h.text_of(copy.headers, h.REPLAY_ID) == plan.id
            assert h.text_of(copy.headers, h.HOPS) == "1"


@virtual
async def test_items_go_in_the_order_of_their_origin(world: World, tmp_path: Path) -> None:
    records = await world.produce(6)
    for index in (3, 0, 5, 1, 4, 2):
        await world.die(records[index])
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world, batch=4).send(plan)
    copies = await world.read_all(world.route.redrive_topic)
    assert [h.identify(copy, trusted=True).origin.offset for copy in copies] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("acks_lost", [0, 1, 3])
@virtual
async def test_what_kafka_does_not_acknowledge_is_sent_again_or_found(
    world: World, tmp_path: Path, acks_lost: int
) -> None:
    """I17. Records whose acknowledgement is lost are in the log all the same."""
    await dead_records(world, 10)
    await make_plan(world, tmp_path / "p")
    log, lane = world.transport.log, world.route.redrive_topic
    log.lose_next_acks(acks_lost, topic=lane)
    log.fail_next_sends(3, DeliveryTimeoutError("cut"), topic=lane)
    with open_plan(tmp_path / "p") as plan:
        with pytest.raises(ReplayError, match="did not acknowledge") as caught:
            await runner_of(world, batch=7).send(plan)
        assert "run the same plan again" in caught.value.remedy
        report = await runner_of(world, batch=7).send(plan)
        assert report.sent_before == report.headings[Heading.SENT_BEFORE] > 0
        assert report.sent + report.sent_before == 20
        assert set((await copies_per_letter(world)).values()) == {1}, "the lane told the second run what was sent"
        assert await world.work_redrive() == (20, 0, 0)
        assert (await status_of(world).read(plan)).is_good


@virtual
async def test_dead_again_is_seen_and_replayed_up_to_the_hop_limit(world: World, tmp_path: Path) -> None:
    """Row 49: still poison."""
    await dead_records(world, 1)
    for hop in range(world.route.max_hops):
        path = tmp_path / f"p{hop}"
        assert (await make_plan(world, path)).to_replay == 2
        with open_plan(path) as plan:
            await runner_of(world).send(plan)
            await runner_of(world).send(plan)
            assert await world.work_redrive(dies=lambda _: True) == (0, 2, 0)
            status = await status_of(world).read(plan)
            assert status.counts == {ItemStatus.DEAD_AGAIN: 2}
            assert status.is_settled
            assert not status.is_good
            assert {item.hops for item, _ in status.bad} == {hop}
    prediction = await make_plan(world, tmp_path / "last")
    assert (prediction.to_replay, prediction.over_hop_limit) == (0, 2)
    assert prediction.superseded == 2 * world.route.max_hops


@virtual
async def test_an_earlier_plan_knows_that_another_took_over(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "old")
    await world.clock.sleep_ms(1)
    await make_plan(world, tmp_path / "new", why="another")
    with open_plan(tmp_path / "old") as old, open_plan(tmp_path / "new") as new:
        assert old.id != new.id
        await runner_of(world).send(new)
        await world.work_redrive(dies=lambda _: True)
        assert (await runner_of(world).preview(old)).headings == {Heading.SUPERSEDED: 2}
        assert (await status_of(world).read(old)).counts == {ItemStatus.SUPERSEDED: 2}
        assert (await runner_of(world).send(old)).sent == 0


@virtual
async def test_what_completed_since_is_skipped(world: World, tmp_path: Path) -> None:
    await dead_records(world, 2)
    await make_plan(world, tmp_path / "a", selection=Selection(partition=0))
    await world.clock.sleep_ms(1)
    await make_plan(world, tmp_path / "b")
    with open_plan(tmp_path / "a") as plan:
        await runner_of(world).send(plan)
        await world.work_redrive()
    with open_plan(tmp_path / "b") as plan:
        report = await runner_of(world).send(plan)
        assert report.headings == {Heading.ALREADY_COMPLETED: 2, Heading.TO_SEND: 2}
        assert report.sent == 2


@virtual
async def test_a_replay_older_than_its_claims_is_refused_unless_allowed(world: World, tmp_path: Path) -> None:
    """Row 46, I19."""
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    with open_plan(tmp_path / "p") as plan:
        assert (await runner_of(world).send(plan)).headings == {Heading.CLAIM_EXPIRED: 2}
        assert await world.read_all(world.route.redrive_topic) == []
    assert (await make_plan(world, tmp_path / "q")).claim_expired == 2
    await make_plan(world, tmp_path / "r", allow_expired=True)
    with open_plan(tmp_path / "r") as plan:
        assert (await runner_of(world).send(plan)).sent == 2
        assert await world.work_redrive() == (2, 0, 0)


@virtual
async def test_a_reason_is_required(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reason"):
        await make_plan(world, tmp_path / "p", why="  ")


@virtual
async def test_gone_or_changed_letters_refuse_before_anything_is_sent(world: World, tmp_path: Path) -> None:
    await dead_records(world, 3)
    await make_plan(world, tmp_path / "p")
    dlq = TopicPartition(world.route.dead_letter_topic, 1)
    world.transport.log.remove(Position(*dlq, 2))
    with open_plan(tmp_path / "p") as plan:
        with pytest.raises(PlanRefusedError, match="is gone") as caught:
            await runner_of(world, batch=1).send(plan)
        assert caught.value.where == f"{dlq.topic}/1/2"
        assert await world.read_all(world.route.redrive_topic) == []

        log = world.transport.log
        log.partition(TopicPartition(dlq.topic, 0)).records[0].value = b"another"
        with pytest.raises(PlanRefusedError, match="payload differ"):
            await runner_of(world, batch=1).send(plan)
        assert await world.read_all(world.route.redrive_topic) == []


@virtual
async def test_letters_that_are_not_needed_any_more_may_be_gone(world: World, tmp_path: Path) -> None:
    await dead_records(world, 2)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        await world.work_redrive()
        for partition in (0, 1):
            for topic in (world.route.dead_letter_topic, world.route.redrive_topic):
                world.transport.log.trim(TopicPartition(topic, partition), before=2)
        report = await runner_of(world).send(plan)
        assert report.headings == {Heading.SENT_BEFORE: 4}
        assert (await status_of(world).read(plan)).is_good


@virtual
async def test_a_plan_of_another_route_is_refused(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    other = await World.in_memory().start()
    other.route = a_route("other-")
    with open_plan(tmp_path / "p") as plan, pytest.raises(PlanRefusedError, match="own redrive lane"):
        await runner_of(other).preview(plan)


@virtual
async def test_a_gone_topic_is_refused(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    elsewhere = World.in_memory()
    elsewhere.reader, elsewhere.producer = elsewhere.transport.reader(), elsewhere.transport.producer()
    with open_plan(tmp_path / "p") as plan, pytest.raises(PlanRefusedError, match="gone"):
        await runner_of(elsewhere).preview(plan)


@virtual
async def test_the_rate_is_kept_in_virtual_time(world: World, tmp_path: Path) -> None:
    await dead_records(world, 50)
    await make_plan(world, tmp_path / "p")
    started_ms = world.clock.now_ms()
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan, PaceLimits(rate_per_s=10))
    elapsed_ms = world.clock.now_ms() - started_ms
    assert 9_000 <= elapsed_ms <= 9_100, "100 records, the first 10 at once"
    stamps = sorted(record.timestamp_ms for record in await world.read_all(world.route.redrive_topic))
    for index in range(len(stamps) - 21):
        assert stamps[index + 21] - stamps[index] >= 1_000, "never more than burst + rate in a second"


@virtual
async def test_stop_ends_after_the_batch_in_flight_and_a_second_run_goes_on(world: World, tmp_path: Path) -> None:
    await dead_records(world, 10)
    await make_plan(world, tmp_path / "p")
    stop = asyncio.Event()
    with open_plan(tmp_path / "p") as plan:

        def after_two_batches(report: RunReport) -> None:
            if report.sent >= 8:
                stop.set()

        report = await runner_of(world, batch=4).send(plan, hooks=RunHooks(stop=stop, progress=after_two_batches))
        assert (report.sent, report.was_stopped) == (8, True)
        assert report.headings[Heading.TO_SEND] == 8
        again = await runner_of(world, batch=4).send(plan)
        assert (again.sent, again.headings[Heading.SENT_BEFORE]) == (12, 8)
        assert await world.work_redrive() == (20, 0, 0)


@virtual
async def test_wait_ends_when_settled_or_at_the_deadline(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        started_ms = world.clock.now_ms()
        status = await status_of(world).wait(plan, timeout_ms=3_000)
        assert not status.is_settled
        assert world.clock.now_ms() - started_ms == 3_000

        rounds = 0

        async def work_later() -> None:
            await asyncio.sleep(0)
            await world.work_redrive()

        def count(_status) -> None:
            nonlocal rounds
            rounds += 1

        worker = asyncio.create_task(work_later())
        assert (await status_of(world).wait(plan, timeout_ms=60_000, progress=count)).is_good
        await worker
        assert rounds >= 2


@virtual
async def test_a_copy_the_group_passed_without_a_claim_is_missing(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        await world.commit_all(world.route.redrive_topic)
        status = await status_of(world).read(plan)
        assert status.counts == {ItemStatus.MISSING: 2}
        assert not status.is_good
        assert len(status.bad) == 2
