"""Exporting and importing dead letters: every byte comes back, once, and what can be replayed can be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from letter_files import (
    bring_back,
    bytes_of,
    dead_letters,
    dead_records,
    export,
    importer,
    redrive,
    retention,
    states,
)
from replay_world import LEASE_MS, World, a_route

from broker_bridge import headers as h
from broker_bridge.core.claim import ClaimRequest, pack_origin
from broker_bridge.core.dead_letter import read_dead_letter
from broker_bridge.core.identity import claim_key
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.errors import (
    ImportRefusedError,
    MalformedError,
)
from broker_bridge.message import OutgoingRecord
from broker_bridge.replay.export import ExportedFile
from broker_bridge.replay.import_letters import ImportReport, check_file


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


some_bytes = st.none() | st.binary(max_size=12)
bridge_names = st.sampled_from([h.ORIGIN, h.HOPS, h.ERROR_CODE, h.FIRST_FAILURE_MS, h.CE_ID, h.CE_SOURCE, "tag"])
outgoing = st.builds(
    OutgoingRecord,
    st.just(a_route().dead_letter_topic),
    some_bytes,
    some_bytes,
    st.lists(st.tuples(bridge_names, some_bytes), max_size=4),
    st.integers(0, 1),
    st.integers(0, 2**40),
)


@given(written=st.lists(outgoing, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_byte_of_every_letter_comes_back_once(written: list[OutgoingRecord], tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "letters"
        path.unlink(missing_ok=True)
        one, other = await World.in_memory().start(), await World.in_memory().start()
        await one.write(written)
        await export(one, path)
        before = bytes_of(await dead_letters(one))
        once = list(dict.fromkeys(before))  # what is equal in every byte is one letter
        report = await bring_back(other, path, batch=3)
        assert (report.imported, report.already_there) == (len(once), len(before) - len(once))
        assert bytes_of(await dead_letters(other)) == once
        assert (await bring_back(other, path)).imported == 0
        assert (await bring_back(one, path)).imported == 0

    asyncio.run(scenario())


async def test_states_and_decoded_values_are_told(world: World, tmp_path: Path) -> None:
    done, broken = await world.produce(2)
    letter = await world.die(done)
    assert letter is not None
    await world.complete(await redrive(world, read_dead_letter(letter)))
    await world.die(broken)

    def decode(value: bytes, _headers: object) -> object:
        if value == broken.value:
            raise MalformedError("no")
        return {"text": value.decode()}

    told = await export(world, tmp_path / "x", decode=decode)
    assert told == {LetterState.RESOLVED: 1, LetterState.WAITING: 1}
    lines = (tmp_path / "x").read_text().splitlines()
    assert '"value_json":{"text":"value 0"}' in lines[1]
    assert "value_json" not in lines[2]


async def test_after_retention_letters_wait_again_and_can_be_replayed(world: World, tmp_path: Path) -> None:
    records = await dead_records(world, 3)
    await export(world, tmp_path / "x")
    await retention(world)
    with ExportedFile.open(tmp_path / "x") as file:
        preview = await importer(world).preview(file)
    assert preview.counts == {"letters": 6, "imported": 6, "already_there": 0, "moved": 0, "claim_expired": 0}
    assert await dead_letters(world) == []
    report = await bring_back(world, tmp_path / "x", batch=2)
    assert (report.imported, report.moved, report.claim_expired) == (6, 6, 0)
    assert await states(world) == [LetterState.WAITING] * 6
    for letter in await dead_letters(world):
        assert await world.complete(await redrive(world, read_dead_letter(letter)))
    assert not any([await world.complete(record) for record in records]), "claims still know them"
    again = await bring_back(world, tmp_path / "x")
    assert (again.imported, again.moved) == (0, 0)
    assert await states(world) == [LetterState.RESOLVED] * 6


async def test_of_two_deaths_the_later_one_waits(world: World, tmp_path: Path) -> None:
    (record,) = await world.produce(1)
    first = await world.die(record)
    assert first is not None
    await world.clock.sleep_ms(10)
    await world.die(await redrive(world, read_dead_letter(first)))
    await export(world, tmp_path / "x")
    await export(world, tmp_path / "first", Selection(until_ms=world.clock.now_ms()))
    await retention(world)
    # The older one alone: nothing of the message is left that is newer, so it can be replayed.
    await bring_back(world, tmp_path / "first")
    assert await states(world) == [LetterState.WAITING]
    report = await bring_back(world, tmp_path / "x", batch=1)
    assert (report.imported, report.already_there, report.moved) == (1, 1, 1)
    assert await states(world) == [LetterState.SUPERSEDED, LetterState.DEAD_AGAIN]


@pytest.mark.parametrize("batch", [1, 2])
async def test_of_two_deaths_in_one_file_the_later_one_waits(world: World, tmp_path: Path, batch: int) -> None:
    (record,) = await world.produce(1)
    first = await world.die(record)
    assert first is not None
    await world.die(await redrive(world, read_dead_letter(first)))
    await export(world, tmp_path / "x")
    await retention(world)
    await bring_back(world, tmp_path / "x", batch=batch)
    assert await states(world) == [LetterState.SUPERSEDED, LetterState.DEAD_AGAIN]


async def test_a_later_death_that_is_there_keeps_the_claim(world: World, tmp_path: Path) -> None:
    (record,) = await world.produce(1)
    first = await world.die(record)
    assert first is not None
    await export(world, tmp_path / "x")
    await world.die(await redrive(world, read_dead_letter(first)))
    world.transport.log.remove(first.position)  # type: ignore[attr-defined]
    report = await bring_back(world, tmp_path / "x")
    assert (report.imported, report.moved) == (1, 0)
    assert await states(world) == [LetterState.DEAD_AGAIN, LetterState.SUPERSEDED]


async def test_a_place_that_holds_another_message_is_gone_too(world: World, tmp_path: Path) -> None:
    """The topic was made anew, and filled from offset 0 on."""
    await dead_records(world, 1)
    await export(world, tmp_path / "x")
    log = world.transport.log  # type: ignore[attr-defined]
    for _, partition in log.partitions(world.route.dead_letter_topic):
        partition.records.clear()
        partition.start = partition.end = 0
    for record in [*await world.produce(1), *await world.produce(1, partition=1)]:
        await world.die(record)
    assert (await bring_back(world, tmp_path / "x")).moved == 2
    assert await states(world) == [LetterState.WAITING] * 4


async def test_what_completed_or_is_in_hand_is_left_alone(world: World, tmp_path: Path) -> None:
    done, in_hand = await world.produce(2)
    letters = [await world.die(record) for record in (done, in_hand)]
    await export(world, tmp_path / "x")
    copies = [await redrive(world, read_dead_letter(letter)) for letter in letters if letter]
    await world.complete(copies[0])
    assert await world.claim(copies[1]) is not None
    await retention(world)
    assert (await bring_back(world, tmp_path / "x")).moved == 0
    assert await states(world) == [LetterState.RESOLVED, LetterState.REPLAYING]


async def test_without_claims_nothing_is_claimed(world: World, tmp_path: Path) -> None:
    """Another cluster, or claims that have expired."""
    await dead_records(world, 1)
    await export(world, tmp_path / "x")
    other = await World.in_memory().start()
    report = await bring_back(other, tmp_path / "x")
    assert (report.imported, report.claim_expired, report.moved) == (2, 2, 0)
    assert await states(other) == [LetterState.UNKNOWN] * 2
    letter = read_dead_letter((await dead_letters(other))[0])
    assert await other.complete(await redrive(other, letter)), "replayed by name, it is executed"


async def test_a_claim_of_another_payload_is_never_moved(world: World, tmp_path: Path) -> None:
    twin = (await world.produce(1, event_id="twin"))[0]
    other = (await world.produce(1, event_id="twin"))[0]
    await world.die(twin)
    await world.write_letter(other, "key_conflict")
    await world.write_letter(other, "target_rejected")
    await export(world, tmp_path / "x", Selection(codes=("key_conflict",)))
    await export(world, tmp_path / "y", Selection(from_offset=1))
    await retention(world)
    assert (await bring_back(world, tmp_path / "x")).moved == 0
    assert (await bring_back(world, tmp_path / "y")).moved == 0
    assert await states(world) == [LetterState.CONFLICT, LetterState.SUPERSEDED]


# -- refused


async def test_only_into_the_own_dead_letters(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await export(world, tmp_path / "x")
    renamed, elsewhere = replace(a_route(), group="billing"), a_route("other-")
    with ExportedFile.open(tmp_path / "x") as file:
        check_file(file, world.route, from_group=None)
        check_file(file, renamed, from_group="payments")
        with pytest.raises(ImportRefusedError, match="source topic"):
            check_file(file, elsewhere, from_group="payments")
        with pytest.raises(ImportRefusedError, match=r"of group 'payments', route 'payments' has 'billing'") as caught:
            check_file(file, renamed, from_group=None)
        assert "--from-group payments" in caught.value.remedy
        with pytest.raises(ImportRefusedError, match="--from-group names 'x'"):
            check_file(file, world.route, from_group="x")


async def test_letters_of_other_systems_are_refused(world: World, tmp_path: Path) -> None:
    elsewhere = "connect-errors"
    world.transport.log.create_topic(elsewhere, 1)  # type: ignore[attr-defined]
    ours = await world.die((await world.produce(1))[0])
    assert ours is not None
    await world.write([OutgoingRecord(elsewhere, b"x", b"k", list(ours.headers), 0)])
    await world.write([OutgoingRecord(elsewhere, b"x", b"k", [("__connect.errors.topic", b"orders.placed")], 0)])
    world.route = replace(world.route, dead_letter_topic=elsewhere)
    await export(world, tmp_path / "x")
    world.route = a_route()
    with pytest.raises(ImportRefusedError, match="line 3: Kafka Connect wrote this letter"):
        await bring_back(world, tmp_path / "x")
    assert len(await dead_letters(world)) == 1


async def test_a_topic_with_fewer_partitions_is_refused(world: World, tmp_path: Path) -> None:
    await dead_records(world, 1)
    await export(world, tmp_path / "x")
    narrow = World.in_memory()
    narrow.partitions = 1
    await narrow.start()
    with pytest.raises(ImportRefusedError, match="has 1 partitions, a letter of the file is of partition 1"):
        await bring_back(narrow, tmp_path / "x")
    assert await dead_letters(narrow) == []


async def test_two_imports_at_once_and_one_that_was_killed(world: World, tmp_path: Path) -> None:
    await dead_records(world, 20)
    await export(world, tmp_path / "x")
    await retention(world)

    async def slow(phase: str, _counts: Mapping[str, int]) -> None:
        for _ in range(40 if phase == "begun" else 0):
            await world.clock.sleep_ms(1_000)

    results = await asyncio.gather(
        bring_back(world, tmp_path / "x", record=slow, batch=3),
        bring_back(world, tmp_path / "x", batch=3),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [ImportReport, ImportRefusedError]
    assert len(await dead_letters(world)) == 40
    # Killed: its lease stays, and is not renewed.
    key = claim_key(f"replay-run import {world.route.dead_letter_topic}")
    left = ClaimRequest(key, b"12345678", b"run-plan", pack_origin("import " + world.route.dead_letter_topic, 0, 0))
    await world.store.claim(world.route.group, [left], lease_ms=LEASE_MS)
    assert (await bring_back(world, tmp_path / "x")).already_there == 40
