"""The audit's headings that tell how a message came to its end, or why it still waits; memory that does not grow."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from replay_world import START_MS, TTL_MS, ManualClock, World, a_route

from broker_bridge import headers as h
from broker_bridge.core.audit import LISTED, Listing, Outcome, forgotten_after_ms
from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, ClaimView, SettleKind
from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.core.retry_record import write_retry
from broker_bridge.errors import AuditError
from broker_bridge.message import Header, Position, Record, TopicPartition
from broker_bridge.replay import audit_doubts
from broker_bridge.replay.audit import EVERYTHING, Auditor, AuditRange, AuditReport
from broker_bridge.replay.scratch import Scratch, in_step


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


async def audit(world: World, wanted: AuditRange = EVERYTHING) -> AuditReport:
    return await Auditor(reader=world.reader, store=world.store, route=world.route, clock=world.clock).audit(wanted)


def totals(report: AuditReport) -> dict[str, int]:
    assert report.books.adds_up
    return {outcome.value: report.books.total(outcome) for outcome in Outcome if report.books.total(outcome)}


async def settled_as(world: World, record: Record, detail: bytes) -> None:
    held = await world.claim(record)
    assert held is not None
    await world._settle(held(SettleKind.COMPLETE, detail=detail))


async def replayed(world: World, record: Record, *, force: str = "") -> Record:
    """The record's dead letter, sent back to the redrive lane."""
    found = await world.die(record)
    assert found is not None
    letter = read_dead_letter(found)
    copy = write_redrive(letter, topic=world.route.redrive_topic, replay_id="rp-1", now_ms=world.clock.now_ms())
    if force:
        forced = (h.IDEMPOTENCY_KEY, f"{letter.idempotency_key}#force:rp".encode())
        copy = replace(copy, headers=[*copy.headers, forced])
    return (await world.write([copy]))[0]


# -- endings that the claim tells


@pytest.mark.parametrize(
    ("detail", "heading"), [(DISCARDED_DETAIL, "discarded"), (STALE_DETAIL, "stale"), (b"a result", "completed")]
)
async def test_how_a_replay_ended_is_told_by_its_claim(world: World, detail: bytes, heading: str) -> None:
    record = (await world.produce(1))[0]
    await settled_as(world, await replayed(world, record), detail)
    await world.commit_all()
    report = await audit(world)
    assert totals(report) == {heading: 1}
    assert report.books.balanced(expect_drained=True)


async def test_a_record_discarded_and_then_forgotten_by_redis_is_dead_by_its_letter(world: World) -> None:
    record = (await world.produce(1))[0]
    await settled_as(world, await replayed(world, record), DISCARDED_DETAIL)
    await world.commit_all()
    await world.commit_all(world.route.redrive_topic)
    world.store.forget_all()
    assert totals(await audit(world)) == {"dead": 1}


async def test_a_message_that_died_of_its_deadline_is_expired(world: World) -> None:
    late, refused, lost_claim = await world.produce(3)
    await world.die(late, "deadline_passed", "")
    await world.die(refused)
    await world.write_letter(lost_claim, "deadline_passed")
    await world.commit_all()
    report = await audit(world)
    assert totals(report) == {"dead": 1, "expired": 2}
    assert report.books.balanced(expect_drained=True)


async def test_an_expired_message_needs_its_letter(world: World) -> None:
    """Broken on purpose: the letter is gone."""
    await world.die((await world.produce(1))[0], "deadline_passed", "")
    await world.commit_all()
    world.transport.log.remove(Position(world.route.dead_letter_topic, 0, 0))
    report = await audit(world)
    assert totals(report) == {"unaccounted": 1}
    assert report.books.unaccounted[0].command[:4] == ("replay", "plan", "--source", "topic")


# -- waiting in the lanes


async def test_parked_is_what_waits_untried_and_only_as_long_as_it_waits(world: World) -> None:
    parked, retried = await world.produce(2)
    await world.park(parked)
    await world.to_retry(retried)
    await world.commit_all()
    report = await audit(world)
    assert totals(report) == {"parked": 1, "in_retry": 1}
    assert not report.books.drained
    await world.commit_all(*world.route.retry_topics)
    assert totals(await audit(world)) == {"unaccounted": 2}


async def test_a_parked_message_that_was_tried_since_is_in_retry(world: World) -> None:
    record = (await world.produce(1))[0]
    await world.park(record)
    await world.park(record, first_failure_ms=1)
    await world.commit_all()
    assert totals(await audit(world)) == {"in_retry": 1}


async def test_a_copy_that_only_holds_a_key_is_no_proof_that_the_message_comes_again(world: World) -> None:
    record = (await world.produce(1))[0]
    await world.to_retry(record, copy=False)
    holds = write_retry(
        record,
        topic=world.route.retry_topics[0],
        origin=record.position,
        origin_timestamp_ms=record.timestamp_ms,
        group=world.route.group,
        attempt=0,
        due_ms=0,
        now_ms=world.clock.now_ms(),
        first_failure_ms=None,
        held=True,
    )
    await world.write([holds])
    await world.commit_all()
    assert totals(await audit(world)) == {"unaccounted": 1}


async def test_a_forced_replay_is_no_evidence_for_the_message_itself(world: World) -> None:
    """It has a key, and so a claim and a fate, of its own."""
    record = (await world.produce(1))[0]
    await replayed(world, record, force="yes")
    await world.commit_all()
    world.store.forget_all()
    world.transport.log.remove(Position(world.route.dead_letter_topic, 0, 0))
    assert totals(await audit(world)) == {"unaccounted": 1}


# -- forgotten


async def test_only_what_is_old_enough_is_forgotten(world: World) -> None:
    await world.produce(1)
    await world.clock.sleep_ms(forgotten_after_ms(TTL_MS) - 1_800_000)
    await world.produce(1)
    await world.commit_all()
    assert totals(await audit(world)) == {"unaccounted": 2}
    await world.clock.sleep_ms(1_800_000)
    report = await audit(world)
    assert totals(report) == {"forgotten": 1, "unaccounted": 1}
    assert [one.position.offset for one in report.books.unaccounted] == [1]
    assert not report.books.balanced(allow_forgotten=True), "the young one is lost all the same"


async def test_what_left_any_trace_is_never_forgotten(world: World) -> None:
    dead, parked, twin = [*(await world.produce(2)), (await world.produce(1, event_id="o-0"))[0]]
    await world.die(dead)
    await world.park(parked)
    await world.commit_all()
    await world.clock.sleep_ms(TTL_MS - 600_000)
    report = await audit(world)
    assert totals(report) == {"dead": 1, "duplicate": 1, "parked": 1}
    assert twin.offset == 2


def test_the_margin_is_a_tenth_and_at_most_an_hour() -> None:
    assert forgotten_after_ms(600_000) == 540_000
    assert forgotten_after_ms(TTL_MS) == TTL_MS - 3_600_000


# -- many


async def test_many_duplicates_are_settled_by_reading_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fetching the originals one by one would take too long; what was fetched is settled alike."""
    first, *_ = await world.produce(6, event_id="same")
    await world.complete(first)
    other = (await world.produce(1, event_id="other"))[0]
    await world.complete(other)
    await world.produce(2, event_id="other")
    world.transport.log.remove(other.position)
    await world.commit_all()
    expected = {"completed": 1, "duplicate": 5, "unaccounted": 2}
    assert totals(await audit(world)) == expected
    monkeypatch.setattr(audit_doubts, "FEW", 0)
    report = await audit(world)
    assert totals(report) == expected
    assert report.books.unaccounted[0].command == (), "no replay takes it"


class EndlessReader:
    """``count`` records in each of the source and the dead letters, made while they are read."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._route = a_route()

    async def offsets(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        full = {self._route.topic, self._route.dead_letter_topic}
        return {TopicPartition(topic, 0): (0, self._count if topic in full else 0) for topic in topics}

    async def group_offsets(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int | None]:
        return {TopicPartition(topic, 0): self._count for topic in topics}

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        for tp, first in start.items():
            for offset in range(first, end[tp], 500):
                yield [self._record(tp.topic, at) for at in range(offset, min(offset + 500, end[tp]))]

    def _record(self, topic: str, at: int) -> Record:
        found: list[Header] = [(h.CE_ID, b"o-%d" % at), (h.CE_SOURCE, b"/shop")]
        if topic != self._route.topic:
            found += [(h.ORIGIN, f"{self._route.topic}/0/{at}".encode()), (h.ERROR_CODE, b"target_rejected")]
        return Record(topic, 0, at, START_MS, b"k", b"v" * 100, found)


class EmptyStore:
    """Redis after FLUSHALL."""

    async def inspect(self, group: str, keys: Sequence[bytes]) -> list[ClaimView | None]:
        return [None] * len(keys)


async def peak_bytes(count: int) -> int:
    auditor = Auditor(reader=EndlessReader(count), store=EmptyStore(), route=a_route(), clock=ManualClock())
    gc.collect()
    tracemalloc.start()
    try:
        report = await auditor.audit()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert totals(report) == {"dead": count}
    return peak


async def test_memory_does_not_grow_with_the_records_in_doubt() -> None:
    """Python's own memory; SQLite's is bounded by its cache. Objects for what is in doubt take 7 MB for 12 000."""
    few, many = await peak_bytes(6_000), await peak_bytes(18_000)
    assert many < few + 1_500_000, (few, many)


def test_no_room_for_the_temporary_file_is_told() -> None:
    """SQLite's own limit stands for a full disk: the error is the same."""
    scratch = Scratch("CREATE TABLE row (text TEXT); PRAGMA max_page_count = 8;")
    for _ in range(999):
        scratch.add("INSERT INTO row VALUES (?)", ("x" * 100,))
    with pytest.raises(AuditError, match="SQLITE_TMPDIR"):
        scratch.add("INSERT INTO row VALUES (?)", ("x" * 100,))
    scratch.close()


def test_the_temporary_file_has_no_name() -> None:
    """So nothing is left of it, however the process ends."""
    scratch = Scratch("CREATE TABLE row (text TEXT);")
    try:
        for number in range(200_000):
            scratch.add("INSERT INTO row VALUES (?)", (f"{number:0100d}",))
        assert scratch.count("SELECT count(*) FROM row") == 200_000
        opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        files = [path for path in opened if "etilqs" in path]
        assert files
        assert all(path.endswith(" (deleted)") for path in files)
    finally:
        scratch.close()


def test_a_listing_counts_all_and_keeps_some() -> None:
    listing: Listing[int] = Listing()
    assert not listing
    for number in range(LISTED + 5):
        listing.add(number)
    assert (len(listing), list(listing)[-1]) == (LISTED + 5, LISTED - 1)


def test_two_sorted_sides_are_read_in_step() -> None:
    left, right = [(1, "a"), (1, "b"), (3, "c")], [(1, "x"), (2, "y"), (3, "z"), (4, "w")]
    found = [(value, [r[1] for r in lefts], [r[1] for r in rights]) for value, lefts, rights in in_step(left, right)]
    assert found == [(1, ["a", "b"], ["x"]), (2, [], ["y"]), (3, ["c"], ["z"]), (4, [], ["w"])]
    assert [value for value, *_ in in_step([], right)] == [1, 2, 3, 4]
    assert [value for value, *_ in in_step(left, [])] == [1, 3]
