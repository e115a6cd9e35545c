"""A replay never puts an older state over a newer one (I13), on the engine, with everything else in memory."""

from __future__ import annotations

from typing import Any

import pytest
from orders import GROUP, ORDER, SCHEMAS, TOPIC, order, place, shop

from broker_bridge import Bridge, Context, Message
from broker_bridge import headers as h
from broker_bridge.core.claim import STALE_DETAIL, ClaimState
from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.core.identity import claim_key, payload_fingerprint, version_key
from broker_bridge.core.lanes import LaneNames
from broker_bridge.core.newest_version import is_stale, pack_versions, unpack_version
from broker_bridge.errors import ConfigError, RejectedError, StoreError
from broker_bridge.message import OutgoingRecord
from broker_bridge.testing import InMemoryBridge, run_virtual

LANES = LaneNames(GROUP, TOPIC)


class Shelf:
    """What a target keeps of each customer: its last amount, and every one it was given. Orders in ``broken`` fail."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.given: list[int] = []
        self.broken: set[int] = set()

    async def handle(self, message: Message[dict[str, Any]], context: Context) -> None:
        amount = message.value["amount_cents"]
        if amount in self.broken:
            raise RejectedError("no")
        self.given.append(amount)
        self.last[message.value["customer_id"]] = amount


def versioned(shelf: Shelf, field: str | None = "amount_cents") -> Bridge:
    bridge = Bridge(schemas=SCHEMAS, service="test")

    async def target(message: Message[dict[str, Any]], context: Context) -> None:
        await shelf.handle(message, context)

    bridge.route(TOPIC, group=GROUP, contract=ORDER, version_field=field)(target)
    return bridge


def letters(world: InMemoryBridge) -> list[OutgoingRecord]:
    """Every dead letter as the record of a replay."""
    found = [read_dead_letter(record) for record in world.records(LANES.dead_letter)]
    return [write_redrive(letter, topic=LANES.redrive, replay_id="rp-1", now_ms=0, item=0) for letter in found]


async def send(world: InMemoryBridge, record: OutgoingRecord, order: str = "skip-stale") -> None:
    headers = [*record.headers, *([(h.ORDER, order.encode())] if order else [])]
    producer = world.transport.producer()
    await producer.start()
    await producer.send_batch([OutgoingRecord(record.topic, record.value, record.key, headers, record.partition)])
    await producer.stop()
    await world.settled()


def encoded(world: InMemoryBridge, value: dict[str, Any]) -> bytes:
    return world.codec.encode(ORDER, None, value)


def claim_of(world: InMemoryBridge, number: int) -> tuple[ClaimState, bytes]:
    found = world.store._read(GROUP, claim_key(f"test#o-{number:04d}", namespace=TOPIC))
    assert found is not None
    return found.state, found.detail


@pytest.mark.parametrize(
    ("sent_as", "last", "detail"), [("skip-stale", 102, STALE_DETAIL), ("as-is", 101, b""), ("", 101, b"")]
)
def test_an_older_version_is_turned_away_where_the_replay_asks_for_it(sent_as: str, last: int, detail: bytes) -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.broken = {101}
        async with InMemoryBridge(versioned(shelf)) as world:
            await place(world, 1, 2)
            await world.settled()
            shelf.broken = set()
            (record,) = letters(world)
            await send(world, record, sent_as)
            assert shelf.last == {"c1": last}
            assert claim_of(world, 1) == (ClaimState.COMPLETED, detail)

    run_virtual(scenario())


def test_the_newest_version_of_a_key_is_sent_and_others_of_other_keys_are_nobodys_business() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.broken = {102}
        async with InMemoryBridge(versioned(shelf)) as world:
            await place(world, 1, 2)
            await place(world, 9, customer="c2")
            await world.settled()
            shelf.broken = set()
            (record,) = letters(world)
            await send(world, record)
            assert shelf.last == {"c1": 102, "c2": 109}
            assert claim_of(world, 2) == (ClaimState.COMPLETED, b"")

    run_virtual(scenario())


def test_what_was_completed_just_before_counts_though_the_store_does_not_have_it_yet() -> None:
    """The store takes its time to write versions down, and the key is free as soon as the target has answered."""

    async def scenario() -> None:
        shelf = Shelf()
        shelf.broken = {101}
        async with InMemoryBridge(versioned(shelf)) as world:
            await place(world, 1)
            await world.settled()
            shelf.broken = set()
            (record,) = letters(world)
            advance = world.store.advance

            async def slow(group: str, versions: Any, *, ttl_ms: int) -> None:
                await world.clock.sleep_ms(20_000)
                await advance(group, versions, ttl_ms=ttl_ms)

            world.store.advance = slow  # type: ignore[method-assign]
            await place(world, 2)
            while shelf.given != [102]:
                await world.clock.sleep_ms(10)
            assert await world.store.versions(GROUP, [version_key(b"c1", namespace=TOPIC)]) == [None]
            await send(world, record)
            assert shelf.given == [102]
            assert claim_of(world, 1) == (ClaimState.COMPLETED, STALE_DETAIL)
            assert await world.store.versions(GROUP, [version_key(b"c1", namespace=TOPIC)]) == [102]

    run_virtual(scenario())


def test_without_the_store_nobody_can_tell_and_the_replay_waits() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        shelf.broken = {101}
        async with InMemoryBridge(versioned(shelf)) as world:
            await place(world, 1, 2)
            await world.settled()
            shelf.broken = set()
            (record,) = letters(world)

            away, versions = True, world.store.versions

            async def flaky(group: str, keys: Any) -> list[int | None]:
                if away:
                    raise StoreError("away")
                return await versions(group, keys)

            world.store.versions = flaky  # type: ignore[method-assign]
            producer = world.transport.producer()
            await producer.start()
            headers = [*record.headers, (h.ORDER, b"skip-stale")]
            await producer.send_batch(
                [OutgoingRecord(record.topic, record.value, record.key, headers, record.partition)]
            )
            await producer.stop()
            await world.clock.sleep_ms(5_000)
            assert shelf.given == [102]
            assert claim_of(world, 1)[0] is ClaimState.IN_PROGRESS
            away = False
            await world.settled()
            assert shelf.given == [102]
            assert claim_of(world, 1) == (ClaimState.COMPLETED, STALE_DETAIL)

    run_virtual(scenario())


def test_an_outsiders_word_on_order_is_not_heard() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        async with InMemoryBridge(versioned(shelf)) as world:
            await place(world, 5)
            await world.settled()
            value = world.records(TOPIC)[0].value
            older = encoded(world, order(1))
            assert value != older
            producer = world.transport.producer()
            await producer.start()
            headers = [("ce_id", b"x"), ("ce_source", b"/x"), (h.ORDER, b"skip-stale")]
            await producer.send_batch([OutgoingRecord(TOPIC, older, b"c1", headers, 0)])
            await producer.stop()
            await world.settled()
            assert shelf.given == [105, 101]

    run_virtual(scenario())


def test_a_route_without_a_version_field_keeps_none() -> None:
    async def scenario() -> None:
        shelf = Shelf()

        async def handle(message: Message[dict[str, Any]], context: Context) -> None:
            await shelf.handle(message, context)

        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1)
            await world.settled()
            assert await world.store.versions(GROUP, [version_key(b"c1", namespace=TOPIC)]) == [None]

    run_virtual(scenario())


@pytest.mark.parametrize("field", ["amount", "currency", "placed_at", "note", "lines"])
def test_a_field_that_is_no_whole_number_is_refused_at_start(field: str) -> None:
    async def scenario() -> None:
        async with InMemoryBridge(versioned(Shelf(), field)):
            pass

    with pytest.raises(ConfigError, match="must be an int or long"):
        run_virtual(scenario())


def test_an_edited_message_is_claimed_as_the_one_it_was() -> None:
    """Whoever reads the original again (a commit that was lost) finds it done, not in conflict."""

    async def scenario() -> None:
        shelf = Shelf()
        shelf.broken = {101}
        async with InMemoryBridge(versioned(shelf, None)) as world:
            await place(world, 1)
            await world.settled()
            (record,), (original,) = letters(world), world.records(TOPIC)
            edited = encoded(world, order(1, amount_cents=7))
            headers = [*record.headers, (h.EDITED_FROM, payload_fingerprint(original.value).hex().encode())]
            producer = world.transport.producer()
            await producer.start()
            await producer.send_batch([OutgoingRecord(record.topic, edited, record.key, headers, record.partition)])
            await world.settled()
            assert shelf.given == [7]
            await producer.send_batch(
                [OutgoingRecord(TOPIC, original.value, original.key, original.headers, original.partition)]
            )
            await producer.stop()
            await world.settled()
            assert shelf.given == [7]
            assert len(world.records(LANES.dead_letter)) == 1

    run_virtual(scenario())


@pytest.mark.parametrize("version", [-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1])
def test_versions_on_the_wire(version: int) -> None:
    assert unpack_version(pack_versions([version])) == version


def test_packed_versions_sort_as_numbers_do() -> None:
    numbers = [-(2**63), -5, 0, 3, 2**40, 2**63 - 1]
    packed = [pack_versions([number]) for number in numbers]
    assert packed == sorted(packed)
    assert unpack_version(b"short") is None


def test_without_a_version_nothing_is_stale() -> None:
    assert not is_stale(None, 5)
    assert not is_stale(5, None)
    assert not is_stale(5, 5)
    assert is_stale(4, 5)
