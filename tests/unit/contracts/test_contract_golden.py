"""The golden vectors, which Go and Rust read as well, through the codec and through fastavro."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from schema_folder import SCHEMAS

from broker_bridge.contracts import Codec, Form, SchemaDirectory, unframe
from broker_bridge.contracts.golden import verify
from broker_bridge.transport.partitioning import partition_of

VECTORS = sorted((SCHEMAS / "golden").glob("*.json"))
CODEC = Codec(SchemaDirectory(SCHEMAS))


@pytest.fixture(params=VECTORS, ids=lambda file: file.stem)
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One golden vector."""
    found: dict[str, Any] = json.loads(Path(request.param).read_text(encoding="utf-8"))
    return found


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 5


def test_bytes_decode_to_the_value_and_the_writers_schema(vector: dict[str, Any]) -> None:
    decoded = CODEC.decode_json_ready(bytes.fromhex(vector["hex"]))
    assert decoded.value == vector["value"]
    assert (decoded.schema.subject, decoded.schema.version) == (vector["subject"], vector["version"])
    assert decoded.schema.schema_id == vector["schema_id"]


def test_the_value_encodes_to_the_bytes_in_every_form(vector: dict[str, Any]) -> None:
    framed = bytes.fromhex(vector["hex"])
    subject, version = vector["subject"], vector["version"]
    assert CODEC.encode_json_ready(subject, version, vector["value"]) == framed
    assert CODEC.encode(subject, version, CODEC.decode(framed).value) == framed
    assert CODEC.encode(subject, version, CODEC.decode(framed, logical=False).value) == framed
    assert CODEC.encode_batch(subject, version, [vector["value"]] * 3) == [framed] * 3


def test_another_version_reads_what_the_vector_says(vector: dict[str, Any]) -> None:
    if "read_as" not in vector:
        assert vector["subject"] == "shop.PaymentCaptured", "every order vector is read as the other version too"
        return
    reader = CODEC.source.get(vector["subject"], vector["read_as"]["version"])
    decoded = CODEC.decode_json_ready(bytes.fromhex(vector["hex"]), reader=reader)
    assert decoded.value == vector["read_as"]["value"]
    assert list(decoded.value) == list(reader.fields)
    assert decoded.schema.version == vector["version"]


def test_fastavro_reads_the_same_value(vector: dict[str, Any]) -> None:
    framed = bytes.fromhex(vector["hex"])
    schema_id, body = unframe(framed)
    theirs = fastavro.schemaless_reader(io.BytesIO(body), CODEC.source.by_id(schema_id).schema, None)
    assert CODEC.decode(framed).value == theirs


def test_a_batch_keeps_the_good_beside_the_bad() -> None:
    good = [bytes.fromhex(json.loads(file.read_text(encoding="utf-8"))["hex"]) for file in VECTORS]
    batch = CODEC.decode_batch([good[0], b"not avro", good[1]], form=Form.JSON)
    assert batch[0] == CODEC.decode_json_ready(good[0])
    assert getattr(batch[1], "code", None) == "avro_malformed"
    assert batch[2] == CODEC.decode_json_ready(good[1])


def test_the_generator_agrees_with_every_file() -> None:
    reports = verify(CODEC, partition_of)
    assert [report.problems for report in reports] == [[]] * len(VECTORS)
    for report in reports:
        assert json.dumps(report.wanted, indent=2, ensure_ascii=False) + "\n" == report.file.read_text(encoding="utf-8")
