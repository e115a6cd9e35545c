"""The target's own list from a file, an endpoint and a topic: read whole, or refused with its place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from replay_world import World

from broker_bridge import headers as h
from broker_bridge.core.reconcile import TargetLine
from broker_bridge.errors import AuditError, NotFoundError, TopicMissingError, UsageError
from broker_bridge.message import Header, OutgoingRecord
from broker_bridge.replay.audit import EVERYTHING, Auditor, AuditRange
from broker_bridge.replay.audit_round import AuditOrder, AuditRound, audit_round
from broker_bridge.replay.target_endpoint import Resolver, checked_url, read_target_endpoint
from broker_bridge.replay.target_list import TargetList
from broker_bridge.replay.target_log import LONGEST_LINE_BYTES, parse_line, read_target_log

Handler = Callable[[web.Request], web.StreamResponse]


@asynccontextmanager
async def serving(**pages: Handler) -> AsyncIterator[str]:
    """An HTTP server with these pages, gone afterwards; its URL."""
    site = web.Application()
    for name, page in pages.items():

        async def answer(request: web.Request, page: Handler = page) -> web.StreamResponse:
            return page(request)

        site.router.add_get(f"/{name}", answer)
    runner = web.AppRunner(site)
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def saying(raw: bytes) -> AsyncIterator[str]:
    """A server that says this to whoever connects, and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/effects"
    finally:
        server.close()
        await server.wait_closed()


async def read(url: str, **options: str) -> list[TargetLine]:
    return [line async for line in read_target_endpoint(checked_url(url), **options)]


def body(text: str, **headers: str) -> Handler:
    return lambda _: web.Response(text=text, headers=headers)


# -- an endpoint


async def test_one_answer_is_read_whole_with_or_without_a_last_line_end() -> None:
    async with serving(whole=body('{"key":"a"}\n\n{"key":"b"}\n'), bare=body('{"key":"a"}\n{"key":"b"}')) as url:
        assert [(line.number, line.key) for line in await read(f"{url}/whole")] == [(1, "a"), (3, "b")]
        assert [(line.number, line.key) for line in await read(f"{url}/bare")] == [(1, "a"), (2, "b")]


async def test_pages_follow_their_link_and_lines_are_numbered_through() -> None:
    def page(request: web.Request) -> web.Response:
        number = int(request.query.get("page", "0"))
        assert request.headers["authorization"] == "Bearer s3cret"
        headers = {"link": f'</effects?page={number + 1}>; rel="next"'} if number < 2 else {}
        return web.Response(text=f'{{"key":"k{number}"}}\n', headers=headers)

    async with serving(effects=page) as url:
        found = await read(f"{url}/effects", authorization="Bearer s3cret")
    assert [(line.number, line.key) for line in found] == [(1, "k0"), (2, "k1"), (3, "k2")]


async def test_a_wrong_line_is_named_by_page_and_number_without_the_query() -> None:
    async with serving(effects=body('{"key":"a"}\n{"key":"cut')) as url:
        with pytest.raises(UsageError, match="not a line of JSON") as caught:
            await read(f"{url}/effects?token=s3cret")
        assert caught.value.where == f"{url}/effects:2"


async def test_a_line_without_end_is_not_gathered() -> None:
    async with serving(effects=body('{"key":"a"}\n' + "x" * (LONGEST_LINE_BYTES + 1))) as url:
        with pytest.raises(UsageError, match="longer than") as caught:
            await read(f"{url}/effects")
        assert caught.value.where.endswith("/effects:2")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"key":"a"}\n', "breaks off"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{"key":"a"}\n\r\n', "breaks off"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "not followed"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "answers 401"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", "packed"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
async def test_an_answer_that_is_no_list_is_told(answer: bytes, said: str) -> None:
    async with saying(answer) as url:
        with pytest.raises(AuditError, match=said) as caught:
            await read(url)
        assert caught.value.where == url


async def test_a_dead_endpoint_is_told() -> None:
    with pytest.raises(AuditError, match="cannot be reached"):
        await read("http://127.0.0.1:1/effects")


async def test_pages_that_come_round_or_lead_elsewhere_are_refused() -> None:
    round_ = body("", link='</around>; rel="next"')
    away = body("", link='<http://127.0.0.2:1/effects>; rel="next"')
    async with serving(around=round_, away=away) as url:
        with pytest.raises(AuditError, match="come round"):
            await read(f"{url}/around")
        with pytest.raises(AuditError, match="another server"):
            await read(f"{url}/away")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "effects",
        "http://",
        "http://ada:pw@shop/effects",
        "http://169.254.169.254/latest",
        "http://x:0/",
        "",
    ],
)
def test_a_url_that_is_none_or_must_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_url(url)
    assert "pw" not in str(caught.value)


async def test_a_name_of_a_link_local_address_is_not_called() -> None:
    resolver = Resolver()
    assert [one["host"] for one in await resolver.resolve("127.0.0.1", 80)] == ["127.0.0.1"]
    with pytest.raises(OSError, match="link-local"):
        await resolver.resolve("169.254.169.254", 80)
    await resolver.close()


# -- a file


def test_a_line_too_long_for_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"key":"k"}\n' + "x" * (LONGEST_LINE_BYTES + 1) + "\n")
    with pytest.raises(UsageError) as caught:
        list(read_target_log(path))
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize(
    ("field", "at_ms"),
    [
        ('"at_ms": 1500', 1_500),
        ('"at": "1970-01-01T00:00:01.5Z"', 1_500),
        ('"timestamp": "1970-01-01T01:00:01.500+01:00"', 1_500),
        ('"at": 1500.9', 1_500),
        ('"at": null', None),
        ('"other": 1', None),
    ],
)
def test_when_a_line_happened(field: str, at_ms: int | None) -> None:
    assert parse_line(f'{{"key": "k", {field}}}'.encode(), where="x:1", number=1).at_ms == at_ms


@pytest.mark.parametrize(
    "field", ['"at": "noon"', '"at": true', '"at": NaN', '"at": 1e300', '"at": -1', '"at": []', '"kind": ["applied"]']
)
def test_a_line_with_a_wrong_field_is_refused(field: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_line(f'{{"key": "k", {field}}}'.encode(), where="x:1", number=1)
    assert caught.value.where == "x:1"


# -- a topic, and all of it together


@pytest.fixture
async def world() -> World:
    return await World.in_memory().start()


async def closed(world: World, target: TargetList, wanted: AuditRange = EVERYTHING, **order: int) -> AuditRound:
    auditor = Auditor(reader=world.reader, store=world.store, route=world.route, clock=world.clock)
    return await audit_round(auditor, world.reader, world.route, AuditOrder(wanted, target=target, **order))


async def completed(world: World, count: int) -> None:
    for record in await world.produce(count):
        await world.complete(record, output=True)
    await world.commit_all()


async def test_results_in_a_topic_are_reconciled_by_what_caused_them(world: World) -> None:
    await completed(world, 3)
    results = TargetList(topic=world.route.output_topic)
    found = await closed(world, results)
    assert found.target is not None
    assert found.objections == ()
    assert (found.target.applied, found.target.foreign) == (3, 0)
    again = (await world.read_all(world.route.output_topic or ""))[0]
    await world.write([OutgoingRecord(again.topic, again.value, again.key, again.headers, 0)])
    found = await closed(world, results)
    assert found.target is not None
    assert (found.objections, found.target.told_again) == ((), 1)


async def test_a_result_that_is_missing_and_one_too_many_are_found(world: World) -> None:
    await completed(world, 2)
    for record in await world.produce(1):
        await world.complete(record)
    await world.commit_all()
    await world.write([OutgoingRecord(world.route.output_topic or "", b"", b"k", [(h.CAUSATION_ID, b"nobody")], 0)])
    await world.write([OutgoingRecord(world.route.output_topic or "", b"", b"k", [], 0)])
    found = await closed(world, TargetList(topic=world.route.output_topic))
    assert found.target is not None
    assert [one.position.offset for one in found.target.missing if one.position] == [2]
    assert [one.key for one in found.target.extra] == ["nobody"]
    assert found.target.foreign == 1, "a record that names no message"
    assert [one.kind for one in found.objections] == ["target_disagrees"]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ([(h.CORRELATION_ID, b"/shop/orders#o-0")], None),
        ([(h.CE_ID, b"o-0.out"), (h.CORRELATION_ID, b"a whole order")], None),
        ([(h.IDEMPOTENCY_KEY, b"/shop/orders#o-0"), (h.CE_ID, b"p-1")], None),
        ([(h.CAUSATION_ID, b"o-0"), (h.IDEMPOTENCY_KEY, b"a key of its own")], None),
        ([(h.CAUSATION_ID, b"something else"), ("x-order", b"o-0")], "x-order"),
    ],
)
async def test_where_a_result_says_what_it_is_of(world: World, headers: list[Header], named: str | None) -> None:
    (record,) = await world.produce(1)
    await world.complete(record)
    await world.commit_all()
    await world.write([OutgoingRecord(world.route.output_topic or "", b"", b"k", headers, 0)])
    found = await closed(world, TargetList(topic=world.route.output_topic, id_header=named))
    assert found.objections == (), found.target


async def test_a_topic_that_is_not_there(world: World) -> None:
    with pytest.raises(TopicMissingError):
        await closed(world, TargetList(topic="nowhere"))


async def test_an_endpoint_and_a_log_are_reconciled_and_late_is_told(world: World, tmp_path: Path) -> None:
    await completed(world, 2)
    late_ms = world.clock.now_ms() + 60_000
    lines = '{"key":"/shop/orders#o-0"}\n' + f'{{"key":"/shop/orders#o-1","at_ms":{late_ms}}}\n'
    path = tmp_path / "log"
    path.write_text(lines)
    async with serving(effects=body(lines)) as url:
        for target in (TargetList(url=f"{url}/effects"), TargetList(path=path)):
            assert (await closed(world, target)).objections == ()
            found = await closed(world, target, late_after_ms=30_000)
            assert found.target is not None
            assert [one.key for one in found.target.late] == ["/shop/orders#o-1"]
            assert [one.kind for one in found.objections] == ["target_disagrees"]


async def test_what_was_written_after_the_books_closed_is_not_extra(world: World) -> None:
    """A worker goes on while the audit runs: the list, read last, knows of messages that the books do not."""
    await completed(world, 1)

    def page(_: web.Request) -> web.Response:
        return web.Response(text='{"key":"/shop/orders#o-0"}\n{"key":"/shop/orders#o-1"}\n')

    auditor = Auditor(reader=world.reader, store=world.store, route=world.route, clock=world.clock)
    async with serving(effects=page) as url:
        target = TargetList(url=f"{url}/effects")
        assert [one.kind for one in (await closed(world, target)).objections] == ["target_disagrees"]

        class Busy(Auditor):
            async def newer(self, report):
                await world.produce(1)
                async for entry in super().newer(report):
                    yield entry

        auditor = Busy(reader=world.reader, store=world.store, route=world.route, clock=world.clock)
        found = await audit_round(auditor, world.reader, world.route, AuditOrder(target=target))
    assert found.target is not None
    assert (found.objections, found.target.unsettled) == ((), 1)


async def test_a_part_of_the_topic_takes_the_rest_of_the_list_for_foreign(world: World) -> None:
    await completed(world, 3)
    found = await closed(world, TargetList(topic=world.route.output_topic), AuditRange(partition=0, from_offset=2))
    assert found.target is not None
    assert (found.objections, found.target.foreign) == ((), 2)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"url": "http://x/", "topic": "t"},
        {"topic": "t", "authorization": "x"},
        {"url": "http://x/", "id_header": "x"},
        {"url": "x"},
    ],
)
def test_a_list_is_in_one_place(given: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        TargetList(**given)


async def test_a_log_that_is_not_there(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await closed(world, TargetList(path=tmp_path / "none"))
