"""Many messages in one POST: what is sent, what becomes of each, and who goes alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from http_batch_service import (
    AGAIN,
    BATCH_TYPE,
    FIRST,
    all_of,
    context,
    in_turn,
    message,
    messages,
    outcomes,
    service,
    taken,
)
from http_labs import MESSAGE, server, target_at
from http_peers import PATIENCE_S

from broker_bridge.errors import (
    DeliveryError,
    OutputInvalidError,
    RejectedError,
    RetryLaterError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnreachableError,
)
from broker_bridge.message import Message, Position


async def test_the_batch_on_the_wire() -> None:
    bare: Message[Any] = Message(None, None, (), Position("t", 0, 1), 0, "kafka://t/0/1")
    token = context(1, token=1_795_507_200_000_000)
    headers = {"Authorization": "Bearer x", "Content-Type": "application/vnd.shop+json"}
    async with service(all_of(200, []), headers=headers) as (target, found):
        await outcomes(target, [MESSAGE, bare], token)
    ((full, empty),) = found.batches
    assert full == {
        "specversion": "1.0",
        "id": "o-1",
        "source": "urn:orders#eu",
        "type": "shop.OrderPlaced",
        "time": "2026-11-24T08:00:00.000Z",
        "subject": "customer-7",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "datacontenttype": "application/json",
        "idempotencykey": "urn:orders%23eu#o-1",
        "bridgeattempt": 1,
        "bridgecrashes": 0,
        "bridgetoken": "1795507200000000",
        "bridgeorigin": "orders.placed/3/41",
        "data": MESSAGE.value,
    }
    assert empty == {
        "specversion": "1.0",
        "id": "t/0/1",
        "source": "kafka://t",
        "type": "kafka.record",
        "datacontenttype": "application/json",
        "idempotencykey": "kafka://t/0/1",
        "bridgeattempt": 1,
        "bridgecrashes": 0,
        "bridgetoken": "1795507200000000",
        "bridgeorigin": "t/0/1",
        "data": None,
    }
    sent = {name.lower(): value for name, value in found.headers[0].items()}
    assert (sent["content-type"], sent["authorization"]) == (BATCH_TYPE, "Bearer x")
    assert not any(name.startswith(("ce-", "bridge-", "idempotency")) for name in sent)


async def test_each_message_gets_its_own_answer_from_one_request() -> None:
    async with service() as (target, found):
        assert await outcomes(target, messages(50)) == [number * 2 for number in range(50)]
    assert [len(batch) for batch in found.batches] == [50]
    assert found.singles == []


async def test_no_batch_is_longer_than_it_may_be_and_none_waits_to_be_full() -> None:
    async with service(batch=20) as (target, found):
        assert await outcomes(target, messages(50)) == [number * 2 for number in range(50)]
        assert await outcomes(target, messages(3)) == [0, 2, 4]
    assert sorted(len(batch) for batch in found.batches) == [3, 10, 20, 20]


async def test_without_company_or_without_the_setting_a_message_is_a_single_delivery() -> None:
    async with service() as (target, found):
        assert await outcomes(target, messages(1)) == ["alone"]
    async with service(batch=1) as (target, other):
        assert await outcomes(target, messages(5)) == ["alone"] * 5
    assert (found.batches, other.batches) == ([], [])


async def test_only_first_tries_go_together() -> None:
    """A message that ends its target, or makes it late, fails alone from its second try on."""
    given = messages(4)
    async with service() as (target, found):
        assert await outcomes(target, given, AGAIN) == ["alone"] * 4
        assert await outcomes(target, given, context(1, crashes=1)) == ["alone"] * 4
        assert await outcomes(target, [replace(each, replay_id="rp-1") for each in given], FIRST) == ["alone"] * 4
    assert found.batches == []
    assert found.attempts == ["2"] * 4 + ["1"] * 8


async def test_one_idempotency_key_is_not_twice_in_a_batch() -> None:
    given = [message(1), message(2), message(1), message(3)]
    async with service() as (target, found):
        assert await outcomes(target, given) == [2, 4, 2, 6]
    assert sorted([event["data"]["n"] for event in batch] for batch in found.batches) == [[1, 2], [1, 3]]


async def test_large_messages_share_no_request() -> None:
    large = [replace(message(number), value={"n": number, "text": "x" * 400_000}) for number in range(5)]
    async with service() as (target, found):
        app_limit = await outcomes(target, large)
    assert app_limit == [0, 2, 4, 6, "alone"]
    assert [len(batch) for batch in found.batches] == [2, 2]


RESULTS: list[tuple[dict[str, Any], type[DeliveryError], str, int | None]] = [
    ({"status": 422, "problem": {"code": "card_declined"}}, RejectedError, "card_declined", None),
    ({"status": 400}, RejectedError, "http_400", None),
    ({"status": 303}, RejectedError, "http_303", None),
    ({"status": 409}, RetryLaterError, "http_409", None),
    ({"status": 429, "retry_after": 7}, RetryLaterError, "http_429", 7_000),
    ({"status": 503, "retry_after": "7"}, RetryLaterError, "http_503", 7_000),
    ({"status": 503, "problem": ["odd"]}, TargetUnavailableError, "http_503", None),
    ({"status": 500, "problem": {"code": "boom"}, "retry_after": True}, TargetUnavailableError, "boom", None),
    ({"status": 401}, TargetUnavailableError, "http_401", None),
    ({"status": 408}, TargetTimeoutError, "http_408", None),
    ({"status": "200"}, TargetUnavailableError, "no_result", None),
    ({"status": True}, TargetUnavailableError, "no_result", None),
    ({"status": 100}, TargetUnavailableError, "no_result", None),
    ({"status": 600}, TargetUnavailableError, "no_result", None),
    ({"status": 10**400}, TargetUnavailableError, "no_result", None),
    ({}, TargetUnavailableError, "no_result", None),
]


@pytest.mark.parametrize(("result", "expected", "code", "wait_ms"), RESULTS)
async def test_a_result_means_what_it_means_as_an_answer(
    result: dict[str, Any], expected: type[DeliveryError], code: str, wait_ms: int | None
) -> None:
    def one_is_different(events: list[dict[str, Any]]) -> web.StreamResponse:
        done = [{"idempotencykey": e["idempotencykey"], "status": 200} for e in events]
        return web.json_response([done[0], {"idempotencykey": "k-1"} | result, *done[2:]], status=207)

    async with service(one_is_different) as (target, found):
        first, error, *rest = await outcomes(target, messages(4))
    assert (first, rest, found.singles) == (None, [None, None], [])
    assert (type(error), error.target_code, error.retry_after_ms) == (expected, code, wait_ms)


async def test_who_is_left_out_or_told_of_in_two_ways_does_not_know_and_strangers_count_for_nothing() -> None:
    answer = [
        {"idempotencykey": "k-0", "status": 200, "result": "done"},
        {"idempotencykey": "k-1", "status": 200},
        {"idempotencykey": "k-1", "status": 422},
        {"idempotencykey": "k-2", "status": 200, "result": "twice"},
        {"idempotencykey": "k-2", "status": 200, "result": "twice"},
        {"idempotencykey": "stranger", "status": 422},
        {"idempotencykey": ["k-3"], "status": 200},
        {"status": 200},
        "k-3",
        None,
    ]
    async with service(all_of(200, answer)) as (target, found):
        done, contradicted, twice, missing = await outcomes(target, messages(4))
    assert (done, twice, found.singles) == ("done", "twice", [])
    for error in (contradicted, missing):
        assert isinstance(error, TargetUnavailableError)
        assert (error.target_code, error.spends_attempt, error.retriable) == ("no_result", True, True)
    assert contradicted is not missing


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422, 302])
async def test_a_batch_that_is_refused_for_one_of_them_costs_the_others_nothing(status: int) -> None:
    async with service(all_of(status, {"code": "bad_batch"}), poison=3) as (target, found):
        results = await outcomes(target, messages(8))
    error = results.pop(3)
    assert results == ["alone"] * 7
    assert isinstance(error, RejectedError)
    assert error.target_code == "poison"
    assert len(found.batches) == 1
    assert sorted(found.singles) == [f"k-{number}" for number in range(8)]
    assert set(found.attempts) == {"1"}, "it is the same try"


@pytest.mark.parametrize("body", [b"", None], ids=["empty", "no-content"])
async def test_an_answer_without_a_body_means_that_all_are_done(body: bytes | None) -> None:
    status = 204 if body is None else 202
    async with service(lambda _: web.Response(status=status, body=body)) as (target, found):
        assert await outcomes(target, messages(5)) == [None] * 5
    assert (len(found.batches), found.singles) == (1, [])


@pytest.mark.parametrize(
    "body", [b"ok", b'{"status": 200}', b"null", b"[" * 100_000, b"\xff", b"[1" + b"0" * 9_000 + b"]"]
)
async def test_who_does_not_know_of_batches_is_sent_single_messages(body: bytes) -> None:
    async with service(lambda _: web.Response(body=body)) as (target, found):
        assert await outcomes(target, messages(3)) == ["alone"] * 3
    assert len(found.batches) == 1


async def test_an_answer_may_have_as_many_bytes_as_all_its_messages_together() -> None:
    def long(events: list[dict[str, Any]]) -> web.StreamResponse:
        return web.json_response(
            [{"idempotencykey": e["idempotencykey"], "status": 200, "result": "x" * e["data"]["n"]} for e in events]
        )

    async with service(long, max_response_bytes=1_000) as (target, found):
        fits = await outcomes(target, [message(900), message(901), message(902)])
        assert [len(answer) for answer in fits] == [900, 901, 902]
        assert found.singles == []
        assert await outcomes(target, [message(1_500), message(1_501)]) == ["alone"] * 2
    async with service(long, max_response_bytes=4) as (target, _):
        results = await outcomes(target, messages(2))
    assert [type(error) for error in results] == [OutputInvalidError] * 2


async def test_an_endless_answer_to_a_batch_ends_at_the_limit() -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        if request.headers["content-type"] != BATCH_TYPE:
            return web.json_response("alone")
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)
            sent += 65_536

    async with server(answer) as (url, _), target_at(url, batch=9, concurrency=9, max_response_bytes=10_000) as target:
        assert await outcomes(target, messages(9)) == ["alone"] * 9
    assert sent < 50_000_000


WHOLE: list[tuple[int, dict[str, str], type[DeliveryError]]] = [
    (500, {}, TargetUnavailableError),
    (503, {}, TargetUnavailableError),
    (503, {"Retry-After": "7"}, RetryLaterError),
    (429, {"Retry-After": "7"}, RetryLaterError),
    (409, {}, RetryLaterError),
    (401, {}, TargetUnavailableError),
    (408, {}, TargetTimeoutError),
]


@pytest.mark.parametrize(("status", "headers", "expected"), WHOLE)
async def test_what_may_pass_is_told_to_each(
    status: int, headers: dict[str, str], expected: type[DeliveryError]
) -> None:
    async with service(all_of(status, {"code": "own"}, **headers)) as (target, found):
        results = await outcomes(target, messages(5))
    assert [(type(error), error.target_code) for error in results] == [(expected, "own")] * 5
    assert {error.retry_after_ms for error in results} == {7_000 if headers else None}
    assert len({id(error) for error in results}) == 5, "each has a traceback of its own"
    assert (len(found.batches), found.singles) == (1, [])


async def test_who_was_put_off_with_its_whole_batch_may_go_with_others_again() -> None:
    """A target that is busy must not be sent single requests instead."""
    async with service(in_turn(all_of(429), taken)) as (target, found):
        assert {type(error) for error in await outcomes(target, messages(5))} == {RetryLaterError}
        assert await outcomes(target, messages(5), AGAIN) == [0, 2, 4, 6, 8]
        assert await outcomes(target, messages(5), AGAIN) == ["alone"] * 5, "but only once for each time it was put off"
    assert len(found.batches) == 2


async def test_who_went_down_with_others_comes_back_alone() -> None:
    async with service(in_turn(all_of(500), taken)) as (target, found):
        assert {type(error) for error in await outcomes(target, messages(5))} == {TargetUnavailableError}
        assert await outcomes(target, messages(5), AGAIN) == ["alone"] * 5
    assert len(found.batches) == 1


async def test_a_batch_that_is_never_answered_is_late_for_each() -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with server(never) as (url, _), target_at(url, batch=5, concurrency=5, timeout="500ms") as target:
        results = await outcomes(target, messages(5))
    assert [type(error) for error in results] == [TargetTimeoutError] * 5


async def test_a_batch_that_reaches_nobody_spends_no_attempt_and_goes_together_again() -> None:
    async with server(lambda _: never_called()) as (url, _):
        pass
    async with target_at(url, batch=5, concurrency=5) as target:
        results = await outcomes(target, messages(5))
        assert [type(error) for error in results] == [TargetUnreachableError] * 5
        assert target._batches.takes(message(1), AGAIN)
        assert not target._batches.takes(message(9), AGAIN)


async def never_called() -> web.StreamResponse:
    raise AssertionError


async def test_who_is_cancelled_takes_nobody_along() -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        reached.set()
        await go.wait()
        return taken(json.loads(await request.read()))

    async with server(slow) as (url, _), target_at(url, batch=5, concurrency=5, timeout="60s") as target:
        tasks = [asyncio.create_task(target.deliver(each, FIRST)) for each in messages(5)]
        await asyncio.wait_for(reached.wait(), PATIENCE_S)
        tasks[2].cancel()
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(2), asyncio.CancelledError)
    assert results == [0, 2, 6, 8]


async def test_stopping_breaks_off_what_is_under_way() -> None:
    reached = asyncio.Event()

    async def never(_: web.Request) -> web.StreamResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with server(never) as (url, _), target_at(url, batch=5, concurrency=5, timeout="60s") as target:
        delivering = asyncio.create_task(outcomes(target, messages(5)))
        await asyncio.wait_for(reached.wait(), PATIENCE_S)
        await target.stop()
        results = await asyncio.wait_for(delivering, PATIENCE_S)
    assert [type(error) for error in results] == [TargetUnavailableError] * 5
