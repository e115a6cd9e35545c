"""Dead letters as an operator sees them: each with what became of its message since."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from replay_world import World

from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.core.letter_filter import DecodeFields
from broker_bridge.core.letter_groups import (
    DISTINCT_KEYS_COUNTED,
    GROUPS_KEPT,
    RELEASES_KEPT,
    LetterGroup,
    LetterGroups,
)
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.errors import MalformedError, NotFoundError, TopicMissingError, UsageError
from broker_bridge.message import Header, OutgoingRecord, Record
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.transport.base import TopicSpec

ANY = Selection()


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


def letters_of(world: World) -> DeadLetters:
    return DeadLetters(reader=world.reader, store=world.store, route=world.route)


async def states_of(world: World, selection: Selection = ANY) -> dict[str, LetterState]:
    found: dict[str, LetterState] = {}
    async for batch in letters_of(world).browse(selection):
        found |= {f"{one.letter.position.partition}/{one.letter.position.offset}": one.state for one in batch}
    return found


async def send_back(world: World, letter, replay_id: str):
    redrive = write_redrive(
        read_dead_letter(letter), topic=world.route.redrive_topic, replay_id=replay_id, now_ms=world.clock.now_ms()
    )
    return (await world.write([redrive]))[0]


async def test_the_state_follows_the_claim(world: World) -> None:
    record = (await world.produce(1))[0]
    first = await world.die(record)
    assert await states_of(world) == {"0/0": LetterState.WAITING}

    copy = await send_back(world, first, "rp-1")
    assert await states_of(world) == {"0/0": LetterState.WAITING}, "in the lane, not yet claimed"
    await world.claim(copy)
    assert await states_of(world) == {"0/0": LetterState.REPLAYING}

    second = await world.die(await send_back(world, first, "rp-2"))
    assert second is None, "the lease of the first replay runs"
    await world.clock.sleep_ms(31_000)
    await world.die(copy)
    assert await states_of(world) == {"0/0": LetterState.SUPERSEDED, "0/1": LetterState.DEAD_AGAIN}

    await world.complete(await send_back(world, (await world.read_all(world.route.dead_letter_topic))[1], "rp-3"))
    assert set((await states_of(world)).values()) == {LetterState.RESOLVED}


async def test_a_letter_without_its_claim_is_unknown(world: World) -> None:
    await world.die((await world.produce(1))[0])
    await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    assert await states_of(world) == {"0/0": LetterState.UNKNOWN}


async def test_a_second_letter_of_a_crash_supersedes_the_first(world: World) -> None:
    """Row 7: acked, then killed before the claim was settled; the next worker writes another letter."""
    record = (await world.produce(1))[0]
    await world.write_letter(record, "target_rejected")
    await world.die(record)
    assert await states_of(world) == {"0/0": LetterState.SUPERSEDED, "0/1": LetterState.WAITING}


async def test_a_key_conflict_is_never_waiting(world: World) -> None:
    first, second = await world.produce(2, event_id="same")
    await world.complete(first)
    await world.write_letter(second, "key_conflict")
    assert await states_of(world) == {"0/0": LetterState.CONFLICT}


async def test_filters(world: World) -> None:
    left = await world.produce(3, partition=0)
    right = await world.produce(3, partition=1, key="vip")
    for record in left:
        await world.die(record, "avro_malformed", "")
    await world.clock.sleep_ms(1_000)
    middle_ms = world.clock.now_ms()
    for record in right:
        await world.die(record)
    group = read_dead_letter((await world.read_all(world.route.dead_letter_topic))[0]).failure.fingerprint

    for selection, places in [
        (Selection(), {"0/0", "0/1", "0/2", "1/0", "1/1", "1/2"}),
        (Selection(codes=("avro_malformed",)), {"0/0", "0/1", "0/2"}),
        (Selection(target_codes=("card_expired",)), {"1/0", "1/1", "1/2"}),
        (Selection(fingerprints=(group,)), {"0/0", "0/1", "0/2"}),
        (Selection(key="vip"), {"1/0", "1/1", "1/2"}),
        (Selection(key="/shop/orders#o-1"), {"0/1"}),
        (Selection(partition=1), {"1/0", "1/1", "1/2"}),
        (Selection(from_offset=1, to_offset=2), {"0/1", "1/1"}),
        (Selection(since_ms=middle_ms), {"1/0", "1/1", "1/2"}),
        (Selection(until_ms=middle_ms), {"0/0", "0/1", "0/2"}),
        (Selection(states=("resolved",)), set()),
        (Selection(headers=("ce_source=/shop/orders", "ce_id=o-1")), {"0/1"}),
        (Selection(headers=("ce_id",), letter_from=1), {"0/1", "0/2", "1/1", "1/2"}),
        (Selection(headers=("nope",)), set()),
        (Selection(letter_from=1, letter_to=2, partition=1), {"1/1"}),
        (Selection(states=("waiting",), partition=0, from_offset=2), {"0/2"}),
    ]:
        assert set(await states_of(world, selection)) == places, selection


def number_in(value: bytes, _: object) -> dict[str, object]:
    """Values of the world are ``value 7``."""
    if value.startswith(b"\x00"):
        raise MalformedError("the value ends too early")
    return {"number": int(value.split()[1]), "kind": "odd" if int(value.split()[1]) % 2 else "even"}


async def test_an_expression_chooses_by_decoded_fields_and_tells_what_it_could_not_see(world: World) -> None:
    for record in [
        *await world.produce(4),
        *await world.produce(1, value=b"\x00"),
        *await world.produce(1, partition=1),
    ]:
        await world.die(record)
    letters = DeadLetters(reader=world.reader, store=world.store, route=world.route, decode=number_in)
    chosen = Selection(where='number >= 1 and kind == "odd" or letter.offset == 4 and kind == "odd"')
    found = [one.letter.value async for batch in letters.browse(chosen) for one in batch]
    assert sorted(found) == [b"value 1", b"value 3", b"value 5"]
    assert (letters.not_compared.undecodable, letters.not_compared.incomparable) == (1, 0)
    assert "dlq/0/4: avro_malformed" in letters.not_compared.first_undecodable

    by_header_only = Selection(where='header["ce_id"] == "o-4"')
    assert [len(batch) async for batch in letters_with(world, by_header_only, no_decoder)] == [1], "nothing was decoded"
    with pytest.raises(UsageError, match="values are not decoded here"):
        await letters_of(world).groups(chosen)


def no_decoder(*_: object) -> dict[str, object]:
    raise AssertionError("decoded")


async def letters_with(world: World, selection: Selection, decode: DecodeFields):
    letters = DeadLetters(reader=world.reader, store=world.store, route=world.route, decode=decode)
    async for batch in letters.browse(selection):
        yield batch


async def test_another_topic_is_browsed_as_the_routes_own(world: World) -> None:
    admin = world.transport.admin()
    await admin.ensure([TopicSpec("other.dlq", 1)])
    done, dead, fresh = await world.produce(3, partition=1)
    await world.complete(done)
    await world.die(dead)

    def connect(record: Record, **changes: object) -> list[Header]:
        told = {"topic": record.topic, "partition": record.partition, "offset": record.offset, **changes}
        told["exception.class.name"] = "a.B"
        return [*record.headers, *((f"__connect.errors.{name}", str(text).encode()) for name, text in told.items())]

    for headers in (
        *(connect(record) for record in (done, dead, fresh)),
        connect(fresh, topic="another"),
        connect(fresh, partition=7),
        [],
    ):
        await world.write([OutgoingRecord("other.dlq", b"v", b"k", headers, 0, world.clock.now_ms())])
    route = world.route.reading("other.dlq")
    assert world.route.reading(None) is world.route.reading(world.route.dead_letter_topic) is world.route
    letters = DeadLetters(reader=world.reader, store=world.store, route=route, clock=world.clock)
    found = [
        (one.letter.origin.offset, one.state) async for batch in letters.browse(Selection(partition=1)) for one in batch
    ]
    assert found == [(0, LetterState.RESOLVED), (1, LetterState.SUPERSEDED), (2, LetterState.WAITING)]
    assert letters.not_compared.elsewhere == 1, "of this partition; the others are not even meant"
    assert letters.not_compared.sentences()[0].startswith("1 letters were left out: they came from another topic")

    everything = DeadLetters(reader=world.reader, store=world.store, route=route, clock=world.clock, whoever=True)
    kinds = await everything.groups(Selection())
    assert [(one.code, one.target_code, one.count) for one in kinds] == [
        ("foreign_failure", "a.B", 5),
        ("unknown", "", 1),
    ]
    home = DeadLetters(reader=world.reader, store=world.store, route=route, clock=world.clock)
    assert sum(one.count for one in await home.groups(Selection())) == 3
    assert home.not_compared.elsewhere == 3


def test_a_selection_is_read_back_from_its_json() -> None:
    given = Selection(
        codes=("a", "b"),
        key="k",
        headers=("ce_type=x", "trace"),
        partition=0,
        letter_from=3,
        since_ms=7,
        states=("waiting",),
        where='amount > 10 and letter.code == "a"',
    )
    assert Selection.from_json(json.loads(json.dumps(given.as_json()))) == given
    assert Selection.from_json({}) == Selection()
    for wrong, why in [
        ({"colour": "red"}, "no 'colour'"),
        ({"codes": "a"}, "codes of a selection"),
        ({"codes": [1]}, "codes of a selection"),
        ({"partition": True}, "partition of a selection"),
        ({"key": 3}, "key of a selection"),
        ({"where": "amount >"}, "ends too early"),
        ({"states": ["lost"]}, "no such state"),
        ({"headers": ["=x"]}, "names no header"),
    ]:
        with pytest.raises(UsageError, match=why):
            Selection.from_json(wrong)


def test_a_state_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no such state: lost"):
        Selection(states=("lost",))


async def test_groups_count_by_kind_and_state(world: World) -> None:
    records = await world.produce(5, key="vip")
    for record in records[:3]:
        await world.die(record)
    await world.die(records[3], "avro_malformed", "")
    letter = (await world.read_all(world.route.dead_letter_topic))[0]
    await world.complete(await send_back(world, letter, "rp-1"))

    rejected, malformed = await letters_of(world).groups(Selection())
    assert (rejected.code, rejected.target_code, rejected.count, rejected.waiting) == (
        "target_rejected",
        "card_expired",
        3,
        2,
    )
    assert rejected.states == {LetterState.WAITING: 2, LetterState.RESOLVED: 1}
    assert rejected.distinct_keys == "1"
    assert str(rejected.example).endswith(".dlq/0/2")
    assert (malformed.code, malformed.count) == ("avro_malformed", 1)


async def test_distinct_keys_are_bounded(world: World) -> None:
    letter = read_dead_letter(await world.die((await world.produce(1))[0]))
    group = LetterGroup("f", "c", "")
    for n in range(DISTINCT_KEYS_COUNTED + 50):
        group.add(replace(letter, key=str(n).encode(), release=f"r{n}"), LetterState.WAITING)
    assert group.distinct_keys == "1000+"
    assert len(group.keys) == DISTINCT_KEYS_COUNTED + 1
    assert len(group.releases) == RELEASES_KEPT + 1
    assert group.releases.total() == group.count == group.waiting

    groups = LetterGroups()
    for n in range(GROUPS_KEPT + 50):
        groups.add(replace(letter, failure=replace(letter.failure, target_code=str(n))), LetterState.RESOLVED)
    found = groups.most_waiting_first()
    assert len(found) == GROUPS_KEPT + 1
    assert (found[0].code, found[0].count) == ("(others)", 50)


async def test_show_one_or_say_where_they_are(world: World) -> None:
    await world.die((await world.produce(1))[0])
    shown = await letters_of(world).show(0, 0)
    assert shown.state is LetterState.WAITING
    assert shown.letter.value == b"value 0"
    with pytest.raises(NotFoundError, match="offsets 0 to 0"):
        await letters_of(world).show(0, 7)
    with pytest.raises(NotFoundError, match="no such partition"):
        await letters_of(world).show(9, 0)


async def test_more_letters_than_one_round_trip(world: World) -> None:
    for record in await world.produce(2_300):
        await world.die(record)
    found = await states_of(world)
    assert len(found) == 2_300
    assert set(found.values()) == {LetterState.WAITING}


async def test_a_missing_topic_is_named() -> None:
    world = World.in_memory()
    world.reader = world.transport.reader()
    with pytest.raises(TopicMissingError):
        await letters_of(world).groups(Selection())
