"""Plans between a folder and a registry: what they do, and everything they refuse to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from registry_stub import RegistryStub, answers
from schema_folder import record, write_folder

from broker_bridge.config import RegistrySection
from broker_bridge.contracts import SchemaDirectory
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_plan import Action, Step
from broker_bridge.contracts.registry_pull import Pull
from broker_bridge.contracts.registry_push import Push
from broker_bridge.errors import ContractError, IncompatibleError, RegistryError, SchemaUnknownError

V1 = record(("a", "int"), namespace="n")
V2 = record(("a", "int"), ("b", "int", 7), namespace="n")
OTHER = record(("z", "string"), name="U", namespace="n")


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with RegistryStub() as stub:
        yield stub


def client_of(registry: RegistryStub) -> RegistryClient:
    return RegistryClient(RegistrySection(url=registry.url, retries=0, timeout_ms=30_000))


def add_draft(folder: Path, version: int, schema: Any) -> None:
    (folder / "n.T").mkdir(exist_ok=True)
    (folder / "n.T" / f"v{version}.avsc").write_text(json.dumps(schema), encoding="utf-8")


async def push(registry: RegistryStub, folder: Path, **more: Any) -> list[Step]:
    """Plan and do; the steps of the plan. There must be no conflict."""
    pushing = Push(client_of(registry), SchemaDirectory(folder, drafts=True), **more)
    plan = await pushing.plan()
    assert plan.conflicts == []
    await pushing.run(plan, lambda _: None)
    return list(plan.steps)


async def pull(registry: RegistryStub, folder: Path, **more: Any) -> list[Step]:
    pulling = Pull(client_of(registry), SchemaDirectory(folder, drafts=True), **more)
    plan = await pulling.plan()
    assert plan.conflicts == []
    await pulling.run(plan, SchemaDirectory(folder, drafts=True), lambda _: None)
    return list(plan.steps)


def told(steps: list[Step]) -> list[tuple[str, str, int, int | None]]:
    return [(step.action.value, step.subject, step.version, step.schema_id) for step in steps]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def ids(folder: Path) -> list[tuple[int, str, int]]:
    return [(one.schema_id, one.subject, one.version) for one in SchemaDirectory(folder).contracts()]


async def test_an_empty_registry_gets_all_in_the_order_of_ids(registry: RegistryStub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, V1, OTHER, V2)
    steps = await push(registry, folder)
    assert told(steps) == [("register", "n.T", 1, 1), ("register", "n.U", 1, 2), ("register", "n.T", 2, 3)]
    assert registry.subjects == {"n.T": [1, 3], "n.U": [2]}
    assert {step.action for step in await push(registry, folder)} == {Action.NOTHING}


async def test_a_draft_gets_the_registrys_id(registry: RegistryStub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, V1)
    await push(registry, folder)
    registry.next_id = 90
    add_draft(folder, 2, V2)
    assert told(await push(registry, folder))[1] == ("register", "n.T", 2, None)
    assert ids(folder) == [(1, "n.T", 1), (90, "n.T", 2)]
    third = V2 | {"doc": "third"}
    registry.add("n.T", third, guid=str(UUID(int=7)))
    add_draft(folder, 3, third)
    assert told(await push(registry, folder))[2] == ("enter id", "n.T", 3, 91)
    assert ids(folder)[2] == (91, "n.T", 3)
    assert SchemaDirectory(folder).by_guid(UUID(int=7)).schema_id == 91


async def test_only_the_subjects_that_are_named(registry: RegistryStub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, OTHER, V1)
    assert told(await push(registry, folder, subjects=["n.U"])) == [("register", "n.U", 1, 1)]
    for asked in (Push, Pull):
        with pytest.raises(SchemaUnknownError, match="has no subject"):
            await asked(client_of(registry), SchemaDirectory(folder), subjects=["n.Nope"]).plan()


def id_is_taken(registry: RegistryStub, folder: Path) -> None:
    registry.add("x", record(name="X"))


def has_other_id(registry: RegistryStub, folder: Path) -> None:
    registry.next_id = 5
    registry.add("n.T", V1)


def has_other_schema(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V2)


def has_other_default(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V1)
    add_draft(folder, 2, V2)
    registry.add("n.T", json.dumps(V2).replace("7", "8"))


def id_is_ours(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V1)
    write_folder(folder, V1, OTHER)
    add_draft(folder, 2, V2)
    registry.add("n.T", V2)


def was_deleted(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V1)
    registry.deleted.add("n.T")


def is_incompatible(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V1)
    add_draft(folder, 2, record(("b", "int"), namespace="n"))
    registry.refuses = ["READER_FIELD_MISSING_DEFAULT_VALUE: b"]


def says_no_more(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V1)
    add_draft(folder, 2, record(("b", "int"), namespace="n"))
    refusal = answers(200, '{"is_compatible": false}')

    async def refuse(request: Any) -> Any:
        return await refusal(request) if request.path.startswith("/compatibility") else None

    registry.always = refuse


def misses_versions(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", V1)
    registry.add("n.T", V2)
    add_draft(folder, 2, V2)
    add_draft(folder, 4, V2 | {"doc": "4"})


def is_no_avro(registry: RegistryStub, folder: Path) -> None:
    registry.add("n.T", "{}", schemaType="JSON")


@pytest.mark.parametrize(
    ("prepare", "version", "said"),
    [
        (id_is_taken, 1, "id 1 stands for another schema at the registry"),
        (has_other_id, 1, "the registry has it under id 5"),
        (has_other_schema, 1, "another schema as this version"),
        (has_other_default, 2, "a schema with other defaults, aliases, docs or properties as this version"),
        (id_is_ours, 2, "the registry's id for it is that of n.U version 1 here"),
        (was_deleted, 1, "deleted at the registry"),
        (is_incompatible, 2, "incompatible: READER_FIELD_MISSING_DEFAULT_VALUE: b"),
        (says_no_more, 2, "it gives no reason; of our own check: b: "),
        (misses_versions, 4, "the registry's next version is 3"),
        (is_no_avro, 1, "the schema is JSON"),
    ],
)
async def test_what_a_push_refuses(
    registry: RegistryStub, tmp_path: Path, prepare: Callable[[RegistryStub, Path], None], version: int, said: str
) -> None:
    folder = write_folder(tmp_path, V1)
    prepare(registry, folder)
    before = (dict(registry.schemas), (folder / "ids.jsonl").read_bytes())
    plan = await Push(client_of(registry), SchemaDirectory(folder, drafts=True)).plan()
    (conflict,) = [one for one in plan.conflicts if one.subject == "n.T"]
    assert conflict.version == version
    assert said in conflict.detail
    assert before == (registry.schemas, (folder / "ids.jsonl").read_bytes())


async def test_ids_that_come_out_otherwise_stop_a_push_unless_they_are_taken(
    registry: RegistryStub, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path, V1, V2)
    registry.next_id = 8
    with pytest.raises(ContractError, match="gave id 8 to version 1"):
        await push(registry, folder)
    assert ids(folder) == [(1, "n.T", 1), (2, "n.T", 2)]
    steps = await push(registry, folder, renumber=True)
    assert told(steps) == [("renumber", "n.T", 1, 8), ("register", "n.T", 2, None)]
    assert ids(folder) == [(8, "n.T", 1), (9, "n.T", 2)]
    assert {step.action for step in await push(registry, folder)} == {Action.NOTHING}


async def test_a_registry_that_refuses_after_all_stops_a_push(registry: RegistryStub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, V1)
    pushing = Push(client_of(registry), SchemaDirectory(folder))
    plan = await pushing.plan()
    registry.refuses = ["a was removed"]
    with pytest.raises(IncompatibleError, match="a was removed"):
        await pushing.run(plan, lambda _: None)
    registry.stop()
    with pytest.raises(RegistryError):
        await pushing.plan()


async def test_what_is_only_at_the_registry_is_told(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    registry.add("n.T", V2)
    assert told(await push(registry, write_folder(tmp_path, V1)))[1] == ("only there", "n.T", 2, None)


async def test_a_pull_writes_files_and_the_registrys_ids(registry: RegistryStub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    registry.next_id = 30
    registry.add("n.T", V1, guid="00000000-0000-0000-0000-00000000000a")
    registry.add("orders-value", OTHER)
    registry.add("n.T", V2)
    steps = await pull(registry, folder)
    assert told(steps) == [
        ("write file", "n.T", 1, 30),
        ("write file", "n.T", 2, 32),
        ("write file", "orders-value", 1, 31),
    ]
    found = SchemaDirectory(folder)
    assert ids(folder) == [(30, "n.T", 1), (31, "orders-value", 1), (32, "n.T", 2)]
    assert str(found.by_id(30).guid).endswith("0a")
    assert json.loads(found.by_id(32).text) == V2
    assert found.by_id(32).text.count("\n") > 5, "laid out for people"
    assert {step.action for step in await pull(registry, folder)} == {Action.NOTHING}
    add_draft(folder, 3, V2 | {"doc": "3"})
    registry.add("n.T", V2 | {"doc": "3"})
    assert told(await pull(registry, folder))[2] == ("enter id", "n.T", 3, 33)
    registry.deleted.add("n.T")
    assert told(await pull(registry, folder)) == [("in step", "orders-value", 1, 31)]
    assert len(ids(folder)) == 4, "what was deleted there stays here"


async def test_references_are_written_into_the_file(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    uses = record(("t", "n.T"), name="Uses", namespace="m")
    registry.add("m.Uses", uses, references=[{"name": "n.T", "subject": "n.T", "version": 1}])
    folder = write_folder(tmp_path)
    await pull(registry, folder)
    assert SchemaDirectory(folder).get("m.Uses").names == {"m.Uses", "n.T"}


@pytest.mark.parametrize(
    ("subject", "prepare", "said"),
    [
        ("n.T", has_other_schema, "another schema as this version"),
        ("n.T", has_other_id, "the registry has it under id 5"),
        ("n.T", has_other_default, "other defaults"),
        ("n.T", id_is_ours, "its id is that of n.U version 1"),
        ("n.T", is_no_avro, "the schema is JSON"),
        ("orders-value", lambda registry, _: registry.add("orders-value", V1), "its id is that of n.T version 1"),
        ("orders", lambda registry, _: registry.add("orders", OTHER), "called 'n.U', not 'orders'"),
        ("../x-value", lambda registry, _: registry.add("../x-value", OTHER), "no folder can be called so"),
        ("..", lambda registry, _: registry.add("..", OTHER), "no folder can be called so"),
        ("x-\x00", lambda registry, _: registry.add("x-\x00", OTHER), "no folder can be called so"),
    ],
)
async def test_what_a_pull_refuses(
    registry: RegistryStub, tmp_path: Path, subject: str, prepare: Callable[[RegistryStub, Path], None], said: str
) -> None:
    folder = write_folder(tmp_path / "schemas", V1)
    prepare(registry, folder)
    before = files(tmp_path)
    plan = await Pull(client_of(registry), SchemaDirectory(folder, drafts=True)).plan()
    (conflict,) = plan.conflicts
    assert conflict.subject == subject
    assert said in conflict.detail
    assert files(tmp_path) == before


async def test_a_version_that_was_deleted_for_good_is_a_conflict(registry: RegistryStub, tmp_path: Path) -> None:
    registry.add("n.T", V1)
    registry.always = None

    async def gap(request: Any) -> Any:
        return await answers(200, "[1, 3]")(request) if request.path.endswith("/versions") else None

    registry.always = gap
    plan = await Pull(client_of(registry), None).plan()
    assert [step.action for step in plan.steps] == [Action.WRITE, Action.CONFLICT]
    assert "version 2 was deleted for good" in plan.conflicts[0].detail
