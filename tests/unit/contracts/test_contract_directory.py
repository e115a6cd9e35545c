"""A folder of schemas that is sound loads; any damage stops it with file and line."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from schema_folder import SCHEMAS, record, write_folder

from broker_bridge.contracts import Contract, Mode, SchemaDirectory, parse_contract
from broker_bridge.contracts.folder_files import locked
from broker_bridge.errors import BridgeError, ContractError, IncompatibleError, NotFoundError, SchemaUnknownError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the project's contracts."""
    return Path(shutil.copytree(SCHEMAS, tmp_path / "schemas"))


def test_a_sound_folder(folder: Path) -> None:
    directory = SchemaDirectory(folder)
    assert directory.subjects() == ["shop.OrderPlaced", "shop.PaymentCaptured"]
    assert directory.get("shop.OrderPlaced") is directory.by_id(2)
    assert directory.get("shop.OrderPlaced", 1) is directory.by_id(1)
    contract = directory.by_id(2)
    assert (contract.subject, contract.version, contract.schema_id) == ("shop.OrderPlaced", 2, 2)
    assert contract.fields[-1] == "channel"
    assert contract.names == {"shop.OrderPlaced", "shop.OrderLine", "shop.Currency"}
    assert json.loads(contract.text)["name"] == "OrderPlaced"
    with pytest.raises(SchemaUnknownError, match="no schema has id 99"):
        directory.by_id(99)


def ids(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    file = folder / "ids.jsonl"
    file.write_text(
        "".join(line + "\n" for line in change(file.read_text(encoding="utf-8").splitlines())), encoding="utf-8"
    )


def edit(folder: Path, name: str, before: str, after: str) -> None:
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


V1 = "shop.OrderPlaced/v1.avsc"


@pytest.mark.parametrize(
    ("damage", "kind", "place", "message"),
    [
        (lambda f: ids(f, lambda x: [*x, "{"]), ContractError, "ids.jsonl:4", "not valid JSON"),
        (lambda f: ids(f, lambda x: ["<<<<<<< HEAD", *x]), ContractError, "ids.jsonl:1", "a merge was left unfinished"),
        (lambda f: ids(f, lambda x: [*x, ">>>>>>> b"]), ContractError, "ids.jsonl:4", "a merge was left unfinished"),
        (lambda f: ids(f, lambda x: [*x, "[]"]), ContractError, "ids.jsonl:4", "exactly id, sha256"),
        (lambda f: ids(f, lambda x: [*x, x[0]]), ContractError, "ids.jsonl:4", "id 1 is used twice"),
        (lambda f: ids(f, lambda x: [*x, x[0].replace('"id": 1', '"id": 9')]), ContractError, "ids.jsonl:4", "two ids"),
        (lambda f: ids(f, lambda x: [x[0].replace("1,", "0,", 1), *x[1:]]), ContractError, "ids.jsonl:1", "id is 0"),
        (lambda f: ids(f, lambda x: [x[0].replace("1,", "true,", 1)]), ContractError, "ids.jsonl:1", "id is True"),
        (lambda f: ids(f, lambda x: [x[0].replace("1,", '1, "id": 2,', 1)]), ContractError, "ids.jsonl:1", "twice"),
        (lambda f: ids(f, lambda x: x[1:]), ContractError, V1, "has no id"),
        (lambda f: (f / V1).unlink(), ContractError, "ids.jsonl:1", "which has no file"),
        (lambda f: (f / "ids.jsonl").unlink(), NotFoundError, "ids.jsonl", "missing"),
        (shutil.rmtree, NotFoundError, "schemas", "no such folder"),
        (lambda f: edit(f, V1, '"long"', '"int"'), ContractError, V1, "edited after it was registered"),
        (lambda f: edit(f, V1, "{", "", ), ContractError, V1, "not valid JSON"),
        (lambda f: edit(f, V1, '"OrderPlaced"', '"OrderTaken"'), ContractError, V1, "not 'shop.OrderPlaced'"),
        (lambda f: (f / V1).write_bytes(b"\xff\xfe"), ContractError, V1, "not UTF-8"),
        (lambda f: (f / V1).write_text(""), ContractError, V1, "there is nothing in it"),
        (lambda f: (f / V1).write_bytes(b"\xef\xbb\xbf{}"), ContractError, V1, "begins with a byte order mark"),
        (lambda f: (f / V1).write_text("[" * 100_000), ContractError, V1, "nested too deeply"),
        (lambda f: (f / "shop.OrderPlaced/v01.avsc").write_text("{}"), ContractError, "v01.avsc", "called v<N>.avsc"),
    ],
)  # fmt: skip
def test_damage_is_found_at_load(
    folder: Path, damage: Callable[[Path], Any], kind: type[BridgeError], place: str, message: str
) -> None:
    damage(folder)
    with pytest.raises(kind) as caught:
        SchemaDirectory(folder)
    assert message in caught.value.detail
    assert place in caught.value.where


def test_a_gap_between_versions(tmp_path: Path) -> None:
    write_folder(tmp_path, record(), record(("x", "int", 1)))
    (tmp_path / "T/v2.avsc").rename(tmp_path / "T/v3.avsc")
    ids(tmp_path, lambda lines: [lines[0], lines[1].replace('"version": 2', '"version": 3')])
    with pytest.raises(ContractError, match="version 3 but no registered version 2"):
        SchemaDirectory(tmp_path)


def test_what_does_not_change_the_wire_may_be_edited(folder: Path) -> None:
    edit(folder, V1, "Unique for ever", "Unique, always")
    assert "always" in SchemaDirectory(folder).get("shop.OrderPlaced", 1).text


def draft(folder: Path, version: int, schema: Any) -> Path:
    file = folder / "T" / f"v{version}.avsc"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(schema), encoding="utf-8")
    return file


def test_register_gives_the_next_id_once(tmp_path: Path) -> None:
    write_folder(tmp_path, record())
    draft(tmp_path, 2, record(("x", "int", 1)))
    with pytest.raises(ContractError, match="has no id"):
        SchemaDirectory(tmp_path)
    directory = SchemaDirectory(tmp_path, drafts=True)
    assert [one.version for one in directory.drafts] == [2]
    contract = directory.register("T")
    assert (contract.schema_id, contract.version) == (2, 2)
    assert directory.get("T") is contract
    assert directory.drafts == []
    assert SchemaDirectory(tmp_path).get("T").schema_id == 2
    assert directory.register("T", 2).schema_id == 2, "asking again gives the same id"
    assert len((tmp_path / "ids.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    with pytest.raises(NotFoundError, match="no schema file for version 3"):
        directory.register("T")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"default": 1', '"default": 2'),
        ('"aliases": ["y"]', '"aliases": ["z"]'),
        ('"doc": "one"', '"doc": "two"'),
        ('"note": 1', '"note": 2'),
    ],
)
def test_an_edit_that_the_canonical_form_leaves_out_is_noticed(tmp_path: Path, before: str, after: str) -> None:
    write_folder(tmp_path)
    field = {"name": "x", "type": "int", "default": 1, "aliases": ["y"], "doc": "one", "note": 1}
    file = draft(tmp_path, 1, record(field))
    SchemaDirectory(tmp_path, drafts=True).register("T")
    registered = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(dict(reversed(registered.items()))) + "\n", encoding="utf-8")
    directory = SchemaDirectory(tmp_path)
    assert directory.register("T", 1).schema_id == 1, "its layout says nothing"
    edit(tmp_path, "T/v1.avsc", before, after)
    with pytest.raises(ContractError, match="edited after it was registered as id 1") as caught:
        directory.register("T", 1)
    assert caught.value.where == str(file)
    assert "v2.avsc" in caught.value.remedy
    assert SchemaDirectory(tmp_path).by_id(1).version == 1, "values are read alike, so a worker starts"


def test_a_version_is_entered_under_the_id_that_a_registry_gave_it(tmp_path: Path) -> None:
    write_folder(tmp_path, record())
    directory = SchemaDirectory(tmp_path, drafts=True)

    def version_of(version: int, text: str) -> Contract:
        return parse_contract(text, subject="T", version=version, guid=UUID(int=version))

    text = json.dumps(record(("x", "int", 1)))
    assert directory.adopt(version_of(2, text), 40) is directory.by_id(40)
    assert (tmp_path / "T" / "v2.avsc").read_text(encoding="utf-8") == text
    assert directory.adopt(version_of(2, text), 40).schema_id == 40, "again"
    third = draft(tmp_path, 3, record(("x", "int", 2)))
    assert directory.adopt(version_of(3, third.read_text(encoding="utf-8")), 7).where == str(third)
    assert [one.schema_id for one in SchemaDirectory(tmp_path).versions("T")] == [1, 40, 7]
    assert directory.by_guid(UUID(int=2)).schema_id == 40
    before = (tmp_path / "ids.jsonl").read_bytes()
    for version, other, schema_id, said in (
        (4, record(("x", "int", 4)), 40, "id 40 is that of T version 2"),
        (2, record(("x", "int", 1)), 41, "3 versions with an id, so 2 is not the next"),
        (5, record(("x", "int", 1)), 42, "so 5 is not the next"),
        (2, record(("x", "int", 9)), 40, "id 40 is that of"),
    ):
        with pytest.raises(ContractError, match=said):
            directory.adopt(version_of(version, json.dumps(other)), schema_id)
    assert (tmp_path / "ids.jsonl").read_bytes() == before


def test_a_version_gets_another_id(tmp_path: Path) -> None:
    write_folder(tmp_path, record(name="A"), record())
    directory = SchemaDirectory(tmp_path)
    directory.renumber(directory.get("T"), 9)
    assert [one.schema_id for one in SchemaDirectory(tmp_path).contracts()] == [1, 9]
    assert directory.by_id(9).subject == "T"
    with pytest.raises(ContractError, match="id 1 is taken"):
        directory.renumber(directory.get("T"), 1)


def test_register_starts_a_subject_and_keeps_ids_apart(tmp_path: Path) -> None:
    write_folder(tmp_path, record(name="A"), record(name="B"))
    ids(tmp_path, lambda lines: [lines[0], lines[1].replace('"id": 2', '"id": 70')])
    draft(tmp_path, 1, record())
    assert SchemaDirectory(tmp_path, drafts=True).register("T").schema_id == 71


def test_register_refuses_what_cannot_read_the_last_version(tmp_path: Path) -> None:
    write_folder(tmp_path, record())
    file = draft(tmp_path, 2, record(("x", "int")))
    before = (tmp_path / "ids.jsonl").read_bytes()
    directory = SchemaDirectory(tmp_path, drafts=True)
    with pytest.raises(IncompatibleError, match="x: the writer has no such field") as caught:
        directory.register("T")
    assert caught.value.where == str(file)
    assert (tmp_path / "ids.jsonl").read_bytes() == before
    assert directory.register("T", mode=Mode.FORWARD).schema_id == 2


def test_register_keeps_the_order_of_versions(tmp_path: Path) -> None:
    write_folder(tmp_path, record())
    draft(tmp_path, 2, record())
    draft(tmp_path, 3, record())
    with pytest.raises(ContractError, match="version 2 has no id yet"):
        SchemaDirectory(tmp_path, drafts=True).register("T", 3)


def _register(folder: Path, subject: str) -> int:
    return SchemaDirectory(folder, drafts=True).register(subject).schema_id


def test_processes_that_register_at_once_get_different_ids(tmp_path: Path) -> None:
    write_folder(tmp_path)
    subjects = [f"S{number}" for number in range(12)]
    for subject in subjects:
        (tmp_path / subject).mkdir()
        (tmp_path / subject / "v1.avsc").write_text(json.dumps(record(name=subject)), encoding="utf-8")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        given = pool.starmap(_register, [(tmp_path, subject) for subject in subjects])
    assert sorted(given) == list(range(1, 13))
    assert len(SchemaDirectory(tmp_path).subjects()) == 12
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["ids.jsonl"]


def test_a_load_in_the_middle_of_a_registration_waits_for_its_end(tmp_path: Path) -> None:
    write_folder(tmp_path, record())
    whole = (tmp_path / "ids.jsonl").read_text(encoding="utf-8")
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path):
            (tmp_path / "ids.jsonl").write_text("", encoding="utf-8")
            loading = pool.submit(SchemaDirectory, tmp_path)
            with pytest.raises(TimeoutError):
                loading.result(0.2)
            (tmp_path / "ids.jsonl").write_text(whole, encoding="utf-8")
        assert loading.result(30).get("T").schema_id == 1


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    write_folder(tmp_path, record())
    (tmp_path / ".ids.jsonl.new").write_text("half a li", encoding="utf-8")
    (tmp_path / "T" / ".v2.avsc.new").write_text("half a sche", encoding="utf-8")
    text = json.dumps(record(("x", "int", 1)))
    assert SchemaDirectory(tmp_path).submit("T", text, mode=Mode.BACKWARD).schema_id == 2
    assert sorted(one.name for one in tmp_path.rglob("*") if one.is_file()) == ["ids.jsonl", "v1.avsc", "v2.avsc"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("int", "this schema is a int"),
        (5, "a name, an object or a list, not 5"),
        ({}, "no 'type'"),
        ({"type": "record", "name": "T"}, "no list of 'fields'"),
        ({"type": "record", "fields": []}, "'name' is missing"),
        (record(name="a b"), "not a valid Avro name"),
        (record(name="1a"), "not a valid Avro name"),
        (record(("a b", "int")), "not a valid Avro name"),
        (record(("x", "int"), ("x", "int")), "two fields of 'T' are called 'x'"),
        (record({"name": "x", "type": "int", "aliases": ["y"]}, ("y", "int")), "two fields of 'T' are called 'y'"),
        (record(("x", "Y")), "no type is called 'Y'"),
        (record(("x", [])), "the union is empty"),
        (record(("x", ["int", "int"])), "the union has 'int' twice"),
        (record(("x", ["int", ["null"]])), "a union stands directly in a union"),
        (record(("x", {"type": "array"})), "the array has no 'items'"),
        (record(("x", {"type": "enum", "name": "E", "symbols": []})), "no symbols"),
        (record(("x", {"type": "enum", "name": "E", "symbols": ["A", "A"]})), "twice"),
        (record(("x", {"type": "enum", "name": "E", "symbols": ["A-B"]})), "not a valid Avro name"),
        (record(("x", {"type": "enum", "name": "E", "symbols": ["A"], "default": "B"})), "not one of its symbols"),
        (record(("x", {"type": "fixed", "name": "F", "size": -1})), "not a whole number from 0"),
        (record(("x", {"type": "fixed", "name": "F"})), "not a whole number from 0"),
        (record(("x", record()), ), "defined twice"),
        (record(("x", {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3})), "scale <= precision"),
        (record(("x", {"type": "bytes", "logicalType": "decimal", "precision": 9999})), "precision <= 1000"),
        (record(("x", {"type": "fixed", "name": "F", "size": 1, "logicalType": "decimal", "precision": 3})), "1 bytes"),
        (record(("x", "int", "one")), "the default 'one' is no int"),
        (record(("x", "int", None)), "the default None is no int"),
        (record(("x", "int", 2**31)), "is no int"),
        (record(("x", ["null", "int"], "a")), "fits no branch"),
        (record(("x", {"type": "array", "items": "int"}, ["a"])), "is no array"),
        (record(("x", record(("y", "int"), name="Y"), {})), "field y is missing"),
        (record(("x", "bytes", "\u20ac")), "is no bytes"),
    ],
)  # fmt: skip
def test_schemas_that_are_none(schema: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(json.dumps(schema), where="new.avsc")
    assert message in caught.value.detail
    assert caught.value.where.startswith("new.avsc")


def test_a_schema_may_be_64_types_deep_and_not_more() -> None:
    def nested(levels: int) -> str:
        kind: Any = "int"
        for _ in range(levels):
            kind = {"type": "array", "items": kind}
        return json.dumps(record(("x", kind)))

    assert parse_contract(nested(60)).fields == ("x",)
    with pytest.raises(ContractError, match="nested more than 64 deep"):
        parse_contract(nested(70))
