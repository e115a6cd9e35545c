"""Wire forms, subjects by topic and upcasters on their whole way: produced, delivered, retried, dead, replayed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from orders import GROUP, ORDER, SCHEMAS, TOPIC, order

from broker_bridge import Bridge, Context, Message
from broker_bridge.cli.operator_scope import OperatorScope
from broker_bridge.config import config_from
from broker_bridge.contracts import Codec, SchemaDirectory, Upcasters, WireForm
from broker_bridge.contracts.upcasters import Upcaster
from broker_bridge.core.dead_letter import DeadLetter, write_redrive
from broker_bridge.errors import HeadersInvalidError, MalformedError, SchemaUnknownError
from broker_bridge.message import OutgoingRecord
from broker_bridge.producer import Producer
from broker_bridge.testing import InMemoryBridge, run_virtual

HEADER = "__value_schema_id"
RESULTS = "orders.seen"


def bridge_of(handle: Any, *, schemas: Path = SCHEMAS, producer: dict[str, str] | None = None, **more: Any) -> Bridge:
    """A bridge with one route whose answers go to RESULTS; ``more`` are keys of ``[bridge]`` and policies."""
    keys = {key: more.pop(key) for key in ("subjects",) if key in more}
    config = config_from(
        {"bridge": {"service": "test", "schemas": str(schemas), **keys}, "producer": producer or {"source": "/shop"}}
    )
    bridge = Bridge(config=config)

    async def target(message: Message[dict[str, Any]], context: Context) -> Any:
        return await handle(message, context)

    bridge.route(TOPIC, group=GROUP, contract=ORDER, output={"topic": RESULTS, "subject": ORDER}, **more)(target)
    return bridge


async def send(world: InMemoryBridge, number: int, form: str, *, version: int | None = None) -> None:
    """One order in that wire form, by a producer of its own."""
    producer = Producer(world.transport, world.codec, source="/shop", clock=world.clock, wire_form=form)
    async with producer:
        value = order(number)
        if version == 1:
            del value["channel"]
        await producer.send(TOPIC, value, key="c1", contract=ORDER, version=version, event_id=f"o-{number:04d}")


async def replay(world: InMemoryBridge, letter: DeadLetter, bridge: Bridge) -> None:
    """Send the letter back, as a replay does."""
    topic = bridge.config.routes[0].lane_names.redrive
    producer = world.transport.producer()
    await producer.start()
    await producer.send_batch([write_redrive(letter, topic=topic, replay_id="r1", now_ms=world.clock.now_ms())])
    await producer.stop()


@pytest.mark.parametrize("written", WireForm)
def test_all_forms_are_read_from_one_topic_and_results_are_written_in_the_chosen_one(written: WireForm) -> None:
    seen: list[tuple[str, int]] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> dict[str, Any]:
        assert message.schema is not None
        seen.append((message.value["order_id"], message.schema.version))
        return message.value

    async def scenario() -> None:
        bridge = bridge_of(handle, producer={"source": "/shop", "wire_form": written})
        async with InMemoryBridge(bridge) as world:
            for number, form in enumerate([*WireForm, *WireForm]):
                await send(world, number, form, version=1 + number % 2)
            await world.settled()
            results = world.records(RESULTS)
            assert len(results) == len(seen) == 6
            assert {one.value[:1] == b"\xc3" for one in results if one.value} == {written == "single-object"}
            assert {HEADER in dict(one.headers) for one in results} == {written == "header"}
            assert [value["order_id"] for value in world.values(RESULTS) if value] == [one for one, _ in seen]
            assert {dict(one.headers)["ce_type"] for one in results} == {ORDER.encode()}

    run_virtual(scenario())
    assert seen == [(f"o-{number:04d}", 1 + number % 2) for number in range(6)]


def test_a_route_may_write_its_results_in_a_form_of_its_own() -> None:
    async def handle(message: Message[dict[str, Any]], _: Context) -> dict[str, Any]:
        return message.value

    async def scenario() -> None:
        bridge = bridge_of(handle, producer={"source": "/shop", "wire_form": "header"})
        output = bridge.config.routes[0].output
        assert output is not None
        route = bridge.config.routes[0].model_copy(
            update={"output": output.model_copy(update={"wire_form": "confluent"})}
        )
        bridge.config = bridge.config.model_copy(update={"routes": [route]})
        async with InMemoryBridge(bridge) as world:
            await world.producer.send(TOPIC, order(1), key="c1", contract=ORDER)
            await world.settled()
            [sent], [result] = world.records(TOPIC), world.records(RESULTS)
            assert sent.headers[-1][0] == HEADER, "after the headers of the event"
            assert HEADER not in dict(result.headers)
            assert result.value is not None
            assert result.value[0] == 0

    run_virtual(scenario())


def test_lanes_dead_letters_and_replays_keep_the_header() -> None:
    healthy = False
    tries: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        tries.append(message.value["order_id"])
        if not healthy:
            raise RuntimeError("not today")

    async def scenario() -> None:
        nonlocal healthy
        bridge = bridge_of(handle, retry={"in_place": 1, "lanes": ["1s"]}, breaker={"min_failures": 50})
        async with InMemoryBridge(bridge) as world:
            await send(world, 1, "header")
            await world.settled()
            [sent], [letter] = world.records(TOPIC), world.dead_letters(GROUP)
            assert (letter.key, letter.value, letter.headers) == (sent.key, sent.value, tuple(sent.headers))
            [dead] = world.records(bridge.config.routes[0].lane_names.dead_letter)
            decode = cast(Any, OperatorScope)(bridge.config, bridge.config.routes[0], *[None] * 6).decoder()
            assert decode(letter.value, letter.headers).value["order_id"] == "o-0001", "as dlq show and replay plan do"
            with pytest.raises(MalformedError, match="no header __value_schema_id names a schema"):
                decode(letter.value, ())
            healthy = True
            await replay(world, letter, bridge)
            await world.settled()
            assert dead.position == letter.position

    run_virtual(scenario())
    assert tries == ["o-0001"] * 3


def test_one_event_in_two_forms_is_a_duplicate_and_no_conflict() -> None:
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["order_id"])

    async def scenario() -> None:
        async with InMemoryBridge(bridge_of(handle)) as world:
            for form in ("header", "confluent", "single-object", "header"):
                await send(world, 1, form)
            await world.settled()
            assert world.dead_letters(GROUP) == []

    run_virtual(scenario())
    assert seen == ["o-0001"]


@pytest.mark.parametrize(("channel", "conflicts"), [("web", 0), ("phone", 1)])
def test_an_event_sent_again_by_an_upgraded_producer_is_compared_as_the_route_reads_it(
    channel: str, conflicts: int
) -> None:
    """Version 2 has one field more, whose default is "web"."""
    seen: list[str] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["channel"])

    async def scenario() -> None:
        async with InMemoryBridge(bridge_of(handle)) as world:
            await send(world, 1, "confluent", version=1)
            await world.settled()
            again = order(1, channel=channel)
            await world.producer.send(TOPIC, again, key="c1", contract=ORDER, version=2, event_id="o-0001")
            await world.settled()
            codes = [letter.failure.code for letter in world.dead_letters(GROUP)]
            assert codes == ["key_conflict"] * conflicts

    run_virtual(scenario())
    assert seen == ["web"]


def test_a_value_that_nobody_can_name_is_a_dead_letter() -> None:
    async def handle(_: Message[dict[str, Any]], __: Context) -> None:
        raise AssertionError

    async def scenario() -> None:
        async with InMemoryBridge(bridge_of(handle)) as world:
            body = b"\x10o-000001"
            headers: list[list[tuple[str, bytes | None]]] = [[(HEADER, b"\x01" + bytes(16))], [(HEADER, b"\x09")], []]
            for number, one in enumerate(headers):
                world.log.append(OutgoingRecord(TOPIC, body, b"%d" % number, one), now_ms=world.clock.now_ms())
            await world.settled()
            codes = [letter.failure.code for letter in world.dead_letters(GROUP)]
            assert sorted(codes) == ["avro_malformed", "avro_malformed", "schema_unknown"]

    run_virtual(scenario())


def test_a_producers_own_headers_must_not_name_a_schema() -> None:
    async def scenario() -> None:
        async with InMemoryBridge(bridge_of(None)) as world:
            with pytest.raises(HeadersInvalidError, match="part of the wire contract"):
                await world.producer.send(TOPIC, order(1), contract=ORDER, headers=[(HEADER, b"\x01" + bytes(16))])

    run_virtual(scenario())


def test_subjects_by_topic_from_end_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    for subject in (f"{TOPIC}-value", f"{RESULTS}-value"):
        (folder / subject).mkdir(parents=True)
        shutil.copy(SCHEMAS / ORDER / "v2.avsc", folder / subject / "v1.avsc")
    (folder / "ids.jsonl").touch()
    for subject in (f"{RESULTS}-value", f"{TOPIC}-value"):
        SchemaDirectory(folder, drafts=True).register(subject)
    seen: list[Any] = []

    async def handle(message: Message[dict[str, Any]], _: Context) -> dict[str, Any]:
        seen.append((message.schema, message.event_type))
        return message.value

    async def scenario() -> None:
        bridge = bridge_of(handle, schemas=folder, subjects="topic")
        async with InMemoryBridge(bridge) as world:
            await world.producer.send(TOPIC, order(1), key="c1", contract=ORDER)
            with pytest.raises(SchemaUnknownError, match="elsewhere-value"):
                await world.producer.send("elsewhere", order(1), contract=ORDER)
            await world.settled()
            [result] = world.records(RESULTS)
            assert result.value is not None
            assert result.value[:5] == b"\x00\x00\x00\x00\x01"
            assert dict(result.headers)["ce_type"] == ORDER.encode()

    run_virtual(scenario())
    [(schema, event_type)] = seen
    assert (schema.subject, schema.schema_id, event_type) == (f"{TOPIC}-value", 2, ORDER)


# --- upcasters -------------------------------------------------------------------------------------------


def two_versions(folder: Path) -> Path:
    """Orders whose amount was in whole units in version 1 and is in cents in version 2: not for Avro to know."""
    old = json.loads((SCHEMAS / ORDER / "v2.avsc").read_text(encoding="utf-8"))
    new = json.loads(json.dumps(old).replace("amount_cents", "cents"))
    (folder / ORDER).mkdir(parents=True)
    for version, schema in ((1, old), (2, new)):
        (folder / ORDER / f"v{version}.avsc").write_text(json.dumps(schema), encoding="utf-8")
    (folder / "ids.jsonl").touch()
    from broker_bridge.contracts import Mode

    for _ in (1, 2):
        SchemaDirectory(folder, drafts=True).register(ORDER, mode=Mode.NONE)
    return folder


def test_old_orders_are_read_through_an_upcaster_and_replayed_once_it_is_mended(tmp_path: Path) -> None:
    folder = two_versions(tmp_path / "schemas")
    mended = False
    seen: list[int] = []

    def to_cents(value: dict[str, Any]) -> dict[str, Any]:
        if value["note"] == "odd" and not mended:
            raise ValueError("never thought of that")
        value["cents"] = value.pop("amount_cents") * 100
        return value

    async def handle(message: Message[dict[str, Any]], _: Context) -> None:
        seen.append(message.value["cents"])

    async def scenario() -> None:
        nonlocal mended
        bridge = bridge_of(handle, schemas=folder)
        codec = Codec(SchemaDirectory(folder), upcasters=Upcasters([Upcaster(ORDER, 1, to_cents)]))
        async with InMemoryBridge(bridge, codec=codec) as world:
            new = {key: value for key, value in order(3).items() if key != "amount_cents"} | {"cents": 7}
            for value, version in ((order(1), 1), (order(2, note="odd"), 1), (new, 2)):
                await world.producer.send(TOPIC, value, key="c1", contract=ORDER, version=version)
            await world.settled()
            [letter] = world.dead_letters(GROUP)
            assert letter.failure.code == "upcast_failed"
            assert codec.decode(letter.value or b"").value["amount_cents"] == 102, "as it was written"
            mended = True
            await replay(world, letter, bridge)
            await world.settled()
            assert len(world.dead_letters(GROUP)) == 1

    run_virtual(scenario())
    assert seen == [10_100, 7, 10_200]


def test_the_configuration_names_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "order_upcasters.py").write_text(
        "from broker_bridge.contracts import upcaster\n"
        f"@upcaster({ORDER!r}, from_version=1)\n"
        "def to_cents(value):\n"
        "    value['cents'] = value.pop('amount_cents') * 100\n"
        "    return value\n",
        encoding="utf-8",
    )
    folder = two_versions(tmp_path / "schemas")
    config = config_from({"bridge": {"schemas": str(folder), "upcasters": "order_upcasters"}})
    from broker_bridge.bootstrap import open_codec

    codec = open_codec(config)
    framed = codec.encode(ORDER, 1, order(1))
    assert codec.decode(framed, reader=codec.contract_for(TOPIC, ORDER)).value["cents"] == 10_100
