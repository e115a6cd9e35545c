"""Contracts of a registry: fetched once, kept, read from disk while it is away; what no registry may do to us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_stub import RegistryStub, answers
from schema_folder import codec_of, record, write_folder
from structlog.testing import capture_logs

from broker_bridge.config import RegistrySection
from broker_bridge.contracts import Codec, SchemaDirectory
from broker_bridge.contracts import registry_source as module
from broker_bridge.contracts.framing import WireForm, frame
from broker_bridge.contracts.registry_cache import SchemaCache
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_source import RegistrySource
from broker_bridge.errors import (
    ContractError,
    RegistryError,
    RegistryRefusedError,
    SchemaPendingError,
    SchemaUnknownError,
)
from broker_bridge.message import SchemaRef

V1 = record(("a", "int"), namespace="n")
V2 = record(("a", "int"), ("b", "int", 7), namespace="n")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with RegistryStub() as stub:
        yield stub


def source(registry: RegistryStub, cache: Path | None = None, **more: Any) -> RegistrySource:
    section = RegistrySection(url=registry.url, retries=0, timeout_ms=30_000)
    kept = None if cache is None else SchemaCache(cache, section.urls)
    return RegistrySource(RegistryClient(section), cache=kept, **more)


def test_values_are_read_and_written_under_the_registrys_ids(registry: RegistryStub) -> None:
    registry.next_id = 41
    registry.add("n.T", V1)
    registry.add("n.T", V2)
    found = source(registry)
    codec = Codec(found)
    assert codec.encode("n.T", None, {"a": 1, "b": 2})[:5] == frame(42, b"")
    assert codec.decode(frame(41, b"\x02"), reader=found.get("n.T")).value == {"a": 1, "b": 7}
    assert codec.decode(frame(41, b"\x02")).schema == SchemaRef("n.T", 1, 41)
    assert found.by_id(42) is found.get("n.T") is found.get("n.T", 2)
    assert [one.schema_id for one in found.contracts()] == [41, 42]
    assert [one.version for one in found.versions("n.T")] == [1, 2]


def test_each_schema_is_asked_for_once(registry: RegistryStub) -> None:
    registry.add("n.T", V1)
    found = source(registry)
    for _ in range(3):
        found.by_id(1)
    assert registry.requests == ["GET /schemas/ids/1", "GET /schemas/ids/1/versions?deleted=true"]


def test_under_other_subjects_the_one_that_was_asked_for_is_told(registry: RegistryStub) -> None:
    for subject in ("a-value", "orders-value", "n.T"):
        registry.add(subject, V1)
    assert source(registry).by_id(1).ref == SchemaRef("n.T", 1, 1)
    found = source(registry)
    assert found.get("orders-value").subject == "orders-value"
    assert found.by_id(1).subject == "orders-value"


def test_a_start_and_a_run_without_the_registry(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    registry.add("n.T", V2)
    before = source(registry, tmp_path)
    before.recall(before.get("n.T"))
    registry.stop()
    after = source(registry, tmp_path)
    with capture_logs() as logs:
        assert after.get("n.T").version == 2
    assert [line["event"] for line in logs] == ["registry_lost"]
    after.recall(after.get("n.T"))
    assert after.by_id(1).version == after.get("n.T", 1).version == 1
    with pytest.raises(RegistryError, match="cannot connect"):
        after.by_id(3)
    with pytest.raises(RegistryError):
        source(registry, tmp_path / "other").get("n.T")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('int\\\\"', 'long\\\\"').replace('\\"int\\"', '\\"long\\"'),
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 2'),
    ],
)
def test_a_damaged_file_is_fetched_again_and_never_used(registry: RegistryStub, tmp_path: Path, damage: Any) -> None:
    registry.add("n.T", V1)
    source(registry, tmp_path).by_id(1)
    (file,) = tmp_path.glob("*/*.json")
    sound = file.read_text()
    file.write_text(damage(sound))
    assert file.read_text() != sound
    registry.requests.clear()
    assert source(registry, tmp_path).by_id(1).fields == ("a",)
    assert registry.requests[0] == "GET /schemas/ids/1"
    assert file.read_text() == sound
    file.write_text(damage(sound))
    registry.stop()
    with pytest.raises(RegistryError):
        source(registry, tmp_path).by_id(1)


def test_a_file_that_stands_for_another_id_is_not_used(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    registry.add("n.T", V2)
    source(registry, tmp_path).by_id(1)
    (first,) = tmp_path.glob("*/*.json")
    source(registry, tmp_path).by_id(2)
    (second,) = set(tmp_path.glob("*/*.json")) - {first}
    second.write_text(first.read_text())
    assert source(registry, tmp_path).by_id(2).version == 2


def test_a_cache_that_cannot_be_written_costs_only_itself(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    (tmp_path / "file").write_text("")
    assert source(registry, tmp_path / "file").by_id(1).schema_id == 1


def test_registries_do_not_share_files(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    source(registry, tmp_path).by_id(1)
    with RegistryStub() as other:
        other.add("n.T", V2)
        assert source(other, tmp_path).by_id(1).fields == ("a", "b")


def test_an_unknown_id_is_not_asked_for_again_within_its_time(registry: RegistryStub) -> None:
    clock = Clock()
    found = source(registry, unknown_ttl_s=30, now_s=clock)
    for _ in range(3):
        with pytest.raises(SchemaUnknownError, match="Schema 9 not found"):
            found.by_id(9)
    assert len(registry.requests) == 1
    clock.now = 31
    for _ in range(8):
        registry.add("n.T", V1 | {"doc": str(registry.next_id)})
    with pytest.raises(SchemaUnknownError):
        found.by_id(9)
    registry.add("n.T", V1)
    clock.now = 62
    assert found.by_id(9).schema_id == 9


def test_what_is_remembered_of_a_flood_of_unknown_ids_is_bounded(
    registry: RegistryStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNKNOWN", 10)
    found = source(registry, now_s=Clock())
    for schema_id in range(1, 31):
        with pytest.raises(SchemaUnknownError):
            found.by_id(schema_id)
    assert len(found._unknown) == 10


def test_a_new_version_is_found_by_its_fingerprint(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    clock = Clock()
    found = source(registry, tmp_path, now_s=clock)
    codec = Codec(found)
    reader = found.get("n.T")
    writer = codec_of(tmp_path / "folder", V1, V2)
    written = writer.encode_for("t", "n.T", 2, {"a": 1, "b": 2}, WireForm.SINGLE_OBJECT).value
    with pytest.raises(SchemaUnknownError, match="no schema has fingerprint 0x"):
        codec.decode(written, reader=reader)
    registry.add("n.T", "no schema")
    registry.add("n.T", V2)
    clock.now = 60
    assert codec.decode(written, reader=reader).value == {"a": 1}
    registry.stop()
    again = Codec(source(registry, tmp_path))
    assert again.decode(written).value == {"a": 1, "b": 2}


def test_an_answer_that_is_no_contract_is_not_asked_for_again(registry: RegistryStub) -> None:
    registry.add("a", "syntax = 'proto3';", schemaType="PROTOBUF")
    registry.add("b", '"string"')
    registry.add("c", "{")
    found = source(registry, now_s=Clock())
    for schema_id, said in ((1, "PROTOBUF"), (2, "a contract is a record"), (3, "not valid JSON")):
        for _ in range(2):
            with pytest.raises(ContractError, match=said):
                found.by_id(schema_id)
    assert registry.requests.count("GET /schemas/ids/2") == 1


def test_a_registry_that_failed_is_left_alone_for_a_while(registry: RegistryStub) -> None:
    clock = Clock()
    registry.add("n.T", V1)
    registry.misbehaves = [answers(500)]
    found = source(registry, now_s=clock)
    for schema_id in (1, 2, 1):
        with pytest.raises(RegistryError, match="answers 500"):
            found.by_id(schema_id)
    assert len(registry.requests) == 1
    clock.now = 1.5
    assert found.by_id(1).schema_id == 1


@pytest.mark.parametrize("refusal", [answers(401), answers(404), answers(302, location="http://127.0.0.1:9/")])
def test_a_refusal_is_never_taken_for_an_unknown_id(registry: RegistryStub, refusal: Any) -> None:
    registry.always = refusal
    with pytest.raises(RegistryRefusedError):
        source(registry).by_id(1)


async def until_there(found: RegistrySource, schema_id: int) -> Any:
    while True:
        try:
            return found.by_id(schema_id)
        except SchemaPendingError as error:
            await asyncio.wait_for(asyncio.wrap_future(error.fetched), 60)


async def test_an_event_loop_is_not_blocked(registry: RegistryStub) -> None:
    registry.add("n.T", V1)
    found = source(registry)
    found.waits = False
    with pytest.raises(SchemaPendingError, match="schema id 1 is being fetched"):
        found.by_id(1)
    assert (await until_there(found, 1)).schema_id == 1
    with pytest.raises(SchemaUnknownError):
        await until_there(found, 5)
    found.waits = True
    with pytest.raises(SchemaUnknownError):
        found.by_id(6)


async def test_no_more_than_a_few_fetches_at_once_whatever_ids_there_are(registry: RegistryStub) -> None:
    gate, most = asyncio.Event(), 0
    loop = asyncio.get_running_loop()

    async def held(_: Any) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gate.wait(), loop))

    registry.always = held
    found = source(registry)
    found.waits = False
    try:
        for schema_id in range(1, 50):
            with pytest.raises(SchemaPendingError):
                found.by_id(schema_id)
            most = max(most, len(found._under_way))
    finally:
        gate.set()
    assert most == module.MOST_FETCHES
    for schema_id in range(1, 50):
        with pytest.raises(SchemaUnknownError):
            await until_there(found, schema_id)


async def test_who_waits_and_is_cancelled_does_not_cancel_the_fetch(registry: RegistryStub) -> None:
    registry.add("n.T", V1)
    found = source(registry)
    found.waits = False
    waiting = asyncio.create_task(until_there(found, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await until_there(found, 1)).schema_id == 1


# --- schemas of the folder ------------------------------------------------------------------------------------------


def test_a_schema_of_the_folder_is_written_under_the_registrys_id(registry: RegistryStub, tmp_path: Path) -> None:
    folder = SchemaDirectory(write_folder(tmp_path / "schemas", V1, V2))
    registry.next_id = 70
    registry.add("n.T", V1)
    registry.add("n.T", json.dumps(V2, indent=4))
    found = source(registry, tmp_path / "cache", folder=folder)
    assert (found.get("n.T").schema_id, found.get("n.T").version) == (71, 2)
    assert found.get("n.T", 1).schema_id == 70
    registry.stop()
    again = source(registry, tmp_path / "cache", folder=folder)
    assert again.get("n.T").schema_id == again.by_id(71).schema_id == 71


def test_what_is_not_registered_is_an_error_unless_it_is_to_be(registry: RegistryStub, tmp_path: Path) -> None:
    folder = SchemaDirectory(write_folder(tmp_path, V1, V2))
    with pytest.raises(SchemaUnknownError, match="schemas push"):
        source(registry, folder=folder).get("n.T", 1)
    assert registry.subjects == {}
    with pytest.raises(ContractError, match="here, and would be or is version 1 at the registry"):
        source(registry, folder=folder, auto_register=True).get("n.T")
    assert registry.subjects == {}
    found = source(registry, folder=folder, auto_register=True)
    assert [found.get("n.T", version).schema_id for version in (1, 2)] == [1, 2]
    registry.refuses = ["b was added"]
    third = SchemaDirectory(write_folder(tmp_path, V1, V2, record(("c", "int"), namespace="n")))
    with pytest.raises(ContractError, match="b was added"):
        source(registry, folder=third, auto_register=True).get("n.T")


def test_versions_with_other_numbers_are_refused(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V2)
    with pytest.raises(ContractError, match="in step"):
        source(registry, folder=SchemaDirectory(write_folder(tmp_path, V1, V2))).get("n.T")


# --- references -----------------------------------------------------------------------------------------------------


def test_types_of_other_subjects_are_put_in_once(registry: RegistryStub) -> None:
    money = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "cents", "type": "long"}]}
    plain = {"type": "enum", "name": "Plain", "symbols": ["A"]}
    line = record(("price", "shop.Money"), ("more", ["null", "Line"]), name="Line", namespace="shop.parts")
    order = record(
        ("total", "Money"), ("lines", {"type": "array", "items": "shop.parts.Line"}), name="Order", namespace="shop"
    )
    registry.add("plain", plain)
    registry.add("money-value", money)
    registry.add("line", line, references=[{"name": "shop.Money", "subject": "money-value", "version": 1}])
    references = [
        {"name": "shop.parts.Line", "subject": "line", "version": 1},
        {"name": "shop.Money", "subject": "money-value", "version": 1},
        {"name": "Plain", "subject": "plain", "version": 1},
    ]
    schema_id = registry.add("shop.Order", order, references=references)
    value = {"total": {"cents": 5}, "lines": [{"price": {"cents": 2}, "more": None}]}
    codec = Codec(source(registry))
    assert codec.decode(codec.encode("shop.Order", None, value)).value == value
    assert codec.encode("shop.Order", None, value)[:5] == frame(schema_id, b"")


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ([{"name": "x.Gone", "subject": "gone", "version": 1}], "it refers to x.Gone, version 1 of gone"),
        ([], "no type is called 'x.Gone'"),
        ([{"name": "x.Gone", "subject": "loop", "version": 1}], "no type is called 'x.Gone'"),
        ([{"name": "x.Gone", "subject": "broken", "version": 1}], "no valid Avro"),
    ],
)
def test_references_that_lead_nowhere(registry: RegistryStub, references: Any, said: str) -> None:
    registry.add("loop", record(name="L"), references=[{"name": "L", "subject": "loop", "version": 1}])
    registry.add("broken", {"type": "record", "name": "B", "fields": [{"name": "x"}]})
    registry.add("n.T", record(("a", "x.Gone"), namespace="n"), references=references)
    with pytest.raises(ContractError, match=said):
        source(registry).get("n.T")


def test_a_chain_of_references_is_bounded(registry: RegistryStub) -> None:
    for number in range(300):
        following = [{"name": "x", "subject": f"s{number + 1}", "version": 1}]
        registry.add(f"s{number}", record(name=f"R{number}"), references=following)
    with pytest.raises(ContractError, match="more than 200 others"):
        source(registry).get("s0")
