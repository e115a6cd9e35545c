"""The registry as a source of schemas, and push and pull, with our own server and with a real registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.config import RegistrySection
from broker_bridge.contracts import Codec, SchemaDirectory
from broker_bridge.contracts.framing import frame
from broker_bridge.contracts.registry_cache import SchemaCache
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_plan import Action, Plan
from broker_bridge.contracts.registry_pull import Pull
from broker_bridge.contracts.registry_push import Push
from broker_bridge.contracts.registry_source import RegistrySource
from broker_bridge.errors import IncompatibleError, SchemaUnknownError


@pytest.fixture
def client(registry_url: str) -> RegistryClient:
    return RegistryClient(RegistrySection(url=registry_url, timeout_ms=30_000))


def versions(name: str) -> list[dict[str, Any]]:
    """Three that follow each other, and one that may not follow them. No other test has their ids."""
    first: dict[str, Any] = {"type": "record", "name": "T", "namespace": "n", "doc": name, "fields": []}
    first["fields"] = [{"name": "a", "type": "int"}]
    second = first | {"fields": [*first["fields"], {"name": "b", "type": "string", "default": "x"}]}
    third = second | {"fields": [*second["fields"], {"name": "c", "type": ["null", "long"], "default": None}]}
    wrong = first | {"fields": [*first["fields"], {"name": "d", "type": "int"}]}
    return [first, second, third, wrong]


async def test_the_client(client: RegistryClient, unique: str) -> None:
    subject = f"{unique}-value"
    first, second, _, wrong = (json.dumps(one) for one in versions(unique))
    for unknown in (client.version(subject), client.lookup(subject, first), client.schema(2_000_000_000)):
        with pytest.raises(SchemaUnknownError):
            await unknown
    schema_id = await client.register(subject, first)
    assert await client.register(subject, first) == schema_id
    later = await client.register(subject, second)
    assert later > schema_id
    latest = await client.version(subject)
    assert (latest.subject, latest.version, latest.schema_id, latest.kind) == (subject, 2, later, "AVRO")
    assert json.loads(latest.text) == json.loads(second)
    assert (await client.version(subject, 1)).schema_id == schema_id
    assert json.loads((await client.schema(schema_id)).text) == json.loads(first)
    assert await client.places(schema_id) == [(subject, 1)]
    assert (await client.lookup(subject, first)).version == 1
    assert subject in await client.subjects()
    assert await client.versions(subject) == [1, 2]
    with pytest.raises(SchemaUnknownError):
        await client.lookup(subject, wrong)
    with pytest.raises(SchemaUnknownError):
        await client.version(subject, 9)
    assert await client.incompatibilities(subject, second) is None
    assert await client.incompatibilities(subject, wrong) is not None
    with pytest.raises(IncompatibleError, match="finds it incompatible"):
        await client.register(subject, wrong)
    assert await client.versions(subject) == [1, 2]


async def test_values_are_written_and_read_through_it(client: RegistryClient, unique: str, tmp_path: Path) -> None:
    subject = f"{unique}-value"
    ids = [await client.register(subject, json.dumps(one)) for one in versions(unique)[:3]]
    cache = SchemaCache(tmp_path, [client.where])
    source = RegistrySource(client, cache=cache)
    codec = Codec(source)
    framed = codec.encode(subject, 1, {"a": 7})
    assert framed[:5] == frame(ids[0], b"")
    read = codec.decode(framed, reader=source.get(subject))
    assert read.value == {"a": 7, "b": "x", "c": None}
    assert (read.schema.subject, read.schema.version, read.schema.schema_id) == (subject, 1, ids[0])
    assert [one.schema_id for one in source.versions(subject)] == ids
    gone = RegistryClient(RegistrySection(url="http://127.0.0.1:9", retries=0))
    kept = RegistrySource(gone, cache=cache)
    assert Codec(kept).decode(framed, reader=kept.get(subject)).value == read.value


async def test_types_of_other_subjects(client: RegistryClient, unique: str) -> None:
    used = {"type": "record", "name": "Used", "namespace": "n", "doc": unique, "fields": [{"name": "x", "type": "int"}]}
    uses = {"type": "record", "name": "Uses", "namespace": "n", "fields": [{"name": "used", "type": "n.Used"}]}
    await client.register(f"{unique}-used", json.dumps(used))
    references = [{"name": "n.Used", "subject": f"{unique}-used", "version": 1}]
    body = {"schema": json.dumps(uses), "references": references}
    schema_id = (await client._call("POST", f"/subjects/{unique}-uses/versions", body))["id"]
    codec = Codec(RegistrySource(client))
    assert codec.decode(frame(schema_id, b"\x0c")).value == {"used": {"x": 6}}


async def test_a_schema_of_the_folder_is_registered_when_it_is_to_be(
    client: RegistryClient, unique: str, tmp_path: Path
) -> None:
    subject = f"{unique}-value"
    folder = SchemaDirectory(folder_of(tmp_path / "folder", subject, versions(unique)[:2]), drafts=True)
    with pytest.raises(SchemaUnknownError, match="schemas push"):
        RegistrySource(client, folder=folder).get(subject, 1)
    source = RegistrySource(client, folder=folder, auto_register=True)
    ids = [source.get(subject, version).schema_id for version in (1, 2)]
    assert ids == [(await client.version(subject, version)).schema_id for version in (1, 2)]
    assert RegistrySource(client, folder=folder).get(subject).schema_id == ids[1]


def folder_of(folder: Path, subject: str, schemas: list[dict[str, Any]]) -> Path:
    """A folder with drafts of one subject."""
    (folder / subject).mkdir(parents=True)
    (folder / "ids.jsonl").touch()
    for number, schema in enumerate(schemas, start=1):
        (folder / subject / f"v{number}.avsc").write_text(json.dumps(schema), encoding="utf-8")
    return folder


def actions(plan: Plan) -> list[str]:
    return [step.action.value for step in plan.steps]


async def test_from_one_folder_to_another(client: RegistryClient, unique: str, tmp_path: Path) -> None:
    subject = f"{unique}-value"
    first, second, third, wrong = versions(unique)
    ours, theirs = (SchemaDirectory(folder_of(tmp_path / name, subject, []), drafts=True) for name in ("a", "b"))
    folder_of(tmp_path / "drafts", subject, [first, second])
    pushing = Push(client, SchemaDirectory(tmp_path / "drafts", drafts=True), subjects=[subject])
    plan = await pushing.plan()
    assert actions(plan) == ["register", "register"]
    await pushing.run(plan, lambda _: None)
    assert {step.action for step in (await pushing.plan()).steps} == {Action.NOTHING}
    for folder in (ours, theirs):
        pulling = Pull(client, folder, subjects=[subject])
        plan = await pulling.plan()
        assert actions(plan) == ["write file", "write file"]
        await pulling.run(plan, folder, lambda _: None)
    pushed = SchemaDirectory(tmp_path / "drafts")
    for version in (1, 2):
        ids = {one.get(subject, version).schema_id for one in (pushed, ours, theirs)}
        assert ids == {(await client.version(subject, version)).schema_id}
    draft = ours.path / subject / "v3.avsc"
    draft.write_text(json.dumps(wrong), encoding="utf-8")
    refused = Push(client, SchemaDirectory(ours.path, drafts=True), subjects=[subject])
    assert actions(await refused.plan()) == ["in step", "in step", "conflict"]
    draft.write_text(json.dumps(third), encoding="utf-8")
    pushing = Push(client, SchemaDirectory(ours.path, drafts=True), subjects=[subject])
    await pushing.run(await pushing.plan(), lambda _: None)
    (theirs.path / subject / "v3.avsc").write_text(json.dumps(third | {"doc": "other words"}), encoding="utf-8")
    late = SchemaDirectory(theirs.path, drafts=True)
    (conflict,) = (await Push(client, late, subjects=[subject]).plan()).conflicts
    assert "a schema with other defaults, aliases, docs or properties" in conflict.detail
    assert actions(await Pull(client, late, subjects=[subject]).plan()) == ["in step", "in step", "conflict"]
