"""Discarding dead letters: recorded first, decided by claims, the same end whatever happens in the middle."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from replay_world import World

from broker_bridge import headers as h
from broker_bridge.core.claim import ClaimState, SettleKind, pack_place
from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.core.discard import Fate, Place, read_place_texts
from broker_bridge.core.identity import payload_fingerprint
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.errors import OperationUnrecordedError, StoreError
from broker_bridge.idempotency.memory import Failure
from broker_bridge.message import Record
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.discard import Discarder, DiscardReport

ANY = Selection()
_ids = itertools.count()


@dataclass
class Journal:
    """The operations topic; fails at a phase for as often as ordered."""

    phases: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    counts: dict[str, Mapping[str, int]] = field(default_factory=dict)
    fails_at: str = ""
    error: Exception | None = None

    async def record(self, phase: str, counts: Mapping[str, int], texts: Sequence[str]) -> None:
        await asyncio.sleep(0)
        if phase == self.fails_at and self.error is not None:
            error, self.error = self.error, None
            raise error
        self.phases.append(phase)
        self.counts[phase] = counts
        self.places += read_place_texts(texts)


class Killed(BaseException):
    """What SIGKILL is to a process: nothing that follows runs."""


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


def letters_of(world: World) -> DeadLetters:
    return DeadLetters(reader=world.reader, store=world.store, route=world.route)


def discarder(world: World, journal: Journal) -> Discarder:
    return Discarder(
        letters=letters_of(world),
        store=world.store,
        route=world.route,
        clock=world.clock,
        record=journal.record,
        discard_id=f"discard-{next(_ids)}",
    )


async def discard(
    world: World, journal: Journal | None = None, *, allow_expired: bool = False, selection: Selection = ANY
) -> DiscardReport:
    return await discarder(world, journal or Journal()).discard(selection, allow_expired=allow_expired)


async def states(world: World) -> Counter[LetterState]:
    return Counter([one.state async for batch in letters_of(world).browse(ANY) for one in batch])


async def dead_records(world: World, count: int) -> list[Record]:
    records = [record for partition in (0, 1) for record in await world.produce(count, partition=partition)]
    letters = [await world.die(record) for record in records]
    return [letter for letter in letters if letter is not None]


async def redrive(world: World, letter: Record) -> Record:
    """A replayed copy of a letter in the redrive lane."""
    copy = write_redrive(read_dead_letter(letter), topic=world.route.redrive_topic, replay_id="rp-1", now_ms=1)
    return (await world.write([copy]))[0]


async def test_letters_are_recorded_and_discarded(world: World) -> None:
    letters = await dead_records(world, 3)
    journal = Journal()
    preview = await discarder(world, journal).preview(ANY, allow_expired=False)
    assert preview.fates == {Fate.TO_DISCARD: 6}
    assert journal.phases == []
    assert await states(world) == {LetterState.WAITING: 6}

    report = await discard(world, journal)
    assert report.fates == {Fate.DISCARDED: 6}
    assert await states(world) == {LetterState.DISCARDED: 6}
    assert journal.phases == ["begun", "places", "ended"]
    assert journal.counts["ended"] == {"selected": 6, "discarded": 6}
    assert sorted(journal.places) == [Place(letter.partition, letter.offset) for letter in letters]
    assert (await discard(world)).fates == {Fate.ALREADY_DISCARDED: 6}


async def test_only_what_was_selected(world: World) -> None:
    await dead_records(world, 2)
    assert (await discard(world, selection=Selection(partition=1))).fates == {Fate.DISCARDED: 2}
    assert await states(world) == {LetterState.WAITING: 2, LetterState.DISCARDED: 2}


async def test_what_is_not_waiting_is_left_alone(world: World) -> None:
    done, again, in_hand, conflict, unknown = await world.produce(5)
    letters = [await world.die(record) for record in (done, again, in_hand)]
    copies = [await redrive(world, letter) for letter in letters if letter]
    await world.complete(copies[0])
    await world.die(copies[1])
    holds = await world.claim(copies[2])
    await world.write_letter(conflict, "key_conflict")
    await world.write_letter(unknown, "target_rejected")
    assert holds is not None
    report = await discard(world)
    assert report.fates == {
        Fate.DISCARDED: 1,
        Fate.COMPLETED: 1,
        Fate.SUPERSEDED: 1,
        Fate.IN_HAND: 1,
        Fate.KEY_CONFLICT: 1,
        Fate.CLAIM_EXPIRED: 1,
    }
    assert report.counts["selected"] == 6


async def test_an_expired_claim_is_written_anew_where_that_is_allowed(world: World) -> None:
    letters = await dead_records(world, 1)
    await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    assert (await discard(world)).fates == {Fate.CLAIM_EXPIRED: 2}
    # Another letter of the same message: it is discarded with it.
    await world.write_letter(letters[0], "target_rejected")
    report = await discard(world, allow_expired=True)
    assert report.fates == {Fate.DISCARDED: 2, Fate.ALREADY_DISCARDED: 1}
    assert await states(world) == {LetterState.DISCARDED: 3}


async def test_a_replayed_copy_on_its_way_is_dropped(world: World) -> None:
    (letter, *_) = await dead_records(world, 1)
    await redrive(world, letter)
    assert (await discard(world)).fates == {Fate.DISCARDED: 2}
    assert await world.work_redrive() == (0, 0, 1)


async def test_an_edited_letter_is_known_by_its_first_payload(world: World) -> None:
    (record,) = await world.produce(1)
    first = await world.die(record)
    assert first is not None
    copy = await redrive(world, first)
    held = await world.claim(copy)
    assert held is not None
    changed = (h.EDITED_FROM, payload_fingerprint(record.value).hex().encode())
    edited = await world.write_letter(replace(copy, value=b"edited", headers=[*copy.headers, changed]), "x")
    await world._settle(held(SettleKind.DEAD, detail=pack_place(edited.partition, edited.offset)))
    assert (await discard(world)).fates == {Fate.DISCARDED: 1, Fate.SUPERSEDED: 1}
    (claim,) = await world.store.inspect(world.route.group, [letters_of(world).claim_key_of(read_dead_letter(edited))])
    assert claim is not None
    assert claim.fingerprint == payload_fingerprint(record.value), "who reads the record again finds it done"
    assert not await world.complete(record)


async def test_a_reading_in_the_source_again_is_dropped(world: World) -> None:
    (record,) = await world.produce(1)
    await world.die(record)
    await discard(world)
    assert not await world.complete(record)


async def test_two_discards_at_once_discard_each_letter_once(world: World) -> None:
    letters = await dead_records(world, 40)
    one, other = Journal(), Journal()
    reports = await asyncio.gather(discard(world, one), discard(world, other))
    assert sum(report.fates[Fate.DISCARDED] for report in reports) == len(letters)
    assert sum(report.fates[Fate.ALREADY_DISCARDED] for report in reports) == len(letters)
    assert sorted(one.places + other.places) == sorted(Place(each.partition, each.offset) for each in letters)
    assert await states(world) == {LetterState.DISCARDED: len(letters)}


async def test_a_discard_and_a_replay_at_once_end_each_message_once(world: World) -> None:
    letters = await dead_records(world, 40)
    for letter in letters:
        await redrive(world, letter)
    report, (completed, died, skipped) = await asyncio.gather(discard(world), world.work_redrive())
    assert died == 0
    found = await states(world)
    assert found[LetterState.DISCARDED] == report.fates[Fate.DISCARDED] == skipped
    assert found[LetterState.RESOLVED] == completed
    assert completed + skipped == len(letters)


async def test_what_cannot_be_recorded_is_not_discarded(world: World) -> None:
    await dead_records(world, 2)
    for phase in ("begun", "places"):
        journal = Journal(fails_at=phase, error=OperationUnrecordedError("no"))
        with pytest.raises(OperationUnrecordedError):
            await discard(world, journal)
        assert await states(world) == {LetterState.WAITING: 4}
    assert (await discard(world)).fates == {Fate.DISCARDED: 4}


@pytest.mark.parametrize("phase", ["begun", "places", "ended"])
async def test_killed_at_any_point_and_again_ends_the_same(world: World, phase: str) -> None:
    letters = await dead_records(world, 3)
    journal = Journal(fails_at=phase, error=Killed())  # type: ignore[arg-type]
    with pytest.raises(Killed):
        await discard(world, journal)
    started_ms = world.clock.now_ms()
    report = await discard(world, journal)
    assert report.fates == {Fate.ALREADY_DISCARDED if phase == "ended" else Fate.DISCARDED: 6}
    assert await states(world) == {LetterState.DISCARDED: 6}
    assert set(journal.places) == {Place(letter.partition, letter.offset) for letter in letters}
    waited_ms = world.clock.now_ms() - started_ms
    assert (waited_ms > 0) == (phase == "places"), "only claims that were left in hand are waited for"


@pytest.mark.parametrize("how", list(Failure))
@pytest.mark.parametrize("calls_before", range(4))
async def test_redis_lost_at_any_call_and_again_ends_the_same(world: World, how: Failure, calls_before: int) -> None:
    await dead_records(world, 3)
    journal = Journal()
    store, calls = world.store, 0
    original = store._call  # type: ignore[attr-defined]

    def count(apply: object) -> object:
        nonlocal calls
        calls += 1
        if calls == calls_before + 1:
            store.fail_next(how=how)  # type: ignore[attr-defined]
        return original(apply)

    store._call = count  # type: ignore[attr-defined]
    try:
        await discard(world, journal)
    except StoreError:
        pass
    finally:
        store._call = original  # type: ignore[attr-defined]
    assert (await discard(world, journal)).fates.keys() <= {Fate.DISCARDED, Fate.ALREADY_DISCARDED}
    assert await states(world) == {LetterState.DISCARDED: 6}
    assert len(set(journal.places)) == 6


async def test_stopped_after_the_batch_in_flight(world: World) -> None:
    await dead_records(world, 2)
    stop = asyncio.Event()
    stop.set()
    journal = Journal()
    report = await discarder(world, journal).discard(ANY, allow_expired=False, stop=stop)
    assert report.was_stopped
    assert journal.phases[-1] == "ended"


async def test_a_claim_that_is_lost_meanwhile_is_not_counted_as_discarded(world: World) -> None:
    """The record took longer than the lease, and the message was read in the source again."""
    (record,) = await world.produce(1)
    await world.die(record)

    class Slow(Journal):
        async def record(self, phase: str, counts: Mapping[str, int], texts: Sequence[str]) -> None:
            if phase == "places":
                await world.clock.sleep_ms(60_000)
                assert await world.claim(record) is not None
            await super().record(phase, counts, texts)

    assert (await discard(world, Slow())).fates == {Fate.IN_HAND: 1}
    (claim,) = await world.store.inspect(
        world.route.group,
        [letters_of(world).claim_key_of(read_dead_letter((await world.read_all(world.route.dead_letter_topic))[0]))],
    )
    assert claim is not None
    assert claim.state is ClaimState.IN_PROGRESS
