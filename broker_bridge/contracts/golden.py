"""Golden vectors: values whose bytes and partitions every language has to agree on (``schemas/golden/*.json``).

A vector states ``subject``, ``version``, ``key``, ``headers`` and ``value`` (JSON form); ``schema_id``, ``hex``,
``partition_of_4``, ``partition_of_12`` and the value under ``read_as`` follow from those. Each is computed here, and
what the codec makes is held against fastavro, so that a vector is never merely what this code happens to write.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fastavro

from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.contract import read_text
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.framing import unframe
from broker_bridge.contracts.schema_tree import load_json
from broker_bridge.errors import BridgeError, ContractError, NotFoundError, UsageError

GOLDEN_FOLDER: Final = "golden"
PartitionOf = Callable[[bytes, int], int]
"""From (key, number of partitions) to the partition, by Java's murmur2."""
_STATED: Final = {"subject": str, "version": int, "key": str, "value": dict}
_ORDER: Final = (
    "name",
    "subject",
    "version",
    "schema_id",
    "key",
    "partition_of_4",
    "partition_of_12",
    "headers",
    "value",
    "hex",
    "read_as",
)


@dataclass(frozen=True, slots=True)
class VectorReport:
    """One vector: what is wrong with it, and what it should hold."""

    file: Path
    problems: list[str]
    wanted: dict[str, Any]


def verify(codec: Codec, partition_of: PartitionOf) -> list[VectorReport]:
    """A report on every vector of the codec's schema folder.

    Raises NotFoundError where there is none, ContractError with the file where one is damaged or its value does not fit
    its contract.
    """
    if not isinstance(codec.source, SchemaDirectory):
        raise UsageError("golden vectors belong to a folder of schemas")
    folder = codec.source.path / GOLDEN_FOLDER
    files = sorted(folder.glob("*.json"))
    if not files:
        raise NotFoundError("there are no golden vectors", where=str(folder))
    return [_report(codec, partition_of, file) for file in files]


def write(report: VectorReport) -> bool:
    """Put the computed parts into the file. True where that changed it."""
    text = json.dumps(report.wanted, indent=2, ensure_ascii=False) + "\n"
    if read_text(report.file) == text:
        return False
    report.file.write_text(text, encoding="utf-8")
    return True


def _report(codec: Codec, partition_of: PartitionOf, file: Path) -> VectorReport:
    given = load_vector(file, _STATED)
    report = report_on(file, given, lambda: _compute(codec, partition_of, given), _ORDER)
    report.problems.extend(_against_fastavro(codec, report.wanted))
    return report


def report_on(
    file: Path, given: dict[str, Any], compute: Callable[[], dict[str, Any]], order: Sequence[str]
) -> VectorReport:
    """What ``compute`` makes, held against what the vector says. Raises as ``compute`` does, naming the file."""
    try:
        computed = compute()
    except BridgeError as error:
        place = f"{file}: {error.where}" if error.where else str(file)
        raise type(error)(error.detail, remedy=error.remedy, where=place) from error
    merged = given | computed
    wanted = {key: merged[key] for key in (*order, *merged) if key in merged}
    problems = [
        f"{key} is {_shown(given.get(key))}, it should be {_shown(made)}"
        for key, made in computed.items()
        if given.get(key) != made
    ]
    return VectorReport(file, problems, wanted)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def load_vector(file: Path, stated: Mapping[str, type]) -> dict[str, Any]:
    """A vector that has what it must state. Raises ContractError with the file."""
    try:
        given = load_json(read_text(file))
    except ValueError as error:
        raise ContractError(f"the vector is not valid JSON: {error}", where=str(file)) from error
    if not isinstance(given, dict):
        raise ContractError("the vector is not an object", where=str(file))
    for key, kind in stated.items():
        if not isinstance(given.get(key), kind):
            raise ContractError(f"the vector has no {key!r}, or it is not a {kind.__name__}", where=str(file))
    return given


def _compute(codec: Codec, partition_of: PartitionOf, given: dict[str, Any]) -> dict[str, Any]:
    contract = codec.source.get(given["subject"], given["version"])
    framed = codec.encode_json_ready(contract.subject, contract.version, given["value"])
    key = given["key"].encode()
    computed: dict[str, Any] = {
        "schema_id": contract.schema_id,
        "partition_of_4": partition_of(key, 4),
        "partition_of_12": partition_of(key, 12),
        "value": codec.decode_json_ready(framed).value,
        "hex": framed.hex(),
    }
    if "read_as" in given:
        reader = codec.source.get(contract.subject, given["read_as"]["version"])
        read = codec.decode_json_ready(framed, reader=reader)
        computed["read_as"] = {"version": reader.version, "value": read.value}
    return computed


def _against_fastavro(codec: Codec, wanted: dict[str, Any]) -> list[str]:
    """fastavro must read the bytes as the same value, and write that value as the same bytes."""
    framed = bytes.fromhex(wanted["hex"])
    contract = codec.source.get(wanted["subject"], wanted["version"])
    ours = codec.decode(framed).value
    _, body = unframe(framed)
    theirs = fastavro.schemaless_reader(io.BytesIO(body), contract.schema, None)
    if theirs != ours:
        return ["fastavro reads the bytes as another value"]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, contract.schema, ours)
    return [] if out.getvalue() == body else ["fastavro writes the value as other bytes"]
