"""The history of one dead letter: deaths, replays and discards, with who and why."""

from __future__ import annotations

import pytest
from replay_world import World

from broker_bridge import headers as h
from broker_bridge.cli.letter_view import ShownLetter, letter_details
from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, SettleKind
from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.core.operation import Action, Operation
from broker_bridge.message import OutgoingRecord, Record
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.letter_history import LetterHistory, history_of
from broker_bridge.replay.operations_log import OperationsLog
from broker_bridge.transport.base import TopicSpec

CONNECT = [
    ("__connect.errors.topic", b"orders.placed"),
    ("__connect.errors.partition", b"1"),
    ("__connect.errors.offset", b"0"),
    ("__connect.errors.exception.class.name", b"a.B"),
    ("__connect.errors.exception.stacktrace", b"at a.B(C.java)"),
]


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


@pytest.fixture
async def operations(world: World):
    log = OperationsLog(world.transport, world.reader, replication=1)
    yield log
    await log.stop()


async def history(world: World, letter: Record, operations: OperationsLog | None, **more: int) -> LetterHistory:
    return await history_of(
        read_dead_letter(letter), reader=world.reader, route=world.route, operations=operations, **more
    )


async def send_back(world: World, letter: Record, plan_id: str) -> Record:
    made = write_redrive(
        read_dead_letter(letter), topic=world.route.redrive_topic, replay_id=plan_id, now_ms=world.clock.now_ms()
    )
    return (await world.write([made]))[0]


def operation(world: World, action: Action, plan_id: str, why: str, **details: object) -> Operation:
    return Operation(
        id="1", at_ms=world.clock.now_ms(), action=action, by="ada", host="ops1", why=why,
        route=world.route.name, plan_id=plan_id, details=details,
    )  # fmt: skip


async def shown(world: World, place: tuple[int, int], topic: str | None = None, **options: bool) -> dict:
    letters = DeadLetters(reader=world.reader, store=world.store, route=world.route.reading(topic), clock=world.clock)
    browsed = await letters.show(*place)
    found = ShownLetter("payments", browsed, None, "", LetterHistory())

    def suggest(*parts: str, own: bool = False) -> str:
        return " ".join(parts)

    return letter_details(found, suggest, **options)


async def test_deaths_replays_and_discards_in_their_order(world: World, operations: OperationsLog) -> None:
    record, other = await world.produce(2, key="customer-7")
    await world.clock.sleep_ms(1_000)
    first = await world.die(record)
    await world.die(other)
    await world.clock.sleep_ms(1_000)
    await operations.record(operation(world, Action.REPLAY_PLANNED, "rp-1", "cards work"))
    await operations.record(operation(world, Action.REPLAY_PLANNED, "rp-9", "another one"))
    await world.clock.sleep_ms(1_000)
    copy = await send_back(world, first, "rp-1")
    await world.clock.sleep_ms(1_000)
    second = await world.die(copy)
    await world.clock.sleep_ms(1_000)
    places = {"phase": "places", "places": ["1/0-900", "0/1-2,7"]}
    await operations.record(operation(world, Action.LETTERS_DISCARDED, "discard-1", "refunded", **places))
    for details in ({"places": "0/0-9"}, {"places": ["0/x", "0/-", 3]}, {}):
        await operations.record(operation(world, Action.LETTERS_DISCARDED, "discard-2", "no", **details))

    found = await history(world, second, operations)
    happened = [event.what for event in found.events]
    assert happened == ["produced", "failed", "died", "sent_back", "failed", "died", "discarded"]
    (back,) = (event for event in found.events if event.what == "sent_back")
    assert (back.plan_id, back.by, back.why) == ("rp-1", "ada@ops1", "cards work")
    (discarded,) = (event for event in found.events if event.what == "discarded")
    assert (discarded.by, discarded.why, discarded.where) == ("ada@ops1", "refunded", str(second.position))
    deaths = [event.where for event in found.events if event.what == "died"]
    assert deaths == [str(first.position), str(second.position)]
    assert await history(world, first, operations) == found, "whichever letter of the message is asked for"
    assert [event.what for event in (await history(world, first, None)).events].count("discarded") == 0


async def test_a_long_partition_is_searched_at_its_end_and_that_is_told(world: World) -> None:
    records = await world.produce(30)
    letters = [await world.die(record) for record in records]
    found = await history(world, letters[0], None, searched=10)
    assert found.not_searched == 20
    assert [event.what for event in found.events if event.what == "died"] == ["died"]


@pytest.mark.parametrize(
    ("detail", "state", "next_step"),
    [
        (b"", "resolved", "Nothing to do."),
        (STALE_DETAIL, "stale", "--order as-is --force --why needed although it is older"),
        (DISCARDED_DETAIL, "discarded", "--letter-from 0 --letter-to 1 --force --why discarded by mistake"),
    ],
)
async def test_what_to_do_next_where_the_claim_has_ended(
    world: World, detail: bytes, state: str, next_step: str
) -> None:
    letter = await world.die((await world.produce(1))[0])
    held = await world.claim(await send_back(world, letter, "rp-1"))
    await world._settle(held(SettleKind.COMPLETE, detail=detail))
    details = await shown(world, (0, 0))
    assert details["state"] == state
    assert next_step in details["next"]


async def test_a_letter_of_another_system(world: World) -> None:
    (record,) = await world.produce(1, partition=1)
    topic = "connect-dlq"
    admin = world.transport.admin()
    await admin.ensure([TopicSpec(topic, 1)])
    headers = [*record.headers, *CONNECT]
    await world.write([OutgoingRecord(topic, record.value, record.key, headers, 0, world.clock.now_ms())])
    details = await shown(world, (0, 0), topic, stacktrace=True)
    assert (details["state"], details["writer"], details["origin"]) == ("waiting", "Kafka Connect", "orders.placed/1/0")
    assert details["stacktrace"] == "at a.B(C.java)"
    assert details["problem"]["title"] == "Failed in Kafka Connect"
    assert not any(name.startswith("__connect") for name, _ in details["headers"])
    assert "stacktrace" not in await shown(world, (0, 0), topic)

    await world.complete(record)
    assert (await shown(world, (0, 0), topic))["state"] == "resolved", "the same identity as the message itself"
    await world.clock.sleep_ms(world.route.claim_ttl_ms + 1)
    assert (await shown(world, (0, 0), topic))["state"] == "unknown", "too old for a claim to be remembered"

    lost_headers = [("__streams.errors.topic", b"orders.placed"), ("__streams.errors.exception", b"a.B: c")]
    await world.write([OutgoingRecord(topic, b"v", b"k", lost_headers, 0, world.clock.now_ms())])
    details = await shown(world, (0, 1), topic)
    assert details["state"] == "unknown"
    assert "dropped the message's own headers" in details["next"]
    assert h.CE_ID not in dict(details["headers"])
