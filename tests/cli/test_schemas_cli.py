"""`broker-bridge schemas` as a person or a pipeline runs it: the installed command, in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker_bridge.cli.schemas import group
from broker_bridge.contracts.ids_file import content_of
from broker_bridge.errors import SchemaUnknownError, UsageError

SCHEMAS = Path(__file__).parents[2] / "schemas"
COMMAND = Path(sys.executable).with_name("broker-bridge")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with a copy of the project's schemas."""
    shutil.copytree(SCHEMAS, tmp_path / "schemas")
    return tmp_path


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), "schemas", *arguments], cwd=home, capture_output=True, text=True, timeout=60, encoding="utf-8"
    )


def answer(home: Path, *arguments: str, status: int = 0) -> Any:
    finished = run(home, *arguments, "--json")
    assert finished.returncode == status, finished.stderr
    assert finished.stderr == ""
    return json.loads(finished.stdout)


def problem(home: Path, *arguments: str, status: int) -> dict[str, Any]:
    finished = run(home, *arguments, "--json")
    assert finished.returncode == status, finished.stdout
    assert finished.stdout == ""
    found: dict[str, Any] = json.loads(finished.stderr)
    return found


def schema(home: Path, name: str, *fields: dict[str, Any]) -> str:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"type": "record", "name": "T", "namespace": "n", "fields": list(fields)})
    (home / name).write_text(text, encoding="utf-8")
    return name


A = {"name": "a", "type": "int"}
B = {"name": "b", "type": "int"}
B_OPTIONAL = {"name": "b", "type": "int", "default": 0}


def test_list(home: Path) -> None:
    rows = answer(home, "list")["schemas"]
    assert [(row["subject"], row["version"], row["id"]) for row in rows] == [
        ("shop.OrderPlaced", 1, 1),
        ("shop.OrderPlaced", 2, 2),
        ("shop.PaymentCaptured", 1, 3),
    ]
    assert rows[1]["fields"][-1] == "channel"
    shown = run(home, "list").stdout
    assert "shop.PaymentCaptured" in shown
    assert "\x1b" not in shown


def test_list_shows_drafts(home: Path) -> None:
    schema(home, "schemas/n.T/v1.avsc", A)
    assert answer(home, "list")["schemas"][0] | {"sha256": "", "file": ""} == {
        "subject": "n.T", "version": 1, "id": None, "fields": ["a"], "sha256": "", "file": "",
    }  # fmt: skip
    assert "draft" in run(home, "list").stdout


def test_check_of_the_whole_folder(home: Path) -> None:
    assert answer(home, "check") == {"compatible": True, "mode": "BACKWARD", "checked": 3, "problems": []}
    assert answer(home, "check", "--mode", "FULL_TRANSITIVE")["compatible"] is True
    assert "3 schemas checked: BACKWARD compatible" in run(home, "check").stdout


def test_check_of_a_folder_finds_damage_and_names_the_line(home: Path) -> None:
    with (home / "schemas/ids.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": 1}\n')
    found = problem(home, "check", status=2)
    assert found["code"] == "contract_invalid"
    assert found["instance"] == "schemas/ids.jsonl:4"
    assert "schemas/ids.jsonl:4" in run(home, "check").stderr


def test_check_of_a_folder_finds_an_incompatible_version(home: Path) -> None:
    schema(home, "schemas/n.T/v1.avsc", A)
    schema(home, "schemas/n.T/v2.avsc", A, B)
    assert run(home, "register", "n.T").returncode == 0
    assert run(home, "register", "n.T", "--mode", "NONE").returncode == 0
    found = answer(home, "check", status=1)
    assert [(one["kind"], one["path"]) for one in found["problems"]] == [
        ("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/1")
    ]
    assert answer(home, "check", "--mode", "FORWARD")["compatible"] is True


def test_upcasters_lead_where_avro_cannot(home: Path) -> None:
    """Or a folder with one such change would be incompatible for ever."""
    schema(home, "schemas/n.T/v1.avsc", A)
    schema(home, "schemas/n.T/v2.avsc", B)
    answer(home, "register", "n.T")
    answer(home, "register", "n.T", "--mode", "NONE")
    (home / "steps.py").write_text(
        "from broker_bridge.contracts import upcaster\n"
        "@upcaster('n.T', from_version=1)\n"
        "def a_is_b(value):\n    return {'b': value['a']}\n",
        encoding="utf-8",
    )
    assert answer(home, "check", status=1)["compatible"] is False
    assert answer(home, "check", "--upcasters", "steps")["compatible"] is True
    assert answer(home, "check", "--upcasters", "steps", "--mode", "FORWARD", status=1)["compatible"] is False
    assert problem(home, "check", "--upcasters", "nowhere", status=2)["code"] == "config_invalid"
    new = ("schemas/n.T/v2.avsc", "--against", "schemas/n.T/v1.avsc")
    assert problem(home, "check", *new, "--upcasters", "steps", status=2)["code"] == "usage"


def test_levels_of_the_folder_hold_where_no_mode_is_given(home: Path) -> None:
    """As `schemas serve` keeps them."""
    levels = home / "schemas" / "compatibility.json"
    levels.write_text('{"default": "BACKWARD", "subjects": {"n.T": "FORWARD"}}', encoding="utf-8")
    schema(home, "schemas/n.T/v1.avsc", A)
    assert answer(home, "register", "n.T")["version"] == 1
    schema(home, "schemas/n.T/v2.avsc", A, B)
    assert problem(home, "register", "n.T", "--mode", "BACKWARD", status=1)["code"] == "schema_incompatible"
    assert answer(home, "register", "n.T")["version"] == 2, "FORWARD takes a new field without a default"
    found = answer(home, "check")
    assert (found["compatible"], found["mode"], found["levels"]) == (True, "BACKWARD", {"n.T": "FORWARD"})
    assert "(1 by levels of their own)" in run(home, "check").stdout
    assert not answer(home, "check", "--mode", "BACKWARD", status=1)["compatible"]
    levels.write_text("{", encoding="utf-8")
    assert "compatibility.json" in problem(home, "check", status=2)["instance"]


def test_check_of_files(home: Path) -> None:
    old, required, optional = (
        schema(home, "1.avsc", A),
        schema(home, "2.avsc", A, B),
        schema(home, "3.avsc", A, B_OPTIONAL),
    )
    assert answer(home, "check", optional, "--against", old)["compatible"] is True
    found = answer(home, "check", required, "--against", old, status=1)
    assert found == {
        "compatible": False,
        "mode": "BACKWARD",
        "checked": 1,
        "problems": [
            {
                "kind": "READER_FIELD_MISSING_DEFAULT_VALUE",
                "path": "/fields/1",
                "field": "b",
                "message": "the writer has no such field and there is no default: give b a default",
                "reader": "2.avsc",
                "writer": "1.avsc",
            }
        ],
    }
    assert answer(home, "check", required, "--against", old, "--mode", "FORWARD")["compatible"] is True
    both = ("--against", optional, "--against", old)
    assert answer(home, "check", required, *both)["compatible"] is True, "only the newest, which comes first, counts"
    assert answer(home, "check", required, *both, "--mode", "BACKWARD_TRANSITIVE", status=1)["compatible"] is False
    shown = run(home, "check", required, "--against", old)
    assert shown.returncode == 1
    assert "b: the writer has no such field" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "gone.avsc", "--against", "schemas/shop.OrderPlaced/v1.avsc"),
        ("check", "schemas", "--against", "schemas/shop.OrderPlaced/v1.avsc"),
        ("check", "schemas/shop.OrderPlaced/v1.avsc"),
        ("check", "--against", "schemas/shop.OrderPlaced/v1.avsc"),
        ("check", "schemas/ids.jsonl", "--against", "schemas/shop.OrderPlaced/v1.avsc"),
        ("check", "--mode", "SIDEWAYS"),
        ("register",),
        ("register", "n.T", "--version", "0"),
        ("golden", "--both"),
        ("unheard-of",),
    ],
)
def test_bad_input(home: Path, arguments: tuple[str, ...]) -> None:
    finished = run(home, *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    assert finished.stderr.startswith("error[")
    assert problem(home, *arguments, status=2)["detail"]


@pytest.mark.parametrize("command", [("list",), ("check",), ("golden",), ("register", "n.T")])
def test_a_missing_folder(home: Path, command: tuple[str, ...]) -> None:
    found = problem(home, *command, "--dir", "elsewhere", status=3)
    assert found["code"] == "not_found"
    assert found["instance"] == "elsewhere"


def test_register(home: Path) -> None:
    schema(home, "schemas/n.T/v1.avsc", A)
    found = answer(home, "register", "n.T")
    assert (found["subject"], found["version"], found["id"]) == ("n.T", 1, 4)
    assert answer(home, "register", "n.T", "--version", "1")["id"] == 4
    last = json.loads((home / "schemas/ids.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    content = last.pop("content")
    assert last == {"id": 4, "subject": "n.T", "version": 1, "sha256": found["sha256"]}
    schema(home, "schemas/n.T/v1.avsc", {**A, "doc": "Said later."})
    edited = problem(home, "register", "n.T", "--version", "1", status=2)
    assert "edited after it was registered as id 4" in edited["detail"]
    assert "v2.avsc" in edited["remedy"]
    assert problem(home, "check", status=2) == edited
    schema(home, "schemas/n.T/v1.avsc", A)
    assert content_of((home / "schemas/n.T/v1.avsc").read_text(encoding="utf-8")) == content
    schema(home, "schemas/n.T/v2.avsc", A, B_OPTIONAL)
    assert run(home, "register", "n.T").stdout == "n.T version 2 has id 5\n"
    assert problem(home, "register", "n.T", status=3)["instance"] == "schemas/n.T/v3.avsc"


def test_register_refuses_and_changes_nothing(home: Path) -> None:
    before = (home / "schemas/ids.jsonl").read_bytes()
    edited = json.loads((home / "schemas/shop.OrderPlaced/v2.avsc").read_text(encoding="utf-8"))
    edited["fields"].append({"name": "must", "type": "string"})
    (home / "schemas/shop.OrderPlaced/v3.avsc").write_text(json.dumps(edited), encoding="utf-8")
    found = problem(home, "register", "shop.OrderPlaced", status=1)
    assert found["code"] == "schema_incompatible"
    assert "must" in found["detail"]
    assert (home / "schemas/ids.jsonl").read_bytes() == before


def test_golden_vectors_are_right(home: Path) -> None:
    found = answer(home, "golden")
    assert found["ok"] is True
    assert len(found["vectors"]) == len(list((SCHEMAS / "golden").rglob("*.json")))
    assert "0 wrong" in run(home, "golden", "--check").stdout


@pytest.mark.parametrize(
    ("key", "spoiled"),
    [
        ("hex", "00"),
        ("schema_id", 2),
        ("partition_of_4", 3),
        ("partition_of_12", 11),
        ("read_as", {"version": 2, "value": {}}),
    ],
)
def test_golden_finds_a_spoiled_vector_and_writes_it_anew(home: Path, key: str, spoiled: Any) -> None:
    file = home / "schemas/golden/order-placed-v1.json"
    sound = file.read_bytes()
    file.write_text(json.dumps(json.loads(sound) | {key: spoiled}), encoding="utf-8")
    found = answer(home, "golden", status=1)
    (wrong,) = [one for one in found["vectors"] if not one["ok"]]
    assert wrong["file"] == "schemas/golden/order-placed-v1.json"
    assert wrong["problems"][0].startswith(f"{key} is ")
    assert answer(home, "golden", "--write")["written"] == ["schemas/golden/order-placed-v1.json"]
    assert file.read_bytes() == sound
    assert answer(home, "golden", "--write")["written"] == []


def test_golden_makes_a_vector_of_a_value(home: Path) -> None:
    file = home / "schemas/golden/new.json"
    value = json.loads((SCHEMAS / "golden/payment-captured-v1.json").read_text(encoding="utf-8"))["value"]
    stated = {"name": "new", "subject": "shop.PaymentCaptured", "version": 1, "key": "k", "headers": [], "value": value}
    file.write_text(json.dumps(stated), encoding="utf-8")
    answer(home, "golden", status=1)
    answer(home, "golden", "--write")
    made = json.loads(file.read_text(encoding="utf-8"))
    assert made["hex"].startswith("0000000003")
    assert list(made) == [
        "name", "subject", "version", "schema_id", "key",
        "partition_of_4", "partition_of_12", "headers", "value", "hex",
    ]  # fmt: skip


def test_golden_names_the_field_of_a_value_that_does_not_fit(home: Path) -> None:
    file = home / "schemas/golden/order-placed-v1.json"
    vector = json.loads(file.read_text(encoding="utf-8"))
    vector["value"]["amount_cents"] = "much"
    file.write_text(json.dumps(vector), encoding="utf-8")
    found = problem(home, "golden", status=2)
    assert found["code"] == "value_invalid"
    assert found["instance"] == "schemas/golden/order-placed-v1.json: shop.OrderPlaced v1 amount_cents"


@pytest.mark.parametrize("command", [(), ("list",), ("check",), ("register",), ("golden",)])
def test_help_has_an_example_and_the_exit_statuses(home: Path, command: tuple[str, ...]) -> None:
    finished = run(home, *command, "--help")
    assert finished.returncode == 0
    assert "Example:" in finished.stdout
    assert "broker-bridge schemas" in finished.stdout
    if command:
        assert "Exit status:" in finished.stdout
        assert "--json" in finished.stdout


def test_check_takes_schemas_that_are_no_records_and_old_ones_with_wrong_defaults(home: Path) -> None:
    (home / "int.avsc").write_text('"int"', encoding="utf-8")
    (home / "long.avsc").write_text('["null", "long"]', encoding="utf-8")
    assert answer(home, "check", "long.avsc", "--against", "int.avsc")["compatible"] is True
    found = answer(home, "check", "int.avsc", "--against", "long.avsc", status=1)
    assert [(one["kind"], one["path"]) for one in found["problems"]] == [
        ("TYPE_MISMATCH", "/0"),
        ("TYPE_MISMATCH", "/1"),
    ]
    wrong = schema(home, "wrong.avsc", A | {"default": "none"})
    fine = schema(home, "fine.avsc", A)
    assert answer(home, "check", fine, "--against", wrong)["compatible"] is True
    assert problem(home, "check", wrong, "--against", fine, status=2)["code"] == "contract_invalid"


def test_fingerprint(home: Path) -> None:
    found = answer(home, "fingerprint", "schemas/shop.OrderPlaced/v1.avsc")
    first = json.loads((home / "schemas/ids.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert found["sha256"] == first["sha256"]
    assert found["crc64"] == int.from_bytes(bytes.fromhex(found["crc64_wire"]), "little", signed=True)
    shown = run(home, "fingerprint", "schemas/shop.OrderPlaced/v1.avsc").stdout
    assert all(str(found[key]) in shown for key in ("canonical", "crc64", "crc64_wire", "sha256"))
    assert problem(home, "fingerprint", "schemas/ids.jsonl", status=2)["code"] == "contract_invalid"


def test_lint(home: Path) -> None:
    assert answer(home, "lint", "--strict") == {
        "ok": True, "checked": 2, "errors": 0, "warnings": 0, "waived": 0, "findings": [],
    }  # fmt: skip
    schema(home, "schemas/n.T/v1.avsc", A | {"doc": "An a."})
    schema(home, "schemas/n.T/v2.avsc", A | {"doc": "An a."}, B | {"lint.waive": {"doc": "nobody reads it"}})
    found = answer(home, "lint", "n.T", status=1)
    assert [(one["rule"], one["field"], one["waived"]) for one in found["findings"]] == [
        ("doc", "", ""),
        ("added-field-default", "b", ""),
        ("doc", "b", "nobody reads it"),
    ]
    assert (found["errors"], found["warnings"], found["waived"]) == (1, 1, 1)
    assert answer(home, "lint", "schemas/n.T/v2.avsc", status=1)["errors"] == 1, "held against v1.avsc beside it"
    assert answer(home, "lint", "schemas/n.T/v1.avsc")["warnings"] == 1
    assert answer(home, "lint", "schemas/n.T/v1.avsc", "--strict", status=1)["ok"] is False
    shown = run(home, "lint", "n.T").stdout
    assert "error added-field-default at b: b is new and has no default" in shown
    assert "nobody reads it" not in shown
    assert {"code", "severity", "reason"} == set(answer(home, "lint", "--rules")["rules"][0])
    assert problem(home, "lint", "no.Such", status=3)["code"] == "schema_unknown"
    assert problem(home, "lint", "gone.avsc", status=2)["code"] == "usage"
    assert problem(home, "lint", "--dir", "gone", status=3)["code"] == "not_found"


def test_models_are_written_and_checked(home: Path) -> None:
    schema(home, "schemas/n.T/v1.avsc", A)
    found = answer(home, "model", "n.T", "--out", "events.py")
    assert (found["subject"], found["version"], found["file"]) == ("n.T", 1, "events.py")
    assert (home / "events.py").read_text(encoding="utf-8") == found["source"]
    assert answer(home, "model", "n.T", "--check", "events:T")["alike"] is True
    schema(home, "schemas/n.T/v2.avsc", A, B)
    found = answer(home, "model", "n.T", "--check", "events:T", status=1)
    assert found["drift"] == [{"field": "b", "message": "T has no such field"}]
    assert answer(home, "model", "n.T", "--check", "events:T", "--as", "reader")["alike"] is True
    assert answer(home, "model", "n.T", "--version", "1", "--check", "events:T")["alike"] is True
    assert "b: T has no such field" in run(home, "model", "n.T", "--check", "events:T").stdout


def test_a_file_that_cannot_be_written_is_no_defect(home: Path) -> None:
    found = problem(home, "model", "shop.OrderPlaced", "--out", "no/such/folder.py", status=2)
    assert (found["code"], found["instance"]) == ("usage", "no/such/folder.py")
    schema(home, "schemas/n.T/v1.avsc", A)
    (home / "schemas/.ids.jsonl.new").mkdir()
    before = (home / "schemas/ids.jsonl").read_bytes()
    found = problem(home, "register", "n.T", status=2)
    assert found["instance"] == "schemas/.ids.jsonl.new"
    assert "Is a directory" in found["detail"]
    assert (home / "schemas/ids.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("no.Such",), SchemaUnknownError),
        (("shop.OrderPlaced", "--version", "9"), SchemaUnknownError),
        (("shop.OrderPlaced", "--check", "nowhere:T"), UsageError),
        (("shop.OrderPlaced", "--check", "json:JSONDecoder"), UsageError),
        (("shop.OrderPlaced", "--check", "json"), UsageError),
        (("shop.OrderPlaced", "--check", "json:x", "--out", "y.py"), UsageError),
    ],
)
def test_models_of_nothing(arguments: tuple[str, ...], error: type[Exception]) -> None:
    """In this process: what becomes of the errors of any command is shown elsewhere."""
    ended = CliRunner().invoke(group, ["model", *arguments, "--dir", str(SCHEMAS)])
    assert type(ended.exception) is error
