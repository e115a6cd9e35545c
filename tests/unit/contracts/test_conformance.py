"""The conformance kit: what it asks, how it judges, and that each way of being broken is told from the others."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conformance_adapter import answer
from schema_folder import SCHEMAS, codec_of, record

from broker_bridge.cli.schemas import group
from broker_bridge.contracts import Form
from broker_bridge.contracts.conformance import damaged, folder_kit, judge_bytes, own_kit, same
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.reader_compiler import compile_reader
from broker_bridge.contracts.writer_compiler import compile_writer
from broker_bridge.errors import ContractError, MalformedError, ValueInvalidError

ADAPTER = Path(__file__).with_name("conformance_adapter.py")
KIT = own_kit()


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    """The command's status and its JSON."""
    command = ["conformance", "--dir", str(SCHEMAS), "--json", *arguments]
    done = CliRunner().invoke(group, command, standalone_mode=False, catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return int(done.return_value), found


def broken(how: str, *options: str) -> tuple[int, dict[str, Any]]:
    """What the kit says of our own codec, broken in that way."""
    return run(*options, "--", sys.executable, str(ADAPTER), how)


def failures(found: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Vector, rule and outcome of what failed."""
    return {
        (one["vector"], one["rule"], one["outcome"])
        for one in found["checks"]
        if one["outcome"] not in ("ok", "skipped")
    }


def test_vectors_are_of_every_type() -> None:
    text = json.dumps([json.loads(vector.contract.text) for vector in KIT.vectors])
    kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
    kinds += ["record", "enum", "array", "map", "fixed"]
    logical = ["decimal", "uuid", "date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros"]
    logical += ["local-timestamp-millis", "local-timestamp-micros", "duration"]
    assert [kind for kind in kinds if f'"{kind}"' not in text] == []
    assert [one for one in logical if f'"logicalType": "{one}"' not in text] == []
    assert {frozenset(vector.written) for vector in KIT.vectors} == {frozenset({"python", "go", "rust"})}


@pytest.mark.parametrize("vector", KIT.vectors, ids=lambda vector: vector.name)
def test_our_codec_reads_what_three_languages_wrote(vector: Any) -> None:
    for framed in vector.written.values():
        assert same(vector.value, compile_reader(vector.contract, None, Form.JSON, Limits())(framed, 5))
        if vector.reader is not None:
            read = compile_reader(vector.contract, vector.reader, Form.JSON, Limits())(framed, 5)
            assert same(vector.read_as, read)
        # What JSON shows is what handlers get: through their values and back it is the same.
        value = compile_reader(vector.contract, None, Form.PYTHON, Limits())(framed, 5)
        again = compile_writer(vector.contract, Form.PYTHON, Limits())(value, framed[:5])
        assert same(vector.value, compile_reader(vector.contract, None, Form.JSON, Limits())(again, 5))


@pytest.mark.parametrize("form", [Form.JSON, Form.PYTHON])
def test_our_codec_refuses_what_must_be(form: Form) -> None:
    for name, contract, framed, _ in KIT.refused_bytes:
        with pytest.raises(ContractError):
            print(name, compile_reader(contract, None, form, Limits())(framed, 5))
    for name, contract, value, _ in KIT.refused_values:
        with pytest.raises(ContractError):
            print(name, compile_writer(contract, Form.JSON, Limits())(value, b""))


def test_the_guide_shows_questions_and_right_answers() -> None:
    page = (SCHEMAS.parent / "docs" / "guides" / "conformance.md").read_text(encoding="utf-8")
    block = page.partition("```ndjson\n")[2].partition("```")[0]
    lines = [json.loads(line) for line in block.splitlines()]
    for asked, answered in zip(lines[::2], lines[1::2], strict=True):
        if "error" in answered:
            with pytest.raises(ContractError):
                answer(asked, "")
        else:
            assert {"id": asked["id"], **answer(asked, "")} == answered
    assert len(lines) == 8


def test_times_that_handlers_cannot_have_are_not_written_as_integers_either(tmp_path: Path) -> None:
    day, millis, micros = 86_400, 86_400_000, 86_400_000_000
    for kind, logical, low, high in [
        ("int", "date", -719_162, 2_932_896),
        ("int", "time-millis", 0, millis - 1),
        ("long", "time-micros", 0, micros - 1),
        ("long", "timestamp-millis", -719_162 * day * 1_000, 2_932_897 * millis - 1),
        ("long", "local-timestamp-micros", -719_162 * micros, 2_932_897 * micros - 1),
    ]:
        schema = record(("at", {"type": kind, "logicalType": logical}), name="At")
        codec = codec_of(tmp_path / logical, schema)
        for number in (low, high):
            assert codec.encode("At", 1, codec.decode(codec.encode("At", 1, {"at": number})).value)
        for number in (low - 1, high + 1):
            with pytest.raises(ValueInvalidError, match=f"does not fit {logical}"):
                codec.encode("At", 1, {"at": number})
            with pytest.raises(ValueInvalidError, match=f"does not fit {logical}"):
                codec.encode_json_ready("At", 1, {"at": number})


def test_a_text_that_is_no_uuid_is_no_value_for_a_handler_and_a_text_for_a_target(tmp_path: Path) -> None:
    """Others write such texts. A handler would get a UUID, which there is none of; HTTP targets get JSON."""
    codec = codec_of(tmp_path, record(("id", {"type": "string", "logicalType": "uuid"}), name="Id"))
    framed = bytes.fromhex("00000000010a") + b"hello"
    with pytest.raises(MalformedError):
        codec.decode(framed)
    assert codec.decode_json_ready(framed).value == {"id": "hello"}


def test_a_value_is_cut_everywhere_but_not_for_ever() -> None:
    short = [cut for cut, _ in damaged(b"\0\0\0\0\x07abc")]
    assert short[:8] == [b"\0\0\0\0\x07abc"[:end] for end in range(8)]
    assert len(short) == 11
    assert b"\0\0\0\0\x07abc" not in short
    assert sum(len(cut) for cut, _ in damaged(bytes(1_000_000))) < 12_000_000


def test_numbers_are_compared_as_json_and_truths_are_no_numbers() -> None:
    assert same({"a": [1, 1.0, None]}, {"a": [1.0, 1, None]})
    for expected, got in [(1, True), (False, 0), ([1], [1, 2]), ({}, {"a": 1}), (9007199254740993, 9007199254740992.0)]:
        assert not same(expected, got)
    vector = next(one for one in KIT.vectors if one.name == "kit/decimals-small")
    assert judge_bytes(vector.contract, vector.value, {"hex": vector.written["go"].hex()}) is None
    other = vector.written["go"][:4] + b"\x63" + vector.written["go"][5:]
    assert "schema id 99" in str(judge_bytes(vector.contract, vector.value, {"hex": other.hex()}))


def test_our_own_codec_passes() -> None:
    status, found = broken("")
    assert (status, found["ok"], failures(found)) == (0, True, set())
    assert found["counts"] == {"ok": len(found["checks"])}
    rules = Counter(one["rule"] for one in found["checks"])
    assert rules["decode"] >= 41
    assert rules["refuse-bytes"] > 2_000
    assert {one["vector"] for one in found["checks"]} >= {"own/order-placed-v1", "kit/invoice"}


@pytest.mark.parametrize(
    ("how", "only", "expected"),
    [
        ("padded", "kit/choices-nulls", {("kit/choices-nulls", "refuse-bytes", "differs")}),
        ("swapped", "kit/times-end-of-day", {("kit/times-end-of-day", "decode", "differs")}),
        ("floats", "kit/numbers-beyond-doubles", {("kit/numbers-beyond-doubles", "decode", "differs")}),
        ("truncates", "kit/ids", {("kit/ids", "encode", "differs")}),
        ("rounds", "kit/decimals-too-precise", {("kit/decimals-too-precise", "refuse-value", "differs")}),
        ("writer-only", "kit/evolving", {("kit/evolving", "read-as", "differs")}),
        ("unframed", "kit/ids", {("kit/ids", "refuse-bytes", "differs")}),
        ("takes-all", "kit/texts-not-utf8", {("kit/texts-not-utf8", "refuse-bytes", "differs")}),
        ("says-nothing", "kit/texts-not-utf8", {("kit/texts-not-utf8", "refuse-bytes", "differs")}),
    ],
)
def test_wrong_answers_are_found(how: str, only: str, expected: set[tuple[str, str, str]]) -> None:
    status, found = broken(how, "--only", only)
    assert (status, found["ok"], failures(found)) == (1, False, expected)


def test_another_partitioner_is_found() -> None:
    status, found = broken("partitioner", "--only", "kit/key-*")
    assert status == 1
    assert {rule for _, rule, _ in failures(found)} == {"partition"}
    assert found["counts"]["ok"] > 0


@pytest.mark.parametrize(
    ("how", "outcome", "told"),
    [
        ("dies", "crashed", "status 7; its log ends: no such luck"),
        ("killed", "crashed", "signal 9"),
        ("leaves", "no-answer", "status 0"),
        ("floods", "no-answer", "a line of more than"),
    ],
)
def test_a_program_that_ends_or_floods_is_started_again(how: str, outcome: str, told: str) -> None:
    status, found = broken(how, "--only", "kit/key-*-of-7")
    assert (status, found["counts"]) == (1, {"ok": 6, outcome: 3}), "two of three are answered"
    assert all(told in one["got"] for one in found["checks"] if one["outcome"] == outcome)


@pytest.mark.parametrize(("how", "told"), [("hangs", "nothing within 2 s"), ("closes", "closed its stdout")])
def test_a_program_that_says_nothing_is_not_waited_for(how: str, told: str) -> None:
    status, found = broken(how, "--timeout", "2s", "--only", "kit/key-3231-*")
    (bad,) = [one for one in found["checks"] if one["outcome"] != "ok"]
    assert (status, found["counts"]["ok"]) == (1, 2)
    assert told in bad["got"]
    assert bad["outcome"] in ("too-slow", "no-answer")


def test_lines_that_answer_nothing_are_told_once_and_hide_nothing() -> None:
    status, found = broken("chatters", "--only", "kit/key-3231-*")
    assert (status, found["counts"], found["stray_lines"]) == (1, {"ok": 3}, 4)
    assert found["first_stray_line"] == "INFO a line of a log"


def test_lines_without_end_take_no_memory_and_no_more_time_than_others() -> None:
    status, found = broken("endless", "--timeout", "2s", "--only", "kit/key-3231-*")
    assert (status, found["counts"]) == (1, {"ok": 2, "too-slow": 1})
    assert found["stray_lines"] > 100


def test_a_program_that_skips_all_has_shown_nothing() -> None:
    status, found = broken("skips", "--only", "kit/key-3231-*")
    assert (status, found["ok"], found["counts"]) == (1, False, {"skipped": 3})


def test_a_program_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_bridge.contracts.conformance_program.START_S", 0.0)
    status, found = broken("deaf", "--timeout", "100ms", "--only", "kit/key-*")
    assert status == 1
    assert found["counts"] == {"too-slow": 3, "not-asked": len(found["checks"]) - 3}


def test_people_are_told_what_differs_and_by_how_much() -> None:
    command = ["--only", "kit/evolving", "--", sys.executable, str(ADAPTER), "writer-only"]
    done = CliRunner().invoke(group, ["conformance", "--dir", str(SCHEMAS), *command], standalone_mode=False)
    assert done.return_value == 1
    assert "read-as      1 differs" in done.stdout
    assert "differs: kit/evolving, read-as (written by python, go, rust)" in done.stdout
    assert '  expected {"name":"Ada"' in done.stdout
    assert '  got      {"id":"e-1"' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--", "/no/such/program"], "cannot be started"),
        (["--only", "kit/nothing*", "--", "true"], "no vector is called"),
        (["--timeout", "soon", "--", "true"], "must be a duration"),
    ],
)
def test_bad_usage_is_said(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(group, ["conformance", "--dir", str(SCHEMAS), *arguments])
    assert told in str(done.exception)


def test_a_vector_that_is_wrong_is_found_by_a_right_program(tmp_path: Path) -> None:
    shutil.copytree(SCHEMAS, tmp_path / "schemas")
    file = tmp_path / "schemas" / "golden" / "order-placed-v1.json"
    vector = json.loads(file.read_text())
    vector["value"]["amount_cents"] += 1
    vector["partition_of_4"] += 1
    file.write_text(json.dumps(vector))
    command = ["--dir", str(tmp_path / "schemas"), "--only", "own/order-placed-v1", "--", sys.executable, str(ADAPTER)]
    status, found = run(*command)
    assert status == 1
    assert {(rule, outcome) for _, rule, outcome in failures(found)} == {
        ("decode", "differs"),
        ("partition", "differs"),
    }


def test_a_damaged_vector_of_the_folder_is_named(tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    golden.mkdir()
    vector = json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())
    (tmp_path / "ids.jsonl").write_text((SCHEMAS / "ids.jsonl").read_text())
    for file in SCHEMAS.glob("*/v*.avsc"):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        (tmp_path / file.parent.name / file.name).write_text(file.read_text())
    for damage in ({"hex": "xyz"}, {"version": 9}, {"read_as": {"value": {}}}, {"key": 1}):
        (golden / "bad.json").write_text(json.dumps(vector | damage))
        with pytest.raises(ContractError) as caught:
            folder_kit(tmp_path)
        assert "bad.json" in caught.value.where
    assert folder_kit(tmp_path / "nowhere").vectors == []
