"""Row 16: the registry is away while values come whose schema is not known. Time is real: the registry is a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from registry_stub import RegistryStub, answers

from broker_bridge import Bridge, Event, handler
from broker_bridge.bootstrap import open_codec
from broker_bridge.config import config_from
from broker_bridge.errors import RegistryError, SchemaUnknownError
from broker_bridge.headers import IDEMPOTENCY_KEY
from broker_bridge.message import Header, OutgoingRecord
from broker_bridge.testing import InMemoryBridge

SCHEMA = {"type": "record", "name": "T", "namespace": "n", "fields": [{"name": "a", "type": "int"}]}
QUICK = {"in_place": 2, "base": "5ms", "max": "20ms"}


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with RegistryStub() as stub:
        stub.add("n.T", SCHEMA)
        yield stub


def bridge_of(registry: RegistryStub, folder: Path, seen: list[int], **policies: Any) -> Bridge:
    section = {"url": registry.url, "retries": 0, "timeout": "30s", "cache": str(folder / "cache")}
    config = config_from(
        {"registry": section, "bridge": {"schemas": str(folder / "none")}, "health": {"listen": "off"}}
    )
    bridge = Bridge(config=config)

    @bridge.route("t", group="g", contract="n.T", retry=QUICK, **policies)
    async def take(message: dict[str, int]) -> None:
        seen.append(message["a"])

    return bridge


async def send(
    world: InMemoryBridge, schema_id: int, *numbers: int, key: str = "k", headers: Sequence[Header] = ()
) -> None:
    """Values under an id that the bridge's own producer may not know."""
    producer = world.transport.producer()
    await producer.start()
    for number in numbers:
        value = b"\x00" + schema_id.to_bytes(4, "big") + bytes([2 * number])
        await producer.send_batch([OutgoingRecord(topic="t", value=value, key=key.encode(), headers=tuple(headers))])
    await producer.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


async def test_row_16_what_is_known_goes_on_and_the_rest_waits(registry: RegistryStub, tmp_path: Path) -> None:
    seen: list[int] = []
    async with InMemoryBridge(bridge_of(registry, tmp_path, seen)) as world:
        await send(world, 1, 1)
        await until(lambda: seen == [1])
        registry.add("n.T", SCHEMA | {"doc": "later"})
        registry.stop()
        await send(world, 2, 2, key="new")
        await send(world, 1, 3, key="new")
        await send(world, 1, 4, 5, key="old")
        await until(lambda: seen == [1, 4, 5])
        await world.stop_worker()
        world.start_worker("worker-2")
        await send(world, 1, 6, key="old")
        await until(lambda: seen == [1, 4, 5, 6])
        assert world.dead_letters("g") == []
        assert sum(world.log.committed["g"].values()) < 6
        registry.start()
        await world.settled(within_ms=60_000)
        assert world.dead_letters("g") == []
    assert seen == [1, 4, 5, 6, 2, 3], "in order of the key once the schema is there"


async def test_an_unknown_id_is_poison_only_where_the_registry_says_so(registry: RegistryStub, tmp_path: Path) -> None:
    seen: list[int] = []
    async with InMemoryBridge(bridge_of(registry, tmp_path, seen)) as world:
        registry.always = answers(404, "<html>not found</html>")
        asked = len(registry.requests)
        await send(world, 9, 1, key="a")
        await until(lambda: len(registry.requests) > asked)
        await send(world, 1, 2, key="b")
        await until(lambda: seen == [2])
        assert world.dead_letters("g") == []
        registry.always = None
        await world.settled(within_ms=60_000)
        (letter,) = world.dead_letters("g")
        assert (letter.failure.code, letter.failure.attempts) == ("schema_unknown", 1)


async def test_none_dies_of_it_however_long_it_takes(registry: RegistryStub, tmp_path: Path) -> None:
    seen: list[int] = []

    def holds() -> int:
        assert world.worker is not None
        return max((one.holds for one in world.worker.routes[0].pipeline.held.values()), default=0)

    async with InMemoryBridge(bridge_of(registry, tmp_path, seen)) as world:
        registry.add("n.T", SCHEMA | {"doc": "later"})
        registry.stop()
        await send(world, 2, 1)
        await until(lambda: holds() > 60)  # any other failure that spends no attempt is held 50 times at most
        registry.start()
        await world.settled(within_ms=60_000)
        assert world.dead_letters("g") == []
    assert seen == [1]


async def test_a_second_copy_is_no_conflict_only_because_its_schema_is_not_there(
    registry: RegistryStub, tmp_path: Path
) -> None:
    seen: list[int] = []
    async with InMemoryBridge(bridge_of(registry, tmp_path, seen)) as world:
        registry.add("n.T", SCHEMA | {"doc": "later"})
        same = [(IDEMPOTENCY_KEY, b"one")]
        await send(world, 1, 1, headers=same)
        await until(lambda: seen == [1])
        registry.stop()
        await send(world, 2, 1, headers=same)
        await send(world, 1, 2, key="other")
        await until(lambda: seen == [1, 2])
        assert world.dead_letters("g") == []
        registry.start()
        await world.settled(within_ms=60_000)
        assert world.dead_letters("g") == []
    assert seen == [1, 2]


async def test_a_producer_waits_for_the_schema_it_writes_under(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.U", json.dumps(SCHEMA).replace('"T"', '"U"'))
    async with InMemoryBridge(bridge_of(registry, tmp_path, [])) as world:
        world.log.create_topic("u", 1)
        answered = await world.producer.send_batch(
            [Event(topic="u", value={"a": 1}, contract="n.U"), Event(topic="u", value={"a": 2}, contract="n.V")]
        )
        assert world.values("u") == [{"a": 1}]
    assert isinstance(answered[1], SchemaUnknownError)


async def test_a_handler_that_lacks_a_schema_itself_spends_attempts(registry: RegistryStub, tmp_path: Path) -> None:
    """It may have had its effect, so it is not repeated without end."""
    tried: list[int] = []
    bridge = bridge_of(registry, tmp_path, [])

    async def fail(message: dict[str, int]) -> None:
        tried.append(message["a"])
        raise RegistryError("the producer of the handler could not send")

    bridge.handlers["g"] = handler(fail)
    async with InMemoryBridge(bridge) as world:
        await send(world, 1, 5)
        await world.settled(within_ms=60_000)
        (letter,) = world.dead_letters("g")
    assert (letter.failure.code, letter.failure.attempts, tried) == ("handler_failed", 2, [5, 5])


def test_a_command_that_only_looks_registers_nothing(registry: RegistryStub, tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    (folder / "n.U").mkdir(parents=True)
    (folder / "ids.jsonl").touch()
    (folder / "n.U" / "v1.avsc").write_text(json.dumps(SCHEMA | {"name": "U"}), encoding="utf-8")
    section = {"url": registry.url, "retries": 0, "cache": "off", "auto_register": True}
    config = config_from({"registry": section, "bridge": {"schemas": str(folder)}})
    with pytest.raises(SchemaUnknownError, match="is not registered"):
        open_codec(config).source.get("n.U")
    assert list(registry.subjects) == ["n.T"]
    assert open_codec(config, waits=False).source.get("n.U").schema_id == 2
