"""What a registry's clients are answered, call by call, from a folder of schemas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from registry_calls import Client, schema
from schema_folder import SCHEMAS, record

from broker_bridge.contracts import SchemaDirectory
from broker_bridge.contracts.registry_values import Request

ORDER = "shop.OrderPlaced"
NEW = "orders.placed-value"
ONE = record(("a", "int"), name="One", namespace="shop")
TWO = record(("a", "int"), ("b", "string", ""), name="One", namespace="shop")
BROKEN = record(("a", "int"), ("b", "string"), name="One", namespace="shop")


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """On a copy of the project's contracts: ids 1 and 2 are ORDER's, 3 is another subject's."""
    return Client(Path(shutil.copytree(SCHEMAS, tmp_path / "schemas")))


# --- reading ---------------------------------------------------------------------------------------------


def test_subjects_and_versions(client: Client) -> None:
    assert client("GET", "/subjects") == (200, [ORDER, "shop.PaymentCaptured"])
    assert client("GET", "/subjects", subjectPrefix="shop.P") == (200, ["shop.PaymentCaptured"])
    assert client("GET", f"/subjects/{ORDER}/versions") == (200, [1, 2])
    status, found = client("GET", f"/subjects/{ORDER}/versions/1")
    assert (status, found["subject"], found["version"], found["id"]) == (200, ORDER, 1, 1)
    text = (SCHEMAS / ORDER / "v1.avsc").read_text(encoding="utf-8")
    assert json.loads(found["schema"]) == json.loads(text)
    assert client("GET", f"/subjects/{ORDER}/versions/1/schema") == (200, json.loads(text))
    assert client("GET", f"/subjects/{ORDER}/versions/1/referencedby") == (200, [])
    latest = client("GET", f"/subjects/{ORDER}/versions/latest")
    assert latest == client("GET", f"/subjects/{ORDER}/versions/2") == client("GET", f"/subjects/{ORDER}/versions/-1")


def test_ids(client: Client) -> None:
    status, found = client("GET", "/schemas/ids/2", deleted="true", subject=ORDER)
    assert (status, list(found)) == (200, ["schema", "guid"])
    assert client("GET", f"/schemas/guids/{found['guid']}") == (200, found)
    assert json.loads(found["schema"])["name"] == "OrderPlaced"
    assert client("GET", "/schemas/ids/2/schema")[1] == json.loads(found["schema"])
    assert client("GET", "/schemas/ids/2/versions") == (200, [{"subject": ORDER, "version": 2}])
    assert client("GET", "/schemas/ids/2/subjects") == (200, [ORDER])
    assert client("GET", "/schemas/ids/2/subjects", subject="other") == (200, [])


def test_what_the_server_is(client: Client) -> None:
    assert client("GET", "/") == (200, {})
    assert client("GET", "/schemas/types") == (200, ["AVRO"])
    assert client("GET", "/contexts") == (200, ["."])
    assert client("GET", "/mode") == (200, {"mode": "READWRITE"})
    assert client("GET", "/mode/x", defaultToGlobal="true") == (200, {"mode": "READWRITE"})
    assert client.code("GET", "/mode/x") == 40409
    assert client.code("PUT", "/mode", {"mode": "IMPORT"}) == 42205
    assert [one["id"] for one in client("GET", "/schemas")[1]] == [1, 2, 3]
    assert [one["id"] for one in client("GET", "/schemas", latestOnly="true")[1]] == [2, 3]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/subjects/none/versions", 40401),
        ("/subjects/none/versions/1", 40401),
        ("/subjects/none/versions/latest", 40401),
        (f"/subjects/{ORDER}/versions/3", 40402),
        (f"/subjects/{ORDER}/versions/abc", 42202),
        (f"/subjects/{ORDER}/versions/0", 42202),
        (f"/subjects/{ORDER}/versions/-2", 42202),
        (f"/subjects/{ORDER}/versions/2147483648", 42202),
        (f"/subjects/{ORDER}/versions/٣", 42202),
        ("/schemas/ids/4", 40403),
        ("/schemas/ids/abc", 40403),
        ("/schemas/ids/99999999999999999999/versions", 40403),
        ("/schemas/ids/4/subjects", 40403),
        ("/schemas/guids/00000000-0000-0000-0000-000000000000", 40403),
        ("/schemas/guids/1/ids", 40403),
        ("/config/none", 40408),
        ("/associations/resources/-/orders.placed", 404),
        ("/nothing", 404),
        ("/subjects/x/versions/1/nothing", 404),
        ("/schemas/ids", 404),
        ("/compatibility/subjects/x/versions", 405),
    ],
)
def test_what_is_not_there(client: Client, path: str, code: int) -> None:
    assert client.code("GET", path) == code


# --- registering -----------------------------------------------------------------------------------------


def test_what_is_registered_is_a_file_to_commit(client: Client) -> None:
    assert client.register(f"/subjects/{NEW}/versions", schema(ONE), normalize="False") == 4
    assert client.register(f"/subjects/{NEW}/versions", schema(TWO)) == 5
    text = (client.folder / NEW / "v2.avsc").read_text(encoding="utf-8")
    assert json.loads(text) == TWO
    assert text.startswith('{\n  "type": "record",\n')
    assert text.endswith("}\n")
    directory = SchemaDirectory(client.folder)
    assert [(one.schema_id, one.version) for one in directory.versions(NEW)] == [(4, 1), (5, 2)]
    assert client("GET", f"/subjects/{NEW}/versions") == (200, [1, 2])
    assert client("GET", "/schemas/ids/5/versions") == (200, [{"subject": NEW, "version": 2}])


SAME = [
    json.dumps(ONE, indent=8),
    '{"namespace":"shop","fields":[{"type":{"type":"int"},"name":"a"}],"name":"One","type":"record"}',
    '{"name":"shop.One","fields":[{"type":"int","name":"a"}],"type":"record"}',
]


@pytest.mark.parametrize("text", SAME)
def test_the_same_schema_has_the_same_id(client: Client, text: str) -> None:
    assert client.register(f"/subjects/{NEW}/versions", schema(ONE)) == 4
    client("POST", f"/subjects/{NEW}/versions", schema(TWO))
    before = (client.folder / "ids.jsonl").read_bytes()
    assert client.register(f"/subjects/{NEW}/versions", schema(text, schemaType="AVRO")) == 4
    assert (client.folder / "ids.jsonl").read_bytes() == before
    status, found = client("POST", f"/subjects/{NEW}", schema(text), normalize="False", deleted="False")
    assert (status, found["id"], found["version"], found["subject"]) == (200, 4, 1, NEW)


@pytest.mark.parametrize(
    "change",
    [{"doc": "said"}, {"fields": [{"name": "a", "type": "int", "default": 1}]}, {"aliases": ["Uno"]}],
    ids=["doc", "default", "alias"],
)
def test_what_clients_may_see_is_another_version(client: Client, change: dict[str, Any]) -> None:
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    assert client.code("POST", f"/subjects/{NEW}", schema({**ONE, **change})) == 40403
    assert client.register(f"/subjects/{NEW}/versions", schema({**ONE, **change})) == 5


def test_a_default_of_true_is_not_1(client: Client) -> None:
    extra = {"shop.flag": 1}
    client("POST", f"/subjects/{NEW}/versions", schema({**ONE, **extra}))
    assert client.register(f"/subjects/{NEW}/versions", schema({**ONE, "shop.flag": True})) == 5


def test_a_version_that_breaks_readers_is_refused_and_says_why(client: Client) -> None:
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    status, answer = client("POST", f"/subjects/{NEW}/versions", schema(BROKEN))
    assert (status, answer["error_code"]) == (409, 409)
    assert NEW in answer["message"]
    assert "default" in answer["message"]
    assert client("GET", f"/subjects/{NEW}/versions") == (200, [1])
    assert not (client.folder / NEW / "v2.avsc").exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b'{"schema": "{}", "schema": "{}"}', 400),
        (b"[" * 100_000, 400),
        ({}, 42201),
        ({"schema": None}, 42201),
        ({"schema": 5}, 42201),
        ({"schema": "  "}, 42201),
        ({"schema": {"type": "record"}}, 42201),
        (schema("{"), 42201),
        (schema('"string"'), 42201),
        (schema("[" * 100_000), 42201),
        (schema('{"type":"record","name":"N","fields":[],"x":' + "[" * 900 + "]" * 900 + "}"), 42201),
        (schema('{"type":"record","name":"N","fields":[],"x":NaN}'), 42201),
        (schema('{"type":"record","name":"N","fields":[],"x":1e999}'), 42201),
        (schema('{"type":"record","name":"N","fields":[],"doc":"\\ud800"}'), 42201),
        (schema({"type": "record", "name": "N", "fields": [{"name": "x", "type": "gone"}]}), 42201),
        (schema({"type": "record", "name": "N", "fields": [{"name": "x", "type": "int", "default": "a"}]}), 42201),
        (schema(ONE, schemaType="PROTOBUF"), 42201),
        (schema(ONE, schemaType=["AVRO"]), 42201),
        (schema(ONE, ruleSet={"domainRules": []}), 42201),
        (schema(ONE, metadata={"tags": {}}), 42201),
        (schema(ONE, id=7), 42205),
        (schema(ONE, version=7), 42205),
    ],
)
@pytest.mark.parametrize("path", ["/subjects/{}/versions", "/compatibility/subjects/{}/versions"])
def test_bodies_that_are_none(client: Client, body: Any, code: int, path: str) -> None:
    before = sorted(client.folder.rglob("*"))
    assert client.code("POST", path.format(NEW), body) == code
    assert sorted(client.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("shop.Other", 42201),  # without a dash it is the record's name
        ("..", 42208),
        (".hidden-x", 42208),
        ("a b-value", 42208),
        ("a\x00-value", 42208),
        ("a/b-value", 42208),
        (":.context:x-value", 42208),
        ("ä-value", 42208),
        ("x" * 250, 42208),
    ],
)
def test_subjects_that_cannot_be_folders(client: Client, subject: str, code: int) -> None:
    answer = client.api.answer(Request("POST", ("subjects", subject, "versions"), {}, json.dumps(schema(ONE)).encode()))
    assert answer.body["error_code"] == code


def test_nulls_that_clients_send(client: Client) -> None:
    body = schema(ONE, schemaType=None, references=[], metadata=None, ruleSet=None, version=-1, id=None)
    assert client.register(f"/subjects/{NEW}/versions", body) == 4


# --- references ------------------------------------------------------------------------------------------

MONEY = record(("amount", "long"), ("unit", {"type": "enum", "name": "Unit", "symbols": ["EUR"]}), name="Money")
PRICED = record(("net", "shop.Money"), ("gross", "Money"), ("unit", "Unit"), name="Priced", namespace="shop")
OF_MONEY = {"name": "shop.Money", "subject": "shop.Money", "version": 1}


def test_types_of_other_subjects_are_written_into_the_file(client: Client) -> None:
    client("POST", "/subjects/shop.Money/versions", schema({**MONEY, "namespace": "shop"}))
    body = schema(PRICED, references=[OF_MONEY])
    status, answer = client("POST", f"/subjects/{NEW}/versions", body)
    assert (status, answer["id"]) == (200, 5)
    found = json.loads(client("GET", "/schemas/ids/5")[1]["schema"])
    net, gross, unit = (field["type"] for field in found["fields"])
    assert (net["name"], net["fields"][1]["type"]["symbols"]) == ("shop.Money", ["EUR"])
    assert (gross, unit) == ("shop.Money", "shop.Unit")
    assert SchemaDirectory(client.folder).get(NEW).names == {"shop.Priced", "shop.Money", "shop.Unit"}
    assert client("POST", f"/subjects/{NEW}/versions", body)[1]["id"] == 5
    assert client("POST", f"/subjects/{NEW}", body)[1]["version"] == 1
    assert client("POST", f"/subjects/{NEW}", schema(found))[1]["version"] == 1, "the same, said at once"
    latest = schema(PRICED, references=[{**OF_MONEY, "version": -1}])
    assert client("POST", f"/compatibility/subjects/{NEW}/versions/latest", latest)[1] == {"is_compatible": True}


@pytest.mark.parametrize(
    "references",
    [
        [{**OF_MONEY, "version": 2}],
        [{**OF_MONEY, "subject": "none"}],
        [{**OF_MONEY, "name": "shop.Coin"}],
        [{**OF_MONEY, "version": "1"}],
        [{"name": "shop.Money"}],
        ["shop.Money"],
        {"shop.Money": 1},
        5,
    ],
)
def test_references_that_lead_nowhere(client: Client, references: Any) -> None:
    client("POST", "/subjects/shop.Money/versions", schema({**MONEY, "namespace": "shop"}))
    before = (client.folder / "ids.jsonl").read_bytes()
    assert client.code("POST", f"/subjects/{NEW}/versions", schema(PRICED, references=references)) == 42201
    assert client.code("POST", f"/subjects/{NEW}/versions", schema("{", references=[OF_MONEY])) == 42201
    assert client.code("POST", f"/subjects/{NEW}/versions", schema({"type": []}, references=[OF_MONEY])) == 42201
    assert (client.folder / "ids.jsonl").read_bytes() == before


# --- compatibility ---------------------------------------------------------------------------------------


def test_compatibility_is_checked_without_registering(client: Client) -> None:
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    check = f"/compatibility/subjects/{NEW}/versions"
    for path in (check, f"{check}/latest", f"{check}/1"):
        assert client("POST", path, schema(TWO)) == (200, {"is_compatible": True})
        assert client("POST", path, schema(BROKEN)) == (200, {"is_compatible": False})
    status, answer = client("POST", f"{check}/latest", schema(BROKEN), verbose="True")
    assert (status, answer["is_compatible"], len(answer["messages"])) == (200, False, 1)
    assert "default" in answer["messages"][0]
    assert client("POST", f"{check}/latest", schema(TWO), verbose="true")[1] == {"is_compatible": True, "messages": []}
    assert client.code("POST", f"{check}/2", schema(TWO)) == 40402
    assert client.code("POST", f"{check}/x", schema(TWO)) == 42202
    assert client.code("POST", "/compatibility/subjects/no-value/versions/1", schema(TWO)) == 40401
    assert client("POST", "/compatibility/subjects/no-value/versions/latest", schema(TWO))[1] == {"is_compatible": True}
    assert client("GET", f"/subjects/{NEW}/versions") == (200, [1])


def test_thousands_of_problems_are_not_thousands_of_lines(client: Client) -> None:
    many = record(*((f"f{number}", "int") for number in range(2_000)), name="One", namespace="shop")
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    status, answer = client("POST", f"/subjects/{NEW}/versions", schema(many))
    assert (status, len(answer["message"]) < 9_000) == (409, True)
    check = f"/compatibility/subjects/{NEW}/versions/latest"
    assert len(client("POST", check, schema(many), verbose="true")[1]["messages"]) == 100


def test_levels_are_kept_and_obeyed(client: Client) -> None:
    assert client("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})
    assert client("PUT", f"/config/{NEW}", {"compatibility": "none"}) == (200, {"compatibility": "NONE"})
    assert client("PUT", "/config", {"compatibility": "FULL_TRANSITIVE"}) == (200, {"compatibility": "FULL_TRANSITIVE"})
    other = Client(client.folder)
    assert other("GET", f"/config/{NEW}") == (200, {"compatibilityLevel": "NONE"})
    assert other("GET", "/config/x-value", defaultToGlobal="true") == (200, {"compatibilityLevel": "FULL_TRANSITIVE"})
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    assert client.register(f"/subjects/{NEW}/versions", schema(BROKEN)) == 5
    client("POST", "/subjects/x-value/versions", schema(ONE))
    assert client.code("POST", "/subjects/x-value/versions", schema(BROKEN)) == 409
    assert client("DELETE", f"/config/{NEW}") == (200, {"compatibilityLevel": "NONE"})
    assert client.code("DELETE", f"/config/{NEW}") == 40408
    renamed = record(("c", "int"), name="One", namespace="shop")
    assert client.code("POST", f"/subjects/{NEW}/versions", schema(renamed)) == 409
    assert client("DELETE", "/config") == (200, {"compatibilityLevel": "FULL_TRANSITIVE"})
    assert client("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})


@pytest.mark.parametrize("level", ["BACKWARDS", "", None, 5, ["FULL"]])
def test_levels_that_are_none(client: Client, level: Any) -> None:
    assert client.code("PUT", "/config", {"compatibility": level}) == 42203
    assert client.code("PUT", "/config/a b", {"compatibility": "FULL"}) == 42208
    assert not (client.folder / "compatibility.json").exists()


# --- what is refused -------------------------------------------------------------------------------------


def test_nothing_is_deleted(client: Client) -> None:
    for query in ({}, {"permanent": "true"}):
        assert client.code("DELETE", f"/subjects/{ORDER}", **query) == 42205
        assert client.code("DELETE", f"/subjects/{ORDER}/versions/1", **query) == 42205
    assert client.code("DELETE", "/subjects/none") == 40401
    assert client.code("DELETE", "/subjects/none/versions/1") == 40401
    assert client.code("DELETE", f"/subjects/{ORDER}/versions/9") == 40402
    assert client("GET", f"/subjects/{ORDER}/versions") == (200, [1, 2])


def test_read_only(client: Client) -> None:
    reader = Client(client.folder, read_only=True)
    assert reader("GET", "/mode") == (200, {"mode": "READONLY"})
    assert reader.code("POST", f"/subjects/{NEW}/versions", schema(ONE)) == 42205
    assert reader.code("PUT", "/config", {"compatibility": "FULL"}) == 42205
    client("PUT", f"/config/{NEW}", {"compatibility": "FULL"})
    assert reader.code("DELETE", f"/config/{NEW}") == 42205
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    assert reader.register(f"/subjects/{NEW}/versions", schema(ONE)) == 4, "known already"


# --- a folder that others change -------------------------------------------------------------------------


def test_a_file_that_somebody_is_writing_is_not_overwritten(client: Client) -> None:
    client("POST", f"/subjects/{NEW}/versions", schema(ONE))
    mine = client.folder / NEW / "v2.avsc"
    mine.write_text(json.dumps({**TWO, "doc": "mine"}), encoding="utf-8")
    assert client.code("POST", f"/subjects/{NEW}/versions", schema(TWO)) == 42205
    assert "mine" in mine.read_text(encoding="utf-8")
    assert client.register(f"/subjects/{NEW}/versions", schema({**TWO, "doc": "mine"})) == 5
    assert mine.read_text(encoding="utf-8") == json.dumps({**TWO, "doc": "mine"}), "as its author laid it out"


def test_changes_from_outside_are_seen(client: Client) -> None:
    assert client("GET", "/subjects")[1] == [ORDER, "shop.PaymentCaptured"]
    (client.folder / "shop.One").mkdir()
    (client.folder / "shop.One" / "v1.avsc").write_text(json.dumps(ONE), encoding="utf-8")
    assert client("GET", "/subjects")[1] == [ORDER, "shop.PaymentCaptured"], "no id yet"
    SchemaDirectory(client.folder, drafts=True).register("shop.One")
    assert client("GET", "/subjects")[1] == ["shop.One", ORDER, "shop.PaymentCaptured"]


def test_a_broken_folder_is_an_error_until_it_is_mended(client: Client) -> None:
    ids = client.folder / "ids.jsonl"
    whole = ids.read_text(encoding="utf-8")
    ids.write_text(whole + "<<<<<<< HEAD\n", encoding="utf-8")
    status, answer = client("GET", "/subjects")
    assert (status, answer["error_code"]) == (500, 50001)
    assert "ids.jsonl:4" in answer["message"]
    ids.unlink()
    assert client.code("GET", "/subjects") == 50001
    ids.write_text(whole, encoding="utf-8")
    assert client("GET", "/subjects")[0] == 200
    (client.folder / "compatibility.json").write_text('{"default": "ALL", "subjects": {}}', encoding="utf-8")
    assert client.code("GET", "/config") == 50001
    assert client.code("POST", f"/subjects/{NEW}/versions", schema(ONE)) == 50001
