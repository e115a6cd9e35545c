"""Prediction against outcome, message by message: what is as it should be, and that nothing wrong goes unnoticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from replay_runs import copies_of, dead_records, make_plan, new_world, runner_of, verifier_of, virtual
from replay_world import World

from broker_bridge import headers as h
from broker_bridge.core.claim import SettleKind
from broker_bridge.core.letters import Selection
from broker_bridge.core.plan_lines import item_line, skipped_line
from broker_bridge.core.replay_plan import SkippedLetter
from broker_bridge.core.replay_state import Heading, ItemStatus, SkippedStatus
from broker_bridge.core.replay_verdict import LISTED, Verdict
from broker_bridge.message import OutgoingRecord, Record, TopicPartition
from broker_bridge.replay.plan_file import open_plan, write_plan


@pytest.fixture
def world() -> World:
    return new_world()


async def planned_and_sent(world: World, path: Path) -> None:
    """Four dead letters go back; one that was completed since and one that died again stay."""
    await dead_records(world, 2)
    done, twice = await world.produce(2, partition=1)
    await world.die(done)
    await world.die(twice)
    await make_plan(world, path.with_name("first"), selection=Selection(partition=1, from_offset=2))
    with open_plan(path.with_name("first")) as plan:
        await runner_of(world).send(plan)
    await world.work_redrive(dies=lambda copy: h.identify(copy, trusted=True).origin.offset == 3)
    prediction = await make_plan(world, path, selection=Selection(to_offset=2))
    assert prediction.to_replay == 4
    with open_plan(path) as plan:
        await runner_of(world).send(plan)


async def everything(world: World, path: Path) -> None:
    """As above, and the letters that stay are in the plan too."""
    await planned_and_sent(world, path.with_name("second"))
    await world.work_redrive()
    await world.clock.sleep_ms(1)
    prediction = await make_plan(world, path)
    assert (prediction.to_replay, prediction.already_completed, prediction.superseded) == (1, 5, 1)


async def write_again(world: World, copy: Record, **changes: object) -> None:
    await world.write(
        [replace(OutgoingRecord(copy.topic, copy.value, copy.key, copy.headers, copy.partition), **changes)]  # type: ignore[arg-type]
    )


def header_changed(copy: Record, name: str, value: bytes) -> list[tuple[str, bytes | None]]:
    return [(one, value if one == name else old) for one, old in copy.headers]


@virtual
async def test_as_predicted(world: World, tmp_path: Path) -> None:
    await everything(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        before = await verifier_of(world).verify(plan)
        assert before.comparison.verdict is Verdict.UNSETTLED
        assert before.comparison.items == {("completed", ItemStatus.NOT_SENT): 1}
        await runner_of(world).send(plan)
        assert (await verifier_of(world).verify(plan)).comparison.items == {("completed", ItemStatus.QUEUED): 1}
        await world.work_redrive()
        found = await verifier_of(world).verify(plan)
    comparison = found.comparison
    assert comparison.verdict is Verdict.AS_PREDICTED
    assert comparison.items == {("completed", ItemStatus.COMPLETED): 1}
    assert comparison.skipped == {
        ("already_completed", SkippedStatus.AS_PLANNED): 5,
        ("superseded", SkippedStatus.AS_PLANNED): 1,
    }
    assert (found.records, comparison.copies, comparison.foreign) == ({1: 1}, 0, 0)
    assert comparison.counts()["completed as completed"] == 1


@virtual
async def test_what_dies_again_differs(world: World, tmp_path: Path) -> None:
    await planned_and_sent(world, tmp_path / "p")
    await world.work_redrive(dies=lambda copy: copy.partition == 0)
    with open_plan(tmp_path / "p") as plan:
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.verdict is Verdict.DIFFERS
    assert comparison.is_settled
    assert [(one.item.partition, one.actual) for one in comparison.different] == [(0, ItemStatus.DEAD_AGAIN)] * 2


@virtual
async def test_a_lost_item_is_flagged(world: World, tmp_path: Path) -> None:
    """Broken on purpose: the group passes the records, and nobody claimed them."""
    await planned_and_sent(world, tmp_path / "p")
    await world.commit_all(world.route.redrive_topic)
    with open_plan(tmp_path / "p") as plan:
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.verdict is Verdict.BROKEN
    assert comparison.items == {("completed", ItemStatus.MISSING): 4}


@virtual
async def test_a_skipped_letter_that_was_executed_is_flagged(world: World, tmp_path: Path) -> None:
    """Broken on purpose: a run that sends also what its plan leaves alone, under a number that is free."""
    await dead_records(world, 2)
    await make_plan(world, tmp_path / "whole")
    with open_plan(tmp_path / "whole") as whole:
        items = list(whole.items())
        kept = [item_line(item) for item in items[:3]]
        left = items[3]
        letter = SkippedLetter(*left[:5], "held_back")
        header = replace(whole.header, why="leaves one alone")
    write_plan(tmp_path / "p", header, [*kept, skipped_line(letter)])
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        (copy, *_) = await copies_of(world)
        source = (await world.read_all(world.route.topic))[-1]
        headers = [*source.headers, *(one for one in copy.headers if one[0].startswith(h.BRIDGE_PREFIX))]
        forged = Record(copy.topic, source.partition, 0, 0, source.key, source.value, headers)
        origin = header_changed(forged, h.ORIGIN, str(source.position).encode())
        await write_again(world, forged, headers=origin)
        await world.work_redrive()
        found = await verifier_of(world).verify(plan)
    comparison = found.comparison
    assert comparison.verdict is Verdict.BROKEN
    assert comparison.skipped == {("held_back", SkippedStatus.TOUCHED): 1}
    assert [one.letter for one in comparison.different_skipped] == [letter]
    assert comparison.foreign == 1
    assert "is not the message of item" in found.foreign_at[0][1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({h.REPLAY_ITEM: b"4"}, "no such item"),
        ({h.REPLAY_ITEM: b"-1"}, "no such item"),
        ({h.REPLAY_ITEM: b"0", h.ORIGIN: b"orders.placed/0/99"}, "is not the message of item 0"),
        ({"value": b"other"}, "its value is not that of item"),
        ({h.REPLAY_ID: b"rp-0000000000000000"}, ""),
    ],
)
@virtual
async def test_foreign_records_are_flagged(
    world: World, tmp_path: Path, changes: dict[str, bytes], reason: str
) -> None:
    await planned_and_sent(world, tmp_path / "p")
    copy = replace((await copies_of(world))[0])
    for name, value in changes.items():
        if name == "value":
            copy.value = value
        else:
            copy.headers = header_changed(copy, name, value)
    with open_plan(tmp_path / "p") as plan:
        await world.work_redrive()
        await write_again(world, copy)
        await world.commit_all(world.route.redrive_topic)
        found = await verifier_of(world).verify(plan)
    assert found.comparison.foreign == bool(reason)
    assert found.comparison.verdict is (Verdict.BROKEN if reason else Verdict.AS_PREDICTED)
    assert reason in "".join(why for _, why in found.foreign_at)


@virtual
async def test_further_copies_are_counted_and_do_no_harm(world: World, tmp_path: Path) -> None:
    await planned_and_sent(world, tmp_path / "p")
    for copy in (await copies_of(world))[:2]:
        await write_again(world, copy)
    assert (await world.work_redrive())[0] == 4
    with open_plan(tmp_path / "p") as plan:
        found = await verifier_of(world).verify(plan)
    assert (found.comparison.copies, found.comparison.verdict) == (2, Verdict.AS_PREDICTED)


@virtual
async def test_skipped_letters_that_somebody_else_changed(world: World, tmp_path: Path) -> None:
    await everything(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        await world.work_redrive()
        await world.clock.sleep_ms(world.route.claim_ttl_ms - 10_000)
        assert (await verifier_of(world).verify(plan)).comparison.verdict is Verdict.AS_PREDICTED
        await world.clock.sleep_ms(20_000)
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.skipped["already_completed", SkippedStatus.CHANGED] == 5, "their claims ran out"
    assert comparison.verdict is not Verdict.AS_PREDICTED


@virtual
async def test_differences_are_listed_up_to_a_bound(world: World, tmp_path: Path) -> None:
    await dead_records(world, 2 * LISTED)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        await world.work_redrive(dies=lambda _: True)
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.items == {("completed", ItemStatus.DEAD_AGAIN): 4 * LISTED}
    assert len(comparison.different) == LISTED


# -- by force


async def force_plan(world: World, tmp_path: Path) -> Path:
    """A plan that executes two completed messages again, and brings one dead one back."""
    await dead_records(world, 2)
    await make_plan(world, tmp_path / "whole")
    keys = {
        str(record.position): h.idempotency_key(record.headers, record.position)
        for record in await world.read_all(world.route.topic)
    }
    with open_plan(tmp_path / "whole") as whole:
        await runner_of(world).send(whole)
        await world.work_redrive(dies=lambda copy: copy.partition == 1)
        completed = [
            item._replace(forces=keys[str(item.origin(world.route.topic))])
            for item in whole.items()
            if item.partition == 0
        ]
        bounds = {str(tp.partition): end for tp, (_, end) in (await ends(world)).items()}
        header = replace(whole.header, why="the card service lost them", force=True, redrive_from=bounds)
    write_plan(tmp_path / "p", header, [item_line(item) for item in completed])
    return tmp_path / "p"


async def ends(world: World) -> dict[TopicPartition, tuple[int, int]]:
    return await world.reader.offsets([world.route.redrive_topic])


@virtual
async def test_forced_items_run_once_a_plan_under_claims_of_their_own(world: World, tmp_path: Path) -> None:
    path = await force_plan(world, tmp_path)
    with open_plan(path) as plan:
        assert (await runner_of(world).send(plan)).sent == 2
        assert (await runner_of(world).send(plan)).headings == {Heading.SENT_BEFORE: 2}
        copy = (await world.read_all(world.route.redrive_topic))[2]
        assert (h.text_of(copy.headers, h.IDEMPOTENCY_KEY) or "").endswith(f"#force:{plan.id}")
        assert len([name for name, _ in copy.headers if name == h.IDEMPOTENCY_KEY]) == 1
        waiting = (await verifier_of(world).verify(plan)).comparison
        assert (waiting.verdict, waiting.forced) == (Verdict.UNSETTLED, {ItemStatus.QUEUED: 2})
        assert await world.work_redrive() == (2, 0, 0), "though each was completed before"
        found = (await verifier_of(world).verify(plan)).comparison
        assert (found.verdict, found.forced) == (Verdict.AS_PREDICTED, {ItemStatus.COMPLETED: 2})
        for topic_partition in await ends(world):
            world.transport.log.trim(topic_partition, before=99)  # type: ignore[attr-defined]
        assert (await runner_of(world).send(plan)).headings == {Heading.SENT_BEFORE: 2}, "their claims tell"


@virtual
async def test_a_forced_item_that_is_lost_or_dies_is_told_by_its_own_claim(world: World, tmp_path: Path) -> None:
    path = await force_plan(world, tmp_path)
    with open_plan(path) as plan:
        await runner_of(world).send(plan)
        first, _ = [copy for copy in await copies_of(world) if h.text_of(copy.headers, h.REPLAY_ID) == plan.id]
        await world.die(first)
        await world.commit_all(world.route.redrive_topic)
        found = (await verifier_of(world).verify(plan)).comparison
    assert found.forced == {ItemStatus.DEAD_AGAIN: 1, ItemStatus.MISSING: 1}
    assert found.verdict is Verdict.BROKEN


@virtual
async def test_in_progress_is_not_settled(world: World, tmp_path: Path) -> None:
    await planned_and_sent(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        copy = next(copy for copy in await copies_of(world) if h.text_of(copy.headers, h.REPLAY_ID) == plan.id)
    held = await world.claim(copy)
    with open_plan(tmp_path / "p") as plan:
        counts = (await verifier_of(world).verify(plan)).comparison.items
        assert counts["completed", ItemStatus.IN_PROGRESS] == 1
        assert held is not None
        await world.store.settle(world.route.group, [held(SettleKind.COMPLETE)], ttl_ms=60_000)
        began_ms = world.clock.now_ms()
        found = await verifier_of(world).wait(plan, timeout_ms=3_000)
    assert not found.comparison.is_settled
    assert world.clock.now_ms() - began_ms == 3_000
