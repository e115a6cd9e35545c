"""Plans: every count of the prediction in a world that has it, the order of items, bounded memory, edits, force."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from replay_plans import given, make_plan, stock, stock_codec, stock_contract
from replay_world import TTL_MS, World

from broker_bridge import headers as h
from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, SettleKind
from broker_bridge.core.identity import payload_fingerprint, version_key
from broker_bridge.core.letters import Selection
from broker_bridge.core.newest_version import ReplayOrder
from broker_bridge.core.replay_plan import SKIPPED, PlanItem, Prediction, difference
from broker_bridge.errors import UsageError
from broker_bridge.message import OutgoingRecord, Record
from broker_bridge.replay.edit import LetterEdit
from broker_bridge.replay.plan_draft import BLOCK
from broker_bridge.replay.plan_file import diff_path, open_plan
from broker_bridge.replay.sources import open_source


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


async def put(world: World, value: bytes, *, key: str = "apple", partition: int = 0, headers: Any = ()) -> Record:
    """One record of the source topic with its own event id."""
    (record,) = await world.produce(1, partition=partition, key=key, value=value)
    if headers:
        outgoing = OutgoingRecord(record.topic, value, record.key, [*record.headers, *headers], partition)
        (record,) = await world.write([outgoing])
    return record


def items_of(path: Path) -> list[PlanItem]:
    with open_plan(path) as plan:
        return list(plan.items())


def reasons_of(path: Path) -> dict[int, str]:
    """Source offset of each skipped letter, and why."""
    with open_plan(path) as plan:
        return {letter.origin_offset: letter.why for letter in plan.skipped()}


def assert_adds_up(prediction: Prediction, path: Path) -> None:
    """Every letter that was selected is a line of the plan, under the heading that counts it."""
    with open_plan(path) as plan:
        skipped = Counter(letter.why for letter in plan.skipped())
        assert plan.header.prediction == prediction
        assert plan.end.items == prediction.to_replay == len(list(plan.items()))
        assert plan.end.skipped == skipped.total()
        assert {why: getattr(prediction, why) for why in SKIPPED} == {why: skipped[why] for why in SKIPPED}
        assert prediction.selected == plan.end.items + plan.end.skipped


async def end(world: World, record: Record, detail: bytes) -> None:
    """The claim of a dead letter's message ends as by a stale replay, or a discard."""
    await world.die(record)
    with_replay = OutgoingRecord(
        world.route.redrive_topic,
        record.value,
        record.key,
        [*record.headers, (h.ORIGIN, str(record.position).encode()), (h.REPLAY_ID, b"r-1")],
        record.partition,
    )
    (copy,) = await world.write([with_replay])
    held = await world.claim(copy)
    assert held is not None
    await world.store.settle(world.route.group, [held(SettleKind.COMPLETE, detail=detail)], ttl_ms=TTL_MS)


async def test_every_reason_to_stay_is_counted_and_is_a_line_of_the_plan(world: World, tmp_path: Path) -> None:
    codec = stock_codec(tmp_path / "schemas")
    good = stock(codec, 1)
    goes, completed, stale, discarded, twice, forgotten, in_hand, often, undecodable = [
        await put(world, value, key=f"k{n}") for n, value in enumerate([good] * 8 + [b"\x00\x00\x00\x00\x03\xff"])
    ]
    for record in (goes, undecodable):
        await world.die(record)
    await world.write_letter(completed, "target_rejected")
    await world.complete(completed)
    await end(world, stale, STALE_DETAIL)
    await end(world, discarded, DISCARDED_DETAIL)
    await world.write_letter(twice, "target_rejected")
    await world.die(twice)
    await world.write_letter(forgotten, "target_rejected")
    await world.write_letter(in_hand, "target_rejected")
    await world.to_retry(in_hand)
    (first,) = await world.produce(1, key="twin", event_id="twin", value=good)
    (other,) = await world.produce(1, key="twin", event_id="twin", value=stock(codec, 2))
    await world.complete(first)
    await world.write_letter(other, "key_conflict")
    hops = ("bridge-hops", str(world.route.max_hops).encode())
    at = (h.ORIGIN, str(often.position).encode())
    (copy,) = await world.write(
        [OutgoingRecord(world.route.redrive_topic, good, often.key, [*often.headers, at, hops], 0)]
    )
    await world.die(copy)
    await world.commit_all()

    prediction = await make_plan(world, tmp_path / "p", contract=stock_contract(codec))
    assert_adds_up(prediction, tmp_path / "p")
    assert reasons_of(tmp_path / "p") == {
        completed.offset: "already_completed",
        stale.offset: "stale",
        discarded.offset: "discarded",
        twice.offset: "superseded",
        forgotten.offset: "claim_expired",
        in_hand.offset: "in_hand",
        often.offset: "over_hop_limit",
        other.offset: "key_conflicts",
        undecodable.offset: "undecodable",
    }
    assert [item.origin_offset for item in items_of(tmp_path / "p")] == [goes.offset, twice.offset]
    assert prediction.undecodable_at == (f"{world.route.dead_letter_topic}/0/1",)

    everything = await make_plan(
        world,
        tmp_path / "q",
        contract=stock_contract(codec),
        allow_expired=True,
        include_undecodable=True,
        force=True,
    )
    assert_adds_up(everything, tmp_path / "q")
    assert (everything.to_replay, everything.forced, everything.predicted_dead) == (7, 3, 1)
    by_origin = {item.origin_offset: item for item in items_of(tmp_path / "q")}
    assert by_origin[undecodable.offset].predicted == "dead_again"
    assert by_origin[completed.offset].forces == f"/shop/orders#o-{completed.offset}"
    assert by_origin[goes.offset].forces == ""


async def test_a_letter_that_breaks_order_is_told_and_can_be_held(world: World, tmp_path: Path) -> None:
    dead = [
        await put(world, b"1", key=key) for key in ("kept", "overtaken", "overtaken by a duplicate", "by a dead one")
    ]
    same = [await put(world, b"1", key="not consumed")]
    for record in dead + same:
        await world.die(record)
    newer = [await put(world, b"2", key=key) for key in ("overtaken", "by a dead one", "overtaken by a duplicate")]
    await world.complete(newer[0])
    await world.die(newer[1])
    await end(world, newer[2], STALE_DETAIL)
    await world.commit_all()
    late = await put(world, b"2", key="not consumed")
    await world.complete(late)  # and the offset was not committed: what is behind it is not history yet

    wanted = Selection(codes=("target_rejected",), states=("waiting",))
    prediction = await make_plan(world, tmp_path / "p", selection=wanted)
    assert_adds_up(prediction, tmp_path / "p")
    assert (prediction.to_replay, prediction.breaks_order, prediction.order_unknown) == (6, 1, 0)
    held = await make_plan(world, tmp_path / "h", selection=wanted, order=ReplayOrder.HOLD)
    assert_adds_up(held, tmp_path / "h")
    assert (held.to_replay, held.held_back, held.breaks_order) == (5, 1, 0)
    assert reasons_of(tmp_path / "h") == {dead[1].offset: "held_back"}
    unknown = await make_plan(world, tmp_path / "u", selection=wanted, order_check=False)
    assert (unknown.breaks_order, unknown.order_unknown) == (0, 6)
    with pytest.raises(UsageError, match="without looking"):
        await make_plan(world, tmp_path / "n", order=ReplayOrder.HOLD, order_check=False)
    with pytest.raises(UsageError, match="no version field"):
        await make_plan(world, tmp_path / "n", order=ReplayOrder.SKIP_STALE)


async def test_versions_say_who_will_be_stale(world: World, tmp_path: Path) -> None:
    codec = stock_codec(tmp_path / "schemas")
    contract = stock_contract(codec, version_field="revision")
    behind, ahead, unversioned = [
        await put(world, stock(codec, revision), key=key)
        for revision, key in ((1, "behind"), (9, "ahead"), (1, "unversioned"))
    ]
    for record in (behind, ahead, unversioned):
        await world.die(record)
    newest = {version_key(key, namespace=world.route.topic): 5 for key in (b"behind", b"ahead")}
    await world.store.advance(world.route.group, newest, ttl_ms=TTL_MS)
    later = await put(world, stock(codec, 2), key="unversioned")
    await world.complete(later)
    await world.commit_all()

    prediction = await make_plan(world, tmp_path / "p", contract=contract)
    assert_adds_up(prediction, tmp_path / "p")
    assert (prediction.to_replay, prediction.predicted_stale, prediction.breaks_order) == (3, 1, 2)
    assert [item.predicted for item in items_of(tmp_path / "p")] == ["stale", "completed", "completed"]
    with open_plan(tmp_path / "p") as plan:
        assert (plan.header.order, plan.header.order_header) == ("skip-stale", "skip-stale")
    held = await make_plan(world, tmp_path / "h", contract=contract, order=ReplayOrder.HOLD)
    assert (held.to_replay, held.held_back) == (1, 2)
    as_is = await make_plan(world, tmp_path / "a", contract=contract, order=ReplayOrder.AS_IS)
    assert (as_is.to_replay, as_is.breaks_order, as_is.predicted_stale) == (3, 2, 0)


async def test_what_decodes_only_thanks_to_an_upcaster_is_told(world: World, tmp_path: Path) -> None:
    codec = stock_codec(tmp_path / "schemas", upcasts=True)
    for version in (1, 2, 3):
        await world.die(await put(world, stock(codec, 1, version=version), key=f"v{version}"))
    prediction = await make_plan(world, tmp_path / "p", contract=stock_contract(codec))
    assert (prediction.to_replay, prediction.fixed_by_upcaster, prediction.undecodable) == (3, 1, 0)
    plain = stock_contract(stock_codec(tmp_path / "schemas"))
    without = await make_plan(world, tmp_path / "q", contract=plain)
    assert (without.to_replay, without.fixed_by_upcaster, without.undecodable) == (2, 0, 1)


async def test_items_of_a_partition_are_in_order_and_partitions_take_turns(world: World, tmp_path: Path) -> None:
    count = BLOCK + 7
    for partition in (0, 1):
        for record in reversed(await world.produce(count, partition=partition)):
            await world.die(record)
    await make_plan(world, tmp_path / "p")
    found = items_of(tmp_path / "p")
    for partition in (0, 1):
        assert [item.origin_offset for item in found if item.origin_partition == partition] == list(range(count))
    runs = [0] * BLOCK + [1] * BLOCK + [0] * 7 + [1] * 7
    assert [item.origin_partition for item in found] == runs


async def test_the_time_it_takes_is_told(world: World, tmp_path: Path) -> None:
    for record in await world.produce(5):
        await world.die(record)
    await make_plan(world, tmp_path / "p", rate_per_s=2.0)
    with open_plan(tmp_path / "p") as plan:
        assert (plan.header.rate_per_s, plan.header.expected_s) == (2.0, 2.5)
    with pytest.raises(UsageError, match="never ends"):
        await make_plan(world, tmp_path / "q", rate_per_s=0.0)


# -- edits


async def test_an_edit_is_planned_by_the_hash_of_what_is_sent_and_its_diff_kept(world: World, tmp_path: Path) -> None:
    codec = stock_codec(tmp_path / "schemas", upcasts=True)
    contract = stock_contract(codec)
    old = await put(world, stock(codec, 1, version=1), key="old")
    same = await put(world, stock(codec, 2), key="same")
    tombstone = (await world.write([OutgoingRecord(world.route.topic, None, b"gone", same.headers[:0], 0)]))[0]
    for record in (old, same, tombstone):
        await world.die(record)
    patch = [{"op": "replace", "path": "/count", "value": 7}]
    prediction = await make_plan(world, tmp_path / "p", contract=contract, edit={"patch": patch})
    assert_adds_up(prediction, tmp_path / "p")
    assert reasons_of(tmp_path / "p") == {tombstone.offset: "patch_failed"}
    first, second = items_of(tmp_path / "p")
    sent = {"id": "apple", "revision": 1, "count": 7, "note": ""}
    assert second.sends == ""  # the edit changes nothing in it
    diff = diff_path(tmp_path / "p")
    assert diff.stat().st_mode & 0o777 == 0o600
    (told,) = map(json.loads, diff.read_text().splitlines())
    assert (told["item"], told["origin"]) == (0, f"0/{old.offset}")
    assert told["changes"] == [
        {"path": "/count", "before": None, "after": "7"},
        {"path": "/note", "before": None, "after": '""'},
    ]
    with open_plan(tmp_path / "p") as plan:
        edit = LetterEdit.of(plan.header.edit, contract)
        assert edit is not None
        async with open_source(plan.header.source, reader=world.reader, store=world.store, route=world.route) as source:
            ((_, letter),) = [one async for batch in source.letters(given([first])) for one in batch]
        assert letter is not None
        assert difference(first, letter, namespace=world.route.topic) == ""
        edited, _ = edit.apply(letter)
    assert edited.value is not None
    assert payload_fingerprint(edited.value).hex() == first.sends
    assert edited.edited_from == payload_fingerprint(old.value).hex() == first.payload
    assert contract.as_written(edited.value, edited.headers) == sent
