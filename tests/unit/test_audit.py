"""The audit: every record under one heading, each heading proven, and nothing that is broken passes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_world import TTL_MS, World, reconcile

from broker_bridge.core.audit import Outcome, first_look, output_id, unpack_origin
from broker_bridge.core.claim import pack_origin
from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.core.reconcile import BookEntry, TargetLine
from broker_bridge.errors import NotFoundError, TopicMissingError, UsageError
from broker_bridge.message import OutgoingRecord, Position, Record, TopicPartition
from broker_bridge.replay.audit import EVERYTHING, Auditor, AuditRange, AuditReport


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


async def audit(world: World, wanted: AuditRange = EVERYTHING, **options) -> AuditReport:
    auditor = Auditor(reader=world.reader, store=world.store, route=world.route, clock=world.clock)
    return await auditor.audit(wanted, **options)


def totals(report: AuditReport) -> dict[str, int]:
    assert report.books.adds_up
    return {outcome.value: report.books.total(outcome) for outcome in Outcome if report.books.total(outcome)}


async def test_nothing_consumed_is_pending(world: World) -> None:
    await world.produce(3)
    report = await audit(world)
    assert totals(report) == {"pending": 3}
    assert report.books.balanced(expect_drained=False)
    assert not report.books.balanced(expect_drained=True)


async def test_every_heading_at_once(world: World) -> None:
    completed, dead, retried, parked, claimed, ahead, never = await world.produce(7)
    await world.complete(completed)
    await world.die(dead)
    await world.to_retry(retried)
    await world.park(parked)
    await world.commit({TopicPartition(world.route.topic, 0): 4})
    await world.claim(claimed)
    await world.to_retry(ahead, copy=False)
    first, twin = await world.produce(2, partition=1, event_id="same")
    await world.complete(first)
    await world.commit({TopicPartition(world.route.topic, 1): 2})

    report = await audit(world)
    assert totals(report) == {
        "completed": 2,
        "dead": 1,
        "in_retry": 2,
        "parked": 1,
        "in_progress": 1,
        "pending": 1,
        "duplicate": 1,
    }
    assert report.books.produced == {0: 7, 1: 2}
    assert report.books.count(1, Outcome.DUPLICATE) == 1
    assert report.books.balanced(expect_drained=False)
    assert (twin.position.offset, never.position.offset) == (1, 6)


async def test_a_drained_route_balances(world: World) -> None:
    for record in await world.produce(4):
        await world.complete(record, output=True)
    await world.commit_all()
    report = await audit(world, outputs=True)
    assert totals(report) == {"completed": 4}
    assert report.books.balanced(expect_drained=True)
    assert report.outputs is not None
    assert (report.outputs.missing.count, report.outputs.repeated, report.outputs.unexpected) == (0, 0, 0)


async def test_a_skipped_record_is_unaccounted_with_its_place_and_remedy(world: World) -> None:
    """Broken on purpose: a worker that commits what it never handled."""
    await world.complete((await world.produce(2))[0])
    await world.commit_all()
    report = await audit(world)
    assert totals(report) == {"completed": 1, "unaccounted": 1}
    assert not report.books.balanced(expect_drained=False)
    found = report.books.unaccounted[0]
    assert found.position == Position(world.route.topic, 0, 1)
    assert found.key_hash
    assert " ".join(found.command).startswith(
        "replay plan --source topic --partition 0 --from-offset 1 --to-offset 2 --allow-expired --why"
    )


async def test_a_retry_whose_copy_is_gone_is_unaccounted(world: World) -> None:
    """Broken on purpose: the claim says retry, the lane never got the copy."""
    record = (await world.produce(1))[0]
    await world.to_retry(record, copy=False)
    await world.commit_all()
    report = await audit(world)
    assert totals(report) == {"unaccounted": 1}
    assert "no lane" in report.books.unaccounted[0].why


async def test_a_copy_the_group_has_passed_does_not_count(world: World) -> None:
    record = (await world.produce(1))[0]
    await world.to_retry(record)
    await world.commit_all()
    assert totals(await audit(world)) == {"in_retry": 1}
    await world.commit_all(*world.route.retry_topics)
    assert totals(await audit(world)) == {"unaccounted": 1}


async def test_a_claim_in_progress_that_nobody_can_finish_is_unaccounted(world: World) -> None:
    record = (await world.produce(1))[0]
    await world.claim(record)
    assert totals(await audit(world)) == {"in_progress": 1}
    await world.commit_all()
    assert totals(await audit(world)) == {"unaccounted": 1}


async def test_a_claim_that_redis_set_back_does_not_hide_the_letter(world: World) -> None:
    """W3: the write that said dead is lost, the one before it says in progress. The letter in Kafka proves itself."""
    set_back, retried = await world.produce(2)
    await world.claim(set_back)
    await world.to_retry(retried, copy=False)
    await world.commit_all()
    assert totals(await audit(world)) == {"unaccounted": 2}
    for record in (set_back, retried):
        await world.write_letter(record, "target_rejected")
    assert totals(await audit(world)) == {"dead": 2}


async def test_a_dead_claim_needs_its_letter(world: World) -> None:
    """Broken on purpose: the letter was deleted, or was never really written."""
    records = await world.produce(2)
    for record in records:
        await world.die(record)
    await world.commit_all()
    assert totals(await audit(world)) == {"dead": 2}
    world.transport.log.remove(Position(world.route.dead_letter_topic, 0, 1))
    report = await audit(world)
    assert totals(report) == {"dead": 1, "unaccounted": 1}
    assert f"{world.route.dead_letter_topic}/0/1" in report.books.unaccounted[0].why


async def test_a_letter_elsewhere_than_the_claim_says_is_pointed_at(world: World) -> None:
    record = (await world.produce(1))[0]
    await world.write_letter(record, "target_rejected")
    await world.die(record)
    await world.commit_all()
    world.transport.log.remove(Position(world.route.dead_letter_topic, 0, 1))
    report = await audit(world)
    assert totals(report) == {"unaccounted": 1}
    assert report.books.unaccounted[0].why.endswith(f"another copy is {world.route.dead_letter_topic}/0/0")


async def test_a_key_conflict_is_dead_not_a_duplicate(world: World) -> None:
    first, second = await world.produce(2, event_id="same")
    await world.complete(first)
    await world.write_letter(second, "key_conflict")
    await world.commit_all()
    assert totals(await audit(world)) == {"completed": 1, "dead": 1}


async def test_a_dead_letter_still_counts_after_its_claim_expired(world: World) -> None:
    records = await world.produce(2)
    await world.die(records[0])
    await world.complete(records[1])
    await world.commit_all()
    await world.clock.sleep_ms(TTL_MS + 1)
    report = await audit(world)
    assert totals(report) == {"dead": 1, "forgotten": 1}
    assert not report.books.balanced()
    assert report.books.balanced(allow_forgotten=True)
    assert (await audit(world, AuditRange(since_ms=world.clock.now_ms() - report.forgotten_after_ms))).books.balanced()


async def test_a_duplicate_needs_its_original(world: World) -> None:
    """Broken on purpose: a claim left by another log of the same name."""
    first, _ = await world.produce(2, event_id="same")
    await world.complete(first)
    await world.commit_all()
    assert totals(await audit(world)) == {"completed": 1, "duplicate": 1}
    world.transport.log.remove(first.position)
    report = await audit(world)
    assert totals(report) == {"unaccounted": 1}
    assert str(first.position) in report.books.unaccounted[0].why


async def test_an_original_that_retention_removed_still_speaks(world: World) -> None:
    first, _ = await world.produce(2, event_id="same")
    await world.complete(first)
    await world.commit_all()
    world.transport.log.trim(TopicPartition(world.route.topic, 0), before=1)
    report = await audit(world)
    assert totals(report) == {"duplicate": 1}
    assert report.not_in_log == 1


async def test_lost_claims_are_unaccounted_not_pending(world: World) -> None:
    """W3, FLUSHALL: nothing proves that the work was done."""
    for record in await world.produce(3):
        await world.complete(record)
    await world.commit_all()
    world.store.forget_all()
    assert totals(await audit(world)) == {"unaccounted": 3}


async def test_a_replay_moves_dead_to_completed(world: World) -> None:
    letter = read_dead_letter(await world.die((await world.produce(1))[0]))
    await world.commit_all()
    assert totals(await audit(world)) == {"dead": 1}
    now_ms = world.clock.now_ms()
    copy = write_redrive(letter, topic=world.route.redrive_topic, replay_id="rp-1", now_ms=now_ms)
    (record,) = await world.write([copy])
    assert totals(await audit(world)) == {"dead": 1}
    await world.claim(record)
    assert totals(await audit(world)) == {"in_progress": 1}
    await world.clock.sleep_ms(60_000)
    await world.complete(record)
    assert totals(await audit(world)) == {"completed": 1}


async def test_ranges(world: World) -> None:
    await world.produce(10, partition=0)
    await world.clock.sleep_ms(1_000)
    cut_ms = world.clock.now_ms()
    await world.produce(10, partition=1)
    for wanted, count in [
        (AuditRange(), 20),
        (AuditRange(partition=1), 10),
        (AuditRange(partition=0, from_offset=2, to_offset=5), 3),
        (AuditRange(from_offset=100), 0),
        (AuditRange(since_ms=cut_ms), 10),
        (AuditRange(until_ms=cut_ms), 10),
        (AuditRange(since_ms=cut_ms, until_ms=cut_ms), 0),
    ]:
        report = await audit(world, wanted)
        assert report.books.produced.total() == count, wanted
        assert report.books.balanced(expect_drained=False)
    with pytest.raises(NotFoundError, match="no partition 9"):
        await audit(world, AuditRange(partition=9))


async def test_more_records_than_one_round_trip(world: World) -> None:
    for record in await world.produce(5_500):
        if record.offset % 3:
            await world.complete(record)
    await world.commit_all()
    seen: list[tuple[int, int]] = []
    report = await audit(world, progress=lambda done, total: seen.append((done, total)))
    assert totals(report) == {"completed": 3_666, "unaccounted": 1_834}
    assert len(report.books.unaccounted) == 1_000, "listed up to a bound, counted all"
    assert seen[-1] == (5_500, 5_500)


async def test_missing_results_are_found_and_repeated_ones_counted(world: World) -> None:
    one, two, three = await world.produce(3)
    await world.complete(one, output=True)
    await world.complete(two)
    await world.complete(three, output=True)
    again = (await world.read_all(world.route.output_topic))[0]
    await world.write([OutgoingRecord(again.topic, again.value, again.key, again.headers, 0)])
    await world.write([OutgoingRecord(again.topic, b"stray", b"k", [("ce_id", b"nobody.out")], 0)])
    report = await audit(world, outputs=True)
    assert report.outputs is not None
    assert report.outputs.missing.kept == [two.position]
    assert (report.outputs.repeated, report.outputs.unexpected) == (1, 1)


async def test_results_of_records_without_event_id_go_by_their_place(world: World) -> None:
    (bare,) = await world.write([OutgoingRecord(world.route.topic, b"v", b"k", [], 0)])
    await world.complete(bare, output=True)
    report = await audit(world, outputs=True)
    assert report.outputs is not None
    assert (report.outputs.expected, report.outputs.missing.count) == (1, 0)
    assert output_id(None, Position("t", 0, 7)) == "t/0/7.out"


async def test_outputs_of_a_route_without_are_refused(world: World) -> None:
    world.route = replace(world.route, output_topic=None)
    with pytest.raises(UsageError, match=r"route\.output"):
        await audit(world, outputs=True)


async def test_entries_feed_the_reconciliation(world: World) -> None:
    done, dead, twin_of_done = *(await world.produce(2)), (await world.produce(1, event_id="o-0"))[0]
    await world.complete(done)
    await world.die(dead, "target_timeout")
    await world.commit_all()
    entries: list[BookEntry] = []
    report = await audit(world, on_entry=entries.append)
    assert Counter(entry.outcome for entry in entries) == {
        Outcome.COMPLETED: 1,
        Outcome.DEAD: 1,
        Outcome.DUPLICATE: 1,
    }
    assert next(entry for entry in entries if entry.outcome is Outcome.DEAD).code == "target_timeout"
    lines = [
        TargetLine(1, "/shop/orders#o-0", origin=done.position),
        TargetLine(2, "/shop/orders#o-1", origin=dead.position),
        TargetLine(3, "later", origin=Position(world.route.topic, 0, 999)),
    ]
    result = reconcile(entries, lines, topic=world.route.topic, covers=report.covers)
    assert result.balanced
    assert (result.foreign, len(result.uncertain)) == (1, 1)
    assert twin_of_done.offset == 2


async def test_a_missing_topic_is_named() -> None:
    world = World.in_memory()
    world.reader = world.transport.reader()
    with pytest.raises(TopicMissingError):
        await audit(world)


def test_origin_packs_and_unpacks_by_topic() -> None:
    assert unpack_origin(pack_origin("a", 3, 2**40), "a") == Position("a", 3, 2**40)
    assert unpack_origin(pack_origin("a", 3, 7), "b") is None
    assert unpack_origin(b"", "a") is None


MOVES = ["complete", "die", "retry", "park", "skip", "claim"]


@given(moves=st.lists(st.sampled_from(MOVES), max_size=12), committed=st.integers(0, 12))
def test_the_books_add_up_and_flag_exactly_the_skipped(moves: list[str], committed: int) -> None:
    """Whatever a worker did: each record is counted once, and only what it really dropped is unaccounted."""

    async def story() -> None:
        world = await World.in_memory().start()
        records: list[Record] = await world.produce(len(moves))
        for record, move in zip(records, moves, strict=True):
            if move == "complete":
                await world.complete(record)
            elif move == "die":
                await world.die(record)
            elif move == "retry":
                await world.to_retry(record)
            elif move == "park":
                await world.park(record)
            elif move == "claim":
                await world.claim(record)
        passed = min(committed, len(moves))
        if passed:
            await world.commit({TopicPartition(world.route.topic, 0): passed})
        report = await audit(world)
        assert report.books.adds_up
        dropped = [n for n in range(passed) if moves[n] in ("skip", "claim")]
        assert [one.position.offset for one in report.books.unaccounted] == dropped
        assert report.books.balanced(expect_drained=False) == (not dropped)
        assert report.books.total(Outcome.COMPLETED) == moves.count("complete")
        assert report.books.total(Outcome.DEAD) == moves.count("die")

    asyncio.run(story())


def test_first_look_without_claim() -> None:
    at = Position("t", 0, 5)
    assert first_look(at, None, committed=5) is Outcome.PENDING
    assert not isinstance(first_look(at, None, committed=6), Outcome)
