"""The conformance kit: what an implementation in any language is asked, and whether its answers are right.

The kit's own vectors (``conformance_vectors.json``) have every type of Avro, written by Python (this codec), Go
(twmb/avro) and Rust (apache-avro); golden vectors of a user's folder come beside them. A vector becomes checks, each
one question (an object of JSON) with a judge of the answer. Nothing runs here: ``conformance_program`` puts the
questions to a program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.framing import frame, unframe
from broker_bridge.contracts.golden import GOLDEN_FOLDER, load_vector
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.reader_compiler import compile_reader
from broker_bridge.errors import ContractError, SchemaUnknownError

VECTORS_FILE: Final = "conformance_vectors.json"
RULES: Final = ("decode", "read-as", "encode", "refuse-bytes", "refuse-value", "partition")
_OWN: Final = {
    "subject": str,
    "version": int,
    "schema_id": int,
    "key": str,
    "value": dict,
    "hex": str,
    "partition_of_4": int,
    "partition_of_12": int,
}
_UNKNOWN_ID: Final = 2_147_483_647
_CUTS: Final = 512
_CUT_BYTES: Final = 2_000_000
"""A value is cut at each byte; a longer one at so many places, spread over it, or as make up so many bytes."""

Judge = Callable[[Mapping[str, Any]], str | None]
"""From an answer to what is wrong with it: None, or what was got instead."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question. ``ask`` lacks the number, which whoever asks adds; ``expected`` is what the report shows."""

    vector: str
    rule: str
    ask: dict[str, Any]
    expected: Any
    judge: Judge
    why: str = ""


@dataclass(frozen=True, slots=True)
class Vector:
    """A value in JSON form, and the framed bytes that writers made of it, by who they are."""

    name: str
    contract: Contract
    value: Mapping[str, Any]
    written: Mapping[str, bytes]
    reader: Contract | None = None
    read_as: Any = None


@dataclass(slots=True)
class Kit:
    """Vectors, what must be refused, and keys with their partitions."""

    vectors: list[Vector] = field(default_factory=list)
    refused_bytes: list[tuple[str, Contract, bytes, str]] = field(default_factory=list)
    refused_values: list[tuple[str, Contract, Any, str]] = field(default_factory=list)
    keys: list[tuple[str, bytes, int, int]] = field(default_factory=list)

    def checks(self) -> Iterator[Check]:
        """All questions, those about one vector together."""
        for vector in self.vectors:
            yield from _of_vector(vector)
        for name, contract, framed, why in self.refused_bytes:
            yield _refuse_bytes(name, contract, framed, why)
        for name, contract, value, why in self.refused_values:
            ask = {"do": "encode", **_schema(contract), "value": value}
            yield Check(name, "refuse-value", ask, "an error", judge_refusal, why)
        for name, key, partitions, partition in self.keys:
            ask = {"do": "partition", "key_hex": key.hex(), "partitions": partitions}
            yield Check(name, "partition", ask, partition, partial(judge_partition, partition))


def own_kit() -> Kit:
    """The vectors that come with broker_bridge. Names begin with ``kit/``."""
    found = json.loads((files("broker_bridge.contracts") / VECTORS_FILE).read_text(encoding="utf-8"))
    contracts: dict[str, list[Contract]] = {}
    schema_id = 0
    for name, schemas in found["schemas"].items():
        for version, schema in enumerate(schemas, start=1):
            schema_id += 1
            made = parse_contract(json.dumps(schema), version=version, schema_id=schema_id, where=VECTORS_FILE)
            contracts.setdefault(name, []).append(made)
    kit = Kit()
    for one in found["vectors"]:
        contract, *later = contracts[one["record"]]
        written = {who: frame(contract.schema_id, bytes.fromhex(text)) for who, text in one["hex"].items()}
        reads = (later[0], one["read_as"]["value"]) if "read_as" in one else (None, None)
        kit.vectors.append(Vector(f"kit/{one['name']}", contract, one["value"], written, *reads))
    for one in found["refused_bytes"]:
        contract = contracts[one["record"]][0]
        framed = frame(contract.schema_id, bytes.fromhex(one["hex"]))
        kit.refused_bytes.append((f"kit/{one['name']}", contract, framed, one["why"]))
    for one in found["refused_values"]:
        kit.refused_values.append((f"kit/{one['name']}", contracts[one["record"]][0], one["value"], one["why"]))
    for one in found["keys"]:
        name = f"kit/key-{one['key_hex'] or 'empty'}-of-{one['partitions']}"
        kit.keys.append((name, bytes.fromhex(one["key_hex"]), one["partitions"], one["partition"]))
    return kit


def folder_kit(folder: Path) -> Kit:
    """The golden vectors of a folder of schemas, none where there are none. Names begin with ``own/``.

    Raises ContractError with the file where one is damaged; ``schemas golden`` says whether they are right.
    """
    kit = Kit()
    paths = sorted((folder / GOLDEN_FOLDER).glob("*.json"))
    directory = SchemaDirectory(folder) if paths else None
    for path in paths:
        assert directory is not None
        given = load_vector(path, _OWN)
        reader, read_as = None, given.get("read_as")
        try:
            contract = directory.get(given["subject"], given["version"])
            if read_as is not None:
                reader = directory.get(given["subject"], read_as["version"])
            framed = bytes.fromhex(given["hex"])
        except (ValueError, TypeError, KeyError, SchemaUnknownError) as error:
            reason = error.detail if isinstance(error, SchemaUnknownError) else "hex or read_as is damaged"
            raise ContractError(f"the vector cannot be used: {reason}", where=str(path)) from error
        name = f"own/{path.stem}"
        written = {"the vector": framed}
        kit.vectors.append(Vector(name, contract, given["value"], written, reader, (read_as or {}).get("value")))
        for partitions in (4, 12):
            kit.keys.append((name, given["key"].encode(), partitions, given[f"partition_of_{partitions}"]))
    return kit


def _of_vector(vector: Vector) -> Iterator[Check]:
    contract = vector.contract
    by_bytes: dict[bytes, list[str]] = {}
    for who, framed in vector.written.items():
        by_bytes.setdefault(framed, []).append(who)
    judge = partial(judge_value, vector.value)
    for framed, writers in by_bytes.items():
        ask = {"do": "decode", **_schema(contract), "hex": framed.hex()}
        why = f"written by {', '.join(writers)}"
        yield Check(vector.name, "decode", ask, vector.value, judge, why)
        if vector.reader is not None:
            ask = ask | {"reader_version": vector.reader.version, "reader_schema": vector.reader.text}
            judge_read = partial(judge_value, vector.read_as)
            yield Check(vector.name, "read-as", ask, vector.read_as, judge_read, why)
    ask = {"do": "encode", **_schema(contract), "value": vector.value}
    yield Check(vector.name, "encode", ask, vector.value, partial(judge_bytes, contract, vector.value))
    for framed, why in damaged(next(iter(by_bytes))):
        yield _refuse_bytes(vector.name, contract, framed, why)


def damaged(framed: bytes) -> Iterator[tuple[bytes, str]]:
    """A framed value cut everywhere, one byte longer, and under marks that are not its own.

    Nothing that Avro writes is the beginning of something else under the same schema, so no cut value is a value.
    """
    cuts = min(_CUTS, max(8, _CUT_BYTES // max(1, len(framed))))
    step = max(1, -(-len(framed) // cuts))
    for end in range(0, len(framed), step):
        yield framed[:end], f"cut after {end} of {len(framed)} bytes"
    yield framed + b"\0", "a byte too many"
    yield b"\x01" + framed[1:], "a first byte that is not 0x00"
    yield frame(_UNKNOWN_ID, framed[5:]), "an id that no schema has"


def _refuse_bytes(name: str, contract: Contract, framed: bytes, why: str) -> Check:
    ask = {"do": "decode", **_schema(contract), "hex": framed.hex()}
    return Check(name, "refuse-bytes", ask, "an error", judge_refusal, why)


def _schema(contract: Contract) -> dict[str, Any]:
    return {
        "subject": contract.subject,
        "version": contract.version,
        "schema_id": contract.schema_id,
        "schema": contract.text,
    }


def judge_value(expected: Any, answer: Mapping[str, Any]) -> str | None:
    """Whether the answer's ``value`` is what was expected."""
    if "value" not in answer:
        return _instead(answer, "value")
    return None if same(expected, answer["value"]) else shown(answer["value"])


def judge_bytes(contract: Contract, expected: Any, answer: Mapping[str, Any]) -> str | None:
    """Whether the answer's ``hex`` is read here as the value that was to be written. Bytes may differ: the order of
    a map, blocks, and leading bytes of decimals are a writer's choice."""
    text = answer.get("hex")
    if not isinstance(text, str):
        return _instead(answer, "hex")
    try:
        framed = bytes.fromhex(text)
    except ValueError:
        return f"no hexadecimal: {shown(text)}"
    try:
        schema_id, body = unframe(framed)
        value = compile_reader(contract, None, Form.JSON, Limits())(body, 0)
    except ContractError as error:
        return f"{shown(text)}, which is not read: {error.detail}"
    if schema_id != contract.schema_id:
        return f"schema id {schema_id} in front, {contract.schema_id} was asked for"
    return None if same(expected, value) else f"{shown(text)}, which is read as {shown(value)}"


def judge_partition(expected: int, answer: Mapping[str, Any]) -> str | None:
    """Whether the answer's ``partition`` is the one of Kafka's Java client."""
    if "partition" not in answer:
        return _instead(answer, "partition")
    return None if same(expected, answer["partition"]) else shown(answer["partition"])


def judge_refusal(answer: Mapping[str, Any]) -> str | None:
    """Whether the answer is an ``error``."""
    if isinstance(answer.get("error"), str):
        return None
    return _instead(answer, "error")


def _instead(answer: Mapping[str, Any], wanted: str) -> str:
    if "error" in answer:
        return f"error: {answer['error'] if isinstance(answer['error'], str) else shown(answer['error'])}"
    rest = {key: value for key, value in answer.items() if key != "id"}
    return shown(rest) if rest else f"an answer without {wanted!r}"


def same(expected: Any, got: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, 1 and true are not."""
    if isinstance(expected, dict):
        if not isinstance(got, dict) or expected.keys() != got.keys():
            return False
        return all(same(value, got[key]) for key, value in expected.items())
    if isinstance(expected, list):
        if not isinstance(got, list) or len(expected) != len(got):
            return False
        return all(map(same, expected, got))
    return isinstance(expected, bool) == isinstance(got, bool) and bool(expected == got)


def shown(value: Any) -> str:
    """As compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def all_checks(kits: Iterable[Kit]) -> list[Check]:
    """The questions of several kits, in order."""
    return [check for kit in kits for check in kit.checks()]
