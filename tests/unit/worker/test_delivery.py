"""The main path: every message once, in order per key, and what becomes of failures."""

from __future__ import annotations

from typing import Any

import pytest
from orders import GROUP, ORDER, TOPIC, place, shop

from broker_bridge import Context, Message, OutgoingRecord, RejectedError, RetryLaterError
from broker_bridge import headers as h
from broker_bridge.errors import TargetUnavailableError
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual


def test_every_order_is_delivered_once_and_in_order_per_customer() -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            for number in range(100):
                await place(world, number, customer=f"c{number % 7}")
            await world.settled()

    run_virtual(scenario())
    assert sorted(seen) == [f"o-{n:04d}" for n in range(100)]
    for customer in range(7):
        own = [found for found in seen if int(found[2:]) % 7 == customer]
        assert own == sorted(own)


def test_the_same_event_sent_twice_is_handled_once() -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1, 1, 2)
            await world.settled()
            await place(world, 2)
            await world.settled()

    run_virtual(scenario())
    assert seen == ["o-0001", "o-0002"]


def test_a_short_failure_is_retried_in_place_and_holds_only_its_key() -> None:
    seen: list[tuple[str, int]] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append((message.value["order_id"], context.attempt))
        if message.value["order_id"] == "o-0001" and context.attempt < 3:
            raise ValueError("not yet")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 3, "base": "1s"})) as world:
            await place(world, 1, 2, customer="slow")
            await place(world, 3, 4, customer="quick")
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert [entry for entry in seen if entry[0] in ("o-0001", "o-0002")] == [
        ("o-0001", 1),
        ("o-0001", 2),
        ("o-0001", 3),
        ("o-0002", 1),
    ]
    assert seen.index(("o-0004", 1)) < seen.index(("o-0001", 2))


def test_a_long_failure_goes_through_the_lanes_and_later_messages_of_the_key_park_behind() -> None:
    seen: list[tuple[str, int, int]] = []
    clock = LoopClock()

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        seen.append((message.value["order_id"], context.attempt, clock.now_ms()))
        if message.value["order_id"] == "o-0001" and context.attempt < 4:
            raise ValueError("not yet")

    async def scenario() -> None:
        policies = {"retry": {"in_place": 2, "base": "10ms", "lanes": ["5s", "1m"]}}
        async with InMemoryBridge(shop(handle, **policies)) as world:
            await place(world, 1, 2, 3, customer="held")
            await place(world, 9, customer="free")
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    held = [(found, attempt) for found, attempt, _ in seen if found != "o-0009"]
    assert held == [("o-0001", n) for n in (1, 2, 3, 4)] + [("o-0002", 1), ("o-0003", 1)]
    times = {(found, attempt): at_ms for found, attempt, at_ms in seen}
    assert times["o-0001", 3] - times["o-0001", 2] >= 5_000
    assert times["o-0001", 4] - times["o-0001", 3] >= 60_000
    assert times["o-0009", 1] < times["o-0001", 3]


def test_a_message_that_never_succeeds_is_dead_lettered_after_its_attempts_and_frees_its_key() -> None:
    attempts: list[tuple[str, int]] = []

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        attempts.append((message.value["order_id"], context.attempt))
        if message.value["order_id"] == "o-0001":
            raise KeyError("customer")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 3, "lanes": ["2s"]})) as world:
            await place(world, 1, 2)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            (source,) = [record for record in world.records(TOPIC) if record.offset == 0]
            assert (letter.key, letter.value, letter.timestamp_ms) == (source.key, source.value, source.timestamp_ms)
            assert list(letter.headers) == list(source.headers)
            assert letter.origin == source.position
            assert letter.failure.code == "handler_failed"
            assert letter.failure.target_code == "KeyError"
            assert letter.failure.attempts == 4
            assert letter.failure.message == ""

    run_virtual(scenario())
    assert attempts == [("o-0001", 1), ("o-0001", 2), ("o-0001", 3), ("o-0001", 4), ("o-0002", 1)]


def test_a_refusal_is_dead_lettered_at_once() -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["order_id"])
        if message.value["note"] == "card-declined":
            raise RejectedError("the card was declined", target_code="card_declined")

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, dead_letter={"message": True})) as world:
            await place(world, 1, note="card-declined")
            await place(world, 2)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert (letter.failure.code, letter.failure.target_code) == ("target_rejected", "card_declined")
            assert letter.failure.message == "the card was declined"

    run_virtual(scenario())
    assert seen == ["o-0001", "o-0002"]


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"not avro", "avro_malformed"), (b"\0\0\x0f\x42\x3f", "schema_unknown"), (b"", "avro_malformed")],
)
def test_bytes_that_do_not_decode_are_dead_lettered_and_the_partition_goes_on(value: bytes, code: str) -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle), partitions=1) as world:
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([OutgoingRecord(TOPIC, value, key=b"c1", headers=[("x", None), ("x", b"\xff")])])
            await place(world, 2)
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert letter.failure.code == code
            assert (letter.value, list(letter.headers)) == (value, [("x", None), ("x", b"\xff")])

    run_virtual(scenario())
    assert seen == ["o-0002"]


def test_answers_are_published_under_the_output_contract() -> None:
    async def handle(message: Message[dict[str, Any]], _: Context) -> dict[str, Any]:
        return {
            "payment_id": "p-" + message.value["order_id"],
            "order_id": message.value["order_id"],
            "customer_id": message.value["customer_id"],
            "amount_cents": message.value["amount_cents"],
            "currency": message.value["currency"],
            "sequence": 1,
            "captured_at": 1_790_000_000_000,
        }

    output = {"topic": "payments.captured", "subject": "shop.PaymentCaptured", "key": "order_id", "source": "/pay"}

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, output=output)) as world:
            await place(world, 7)
            await world.settled()
            (value,) = world.values("payments.captured")
            assert value is not None
            assert value["payment_id"] == "p-o-0007"
            (record,) = world.records("payments.captured")
            assert record.key == b"o-0007"
            assert h.text_of(record.headers, h.CE_ID) == "o-0007.out"
            assert h.text_of(record.headers, h.CAUSATION_ID) == "o-0007"
            assert h.text_of(record.headers, h.CE_SOURCE) == "/pay"
            source = world.records(TOPIC)[0]
            assert h.text_of(record.headers, h.TRACEPARENT) == h.text_of(source.headers, h.TRACEPARENT)

    run_virtual(scenario())


def test_an_answer_that_does_not_fit_the_output_contract_is_dead_lettered_as_such() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> dict[str, Any]:
        return {"payment_id": 3}

    output = {"topic": "payments.captured", "subject": "shop.PaymentCaptured"}

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, output=output)) as world:
            await place(world, 1)
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["output_invalid"]
            assert world.records("payments.captured") == []

    run_virtual(scenario())


def test_a_busy_target_spends_no_attempt() -> None:
    seen: list[int] = []

    async def handle(_: Message[dict[str, Any]], context: Context) -> None:
        seen.append(context.attempt)
        if len(seen) <= 10:
            raise RetryLaterError("later", retry_after_ms=2_000)

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 2})) as world:
            await place(world, 1)
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert seen == list(range(1, 12)), (
        "a try that cost nothing may have had its effect: the next one says that it is one"
    )


def test_an_outage_pauses_the_route_spends_no_attempt_and_writes_no_dead_letter() -> None:
    clock = LoopClock()
    attempts: list[tuple[str, int]] = []
    applied: list[str] = []
    back_at_ms = 0

    async def handle(message: Message[dict[str, Any]], context: Context) -> None:
        attempts.append((message.value["order_id"], context.attempt))
        if clock.now_ms() < back_at_ms:
            raise TargetUnavailableError("connection refused")
        applied.append(message.value["order_id"])

    async def scenario() -> None:
        nonlocal back_at_ms
        back_at_ms = clock.now_ms() + 3_600_000
        async with InMemoryBridge(shop(handle, retry={"in_place": 3})) as world:
            for number in range(200):
                await place(world, number, customer=f"c{number}")
            await world.settled(within_ms=4_000_000)
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert sorted(applied) == [f"o-{n:04d}" for n in range(200)]
    assert len(attempts) < 200 + 250, "an hour of outage must not be an hour of calls"
    for order in applied:
        tries = [attempt for found, attempt in attempts if found == order]
        assert tries == list(range(1, len(tries) + 1)), "each try says which one it is"


def test_one_key_that_finds_its_target_away_is_poison_not_an_outage() -> None:
    applied: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        if message.value["customer_id"] == "bad":
            raise TargetUnavailableError("crashes on this one")
        applied.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle, retry={"in_place": 3})) as world:
            for number in range(1, 30):
                await place(world, number, customer=f"c{number}")
            await place(world, 99, customer="bad")
            await world.settled()
            (letter,) = world.dead_letters(GROUP)
            assert letter.failure.code == "target_unavailable"
            assert letter.failure.attempts == 3

    run_virtual(scenario())
    assert len(applied) == 29


def test_another_payload_under_the_same_id_is_dead_lettered_and_never_executed() -> None:
    amounts: list[int] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        amounts.append(message.value["amount_cents"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await place(world, 1)
            await world.settled()
            await place(world, 1, amount_cents=999_999)
            await world.settled()
            assert [letter.failure.code for letter in world.dead_letters(GROUP)] == ["key_conflict"]

    run_virtual(scenario())
    assert amounts == [101]


def test_the_same_payload_in_other_bytes_is_a_duplicate() -> None:
    amounts: list[int] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        amounts.append(message.value["amount_cents"])

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle), partitions=1) as world:
            await place(world, 1)
            await world.settled()
            first = world.records(TOPIC)[0]
            assert first.value is not None
            padded = _with_padded_array_block(first.value)
            assert world.codec.decode(padded).value == world.codec.decode(first.value).value
            raw = world.transport.producer()
            await raw.start()
            await raw.send_batch([OutgoingRecord(TOPIC, padded, key=first.key, headers=first.headers)])
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert amounts == [101]


def _with_padded_array_block(value: bytes) -> bytes:
    """The same order, its one-item array in the form that carries the block's size in bytes (Avro allows both)."""
    item = bytes([2]) + b"A" + bytes([2])
    plain = bytes([2]) + item + bytes([0])
    assert value.count(plain) == 1
    return value.replace(plain, bytes([1, 2 * len(item)]) + item + bytes([0]))


def test_tombstones_reach_the_handler_as_none() -> None:
    seen: list[Any] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append((message.key, message.value))

    async def scenario() -> None:
        async with InMemoryBridge(shop(handle)) as world:
            await world.producer.send(TOPIC, None, key="gone", contract=ORDER)
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert seen == [(b"gone", None)]


def test_order_none_runs_one_key_side_by_side_and_order_partition_does_not() -> None:
    def most_at_once(order_kind: str) -> int:
        running, most = 0, 0

        async def handle(_: Message[dict[str, Any]], __: Context) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await LoopClock().sleep_ms(100)
            running -= 1

        async def scenario() -> None:
            async with InMemoryBridge(shop(handle, order=order_kind, concurrency=8), partitions=1) as world:
                await place(world, *range(8), customer="c1")
                await place(world, *range(8, 16), customer="c2")
                await world.settled()

        run_virtual(scenario())
        return most

    assert most_at_once("none") == 8
    assert most_at_once("key") == 2
    assert most_at_once("partition") == 1
