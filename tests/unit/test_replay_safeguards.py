"""Where a replay could be repeated, misdirected or believed by mistake: each situation once sent too much, or said what
was not so."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from replay_plans import stock, stock_codec, stock_contract
from replay_runs import copies_of, dead_records, make_plan, new_world, plan_of, runner_of, verifier_of, virtual
from replay_world import World

from broker_bridge import headers as h
from broker_bridge.core.claim import ClaimView
from broker_bridge.core.letters import Selection
from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.core.replay_state import Heading, ItemStatus, SkippedStatus
from broker_bridge.core.replay_verdict import Verdict
from broker_bridge.errors import PlanInvalidError, PlanRefusedError
from broker_bridge.message import OutgoingRecord
from broker_bridge.replay.plan_file import _put_in_place, open_plan
from broker_bridge.replay.sources.topic import SourceRange, TopicSource


@pytest.fixture
def world() -> World:
    return new_world()


async def replayed(world: World, path: Path, *, dies: bool = False, **wishes: Any) -> None:
    """Plan, run, and let a worker do it."""
    await make_plan(world, path, **wishes)
    with open_plan(path) as plan:
        await runner_of(world).send(plan)
    await world.work_redrive(dies=lambda _: dies)


# -- the file


@virtual
async def test_a_plan_that_is_overwritten_while_it_runs_sends_nothing_of_the_other(
    world: World, tmp_path: Path
) -> None:
    await dead_records(world, 3)
    path, other = tmp_path / "p", tmp_path / "other"
    await make_plan(world, path, selection=Selection(partition=0))
    await world.clock.sleep_ms(1)
    await make_plan(world, other, selection=Selection(partition=1))
    with open_plan(path) as plan:
        kept = path.read_bytes()
        shutil.copyfile(other, path)
        with pytest.raises(PlanInvalidError, match="was written to"):
            await runner_of(world).send(plan)
        path.write_bytes(kept[:100])
        with pytest.raises(PlanInvalidError, match="was written to"):
            list(plan.items())
    assert await copies_of(world) == []


# -- again, after everything that knew of it is gone


@pytest.mark.parametrize("wish", ["force", "allow_expired"])
@virtual
async def test_a_plan_that_goes_without_claims_runs_no_more_when_they_are_forgotten(
    world: World, tmp_path: Path, wish: str
) -> None:
    """The lane was trimmed and the claims ran out: nothing could tell that its messages were executed."""
    await dead_records(world, 1)
    if wish == "force":
        await replayed(world, tmp_path / "first")
    else:
        await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    await replayed(world, tmp_path / "p", **{wish: True})
    for topic_partition in await world.reader.offsets([world.route.redrive_topic]):
        world.transport.log.trim(topic_partition, before=99)  # type: ignore[attr-defined]
    with open_plan(tmp_path / "p") as plan:
        assert (await runner_of(world).send(plan)).sent == 0
        await world.clock.sleep_ms(world.route.claim_ttl_ms + 60_000)
        with pytest.raises(PlanRefusedError, match="longer ago than claims are remembered"):
            await runner_of(world).send(plan)
    assert await copies_of(world) == []


# -- several letters of one message


@pytest.mark.parametrize("wish", ["force", "allow_expired"])
@virtual
async def test_of_several_letters_of_a_message_the_last_goes_back(world: World, tmp_path: Path, wish: str) -> None:
    """The claim would let the first through and drop the others: what an edit had cured would go as it was."""
    await dead_records(world, 1)
    await replayed(world, tmp_path / "first", dies=True)
    if wish == "force":
        await replayed(world, tmp_path / "second", why="again")
    else:
        await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    prediction = await make_plan(world, tmp_path / "p", **{wish: True})
    assert (prediction.selected, prediction.to_replay, prediction.superseded) == (4, 2, 2)
    with open_plan(tmp_path / "p") as plan:
        assert [(item.partition, item.offset, item.hops) for item in plan.items()] == [(0, 1, 1), (1, 1, 1)]
        assert [(one.partition, one.offset, one.why) for one in plan.skipped()] == [
            (0, 0, "superseded"),
            (1, 0, "superseded"),
        ]
        await runner_of(world).send(plan)
        assert await world.work_redrive() == (2, 0, 0)
        assert (await verifier_of(world).verify(plan)).comparison.verdict is Verdict.AS_PREDICTED


@pytest.mark.parametrize("forced_one_died", [False, True])
@virtual
async def test_a_message_that_was_forced_before_is_forced_once(
    world: World, tmp_path: Path, forced_one_died: bool
) -> None:
    """Its letters have two keys, that of the message and the forced one, and so two claims that would each let one
    through."""
    await dead_records(world, 1)
    await replayed(world, tmp_path / "first")
    await replayed(world, tmp_path / "forced", force=True, dies=True)
    if not forced_one_died:
        await replayed(world, tmp_path / "cured", why="cured")
    prediction = await make_plan(world, tmp_path / "p", force=True, why="once more")
    assert (prediction.selected, prediction.to_replay, prediction.superseded) == (4, 2, 2)
    with open_plan(tmp_path / "p") as plan:
        assert [
            (item.partition, item.hops, "#" in item.forces.removeprefix("/shop/orders#")) for item in plan.items()
        ] == [
            (0, 1, False),
            (1, 1, False),
        ]
        await runner_of(world).send(plan)
        assert await world.work_redrive() == (2, 0, 0)
        assert (await verifier_of(world).verify(plan)).comparison.verdict is Verdict.AS_PREDICTED


@pytest.mark.parametrize("wish", ["force", "allow_expired"])
@virtual
async def test_no_older_letter_goes_round_the_hop_limit(world: World, tmp_path: Path, wish: str) -> None:
    """I18: the newest letter of the message was replayed too often, the older ones have fewer hops."""
    await dead_records(world, 1)
    for hop in range(world.route.max_hops):
        is_last = hop == world.route.max_hops - 1
        await replayed(world, tmp_path / f"{hop}", why=f"{hop}", dies=wish == "allow_expired" or not is_last)
    if wish == "force":
        await replayed(world, tmp_path / "forced", force=True, dies=True)
    else:
        await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    prediction = await make_plan(world, tmp_path / "p", **{wish: True}, why="round it")
    assert (prediction.to_replay, prediction.over_hop_limit) == (0, 2)
    assert prediction.selected == prediction.over_hop_limit + prediction.superseded == 2 * (world.route.max_hops + 1)
    with open_plan(tmp_path / "p") as plan:
        assert (plan.end.items, plan.end.skipped) == (0, prediction.selected)


# -- who did it


@virtual
async def test_a_record_of_the_plan_under_another_key_is_foreign(world: World, tmp_path: Path) -> None:
    """It has a claim of its own: the message is executed twice, though each item once."""
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        copy = (await copies_of(world))[0]
        headers = [*copy.headers, ("idempotency-key", b"another")]
        await world.write([OutgoingRecord(copy.topic, copy.value, copy.key, headers, copy.partition)])
        assert (await world.work_redrive())[0] == 3
        found = await verifier_of(world).verify(plan)
    assert (found.comparison.foreign, found.comparison.verdict) == (1, Verdict.BROKEN)
    assert "its idempotency key is not that of item 0" in found.foreign_at[0][1]


@virtual
async def test_what_another_replay_completed_is_not_as_predicted(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await make_plan(world, tmp_path / "p")
    await world.clock.sleep_ms(1)
    await replayed(world, tmp_path / "other", selection=Selection(partition=0))
    with open_plan(tmp_path / "p") as plan:
        await runner_of(world).send(plan)
        await world.work_redrive()
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.items == {("completed", ItemStatus.SUPERSEDED): 1, ("completed", ItemStatus.COMPLETED): 1}
    assert (comparison.verdict, comparison.is_settled) == (Verdict.DIFFERS, True)


@pytest.mark.parametrize("wish", ["force", "allow_expired"])
@virtual
async def test_a_letter_left_alone_that_was_not_dead_when_it_was_chosen_is_as_planned(
    world: World, tmp_path: Path, wish: str
) -> None:
    codec = stock_codec(tmp_path)
    for record in [*await world.produce(1, value=b"no stock"), *await world.produce(1, value=stock(codec, 1))]:
        await world.die(record)
    await world.commit_all()
    if wish == "force":
        await replayed(world, tmp_path / "first")
    else:
        await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    await replayed(world, tmp_path / "p", contract=stock_contract(codec), **{wish: True})
    with open_plan(tmp_path / "p") as plan:
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.skipped == {("undecodable", SkippedStatus.AS_PLANNED): 1}
    assert comparison.verdict is Verdict.AS_PREDICTED


@virtual
async def test_a_letter_left_alone_that_somebody_else_completed_is_told(world: World, tmp_path: Path) -> None:
    codec = stock_codec(tmp_path)
    (record,) = await world.produce(1, value=b"no stock")
    await world.die(record)
    await world.commit_all()
    await make_plan(world, tmp_path / "p", contract=stock_contract(codec))
    await world.clock.sleep_ms(1)
    await replayed(world, tmp_path / "other")
    with open_plan(tmp_path / "p") as plan:
        comparison = (await verifier_of(world).verify(plan)).comparison
    assert comparison.skipped == {("undecodable", SkippedStatus.CHANGED): 1}


# -- other sources


@virtual
async def test_a_record_whose_replay_died_goes_back_from_its_dead_letter_alone(world: World, tmp_path: Path) -> None:
    """The record of the source topic does not know how often it was replayed (I18)."""
    await dead_records(world, 1)
    await replayed(world, tmp_path / "first", dies=True)
    source = TopicSource(reader=world.reader, store=world.store, route=world.route, range_=SourceRange(since_ms=0))
    prediction = await plan_of(world, source, tmp_path / "p")
    assert (prediction.to_replay, prediction.superseded) == (0, 2)
    assert (await make_plan(world, tmp_path / "letters")).to_replay == 2


@virtual
async def test_a_record_of_the_topic_that_another_replay_killed_meanwhile_stays(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    source = TopicSource(reader=world.reader, store=world.store, route=world.route, range_=SourceRange(since_ms=0))
    assert (await plan_of(world, source, tmp_path / "p")).to_replay == 2
    await world.clock.sleep_ms(1)
    await replayed(world, tmp_path / "other", dies=True)
    with open_plan(tmp_path / "p") as plan:
        assert (await runner_of(world).send(plan)).headings == {Heading.SUPERSEDED: 2}


# -- what a slow run asks


class _Counting:
    """A store that counts the claims it is asked for."""

    def __init__(self, world: World) -> None:
        self._store = world.store
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        self.asked += len(keys)
        return await self._store.inspect(group, keys)


@virtual
async def test_a_slow_run_looks_claims_up_again_as_often_as_they_grow_old_and_no_more(
    world: World, tmp_path: Path
) -> None:
    """500 items in 50 s: what is left is looked up every 5 s, ten times, and not before each record."""
    await dead_records(world, 250)
    await make_plan(world, tmp_path / "p")
    store = _Counting(world)
    with open_plan(tmp_path / "p") as plan:
        report = await runner_of(world, store=store).send(plan, PaceLimits(rate_per_s=10))  # type: ignore[arg-type]
    assert report.sent == 500
    assert store.asked < 500 * 8


# -- what only says that it is of the plan


@virtual
async def test_a_record_that_only_carries_the_number_of_an_item_does_not_keep_it_from_being_sent(
    world: World, tmp_path: Path
) -> None:
    await dead_records(world, 2)
    await make_plan(world, tmp_path / "p")
    with open_plan(tmp_path / "p") as plan:
        forged = [(h.REPLAY_ID, plan.id.encode()), (h.REPLAY_ITEM, b"0"), (h.ORIGIN, b"orders.placed/0/99")]
        await world.write([OutgoingRecord(world.route.redrive_topic, b"x", b"k", forged, 0)])
        first = await runner_of(world).send(plan)
        assert first.sent == plan.end.items
        assert (await runner_of(world).send(plan)).sent == 0


def test_a_plan_that_somebody_else_put_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    partial, path = tmp_path / "p.partial", tmp_path / "p"
    partial.write_bytes(b"mine")
    path.write_bytes(b"somebody else's")
    with pytest.raises(FileExistsError):
        _put_in_place(partial, path)
    assert path.read_bytes() == b"somebody else's"
    path.unlink()
    _put_in_place(partial, path)
    assert path.read_bytes() == b"mine"
    assert not partial.exists()
