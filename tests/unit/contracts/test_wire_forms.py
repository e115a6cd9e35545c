"""The three wire forms: written, told apart, refused, and found at a registry."""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_stub import RegistryStub
from schema_folder import SCHEMAS, codec_of, record, write_folder

from broker_bridge.config import RegistrySection
from broker_bridge.contracts import Codec, Form, Mode, SchemaDirectory, SubjectNaming, WireForm
from broker_bridge.contracts.golden_wire import verify_wire_forms
from broker_bridge.contracts.registry_cache import SchemaCache
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_source import RegistrySource
from broker_bridge.contracts.schema_marks import fingerprint_of, guid_of
from broker_bridge.errors import ContractError, MalformedError, SchemaUnknownError

CODEC = Codec(SchemaDirectory(SCHEMAS))
ORDER = json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text(encoding="utf-8"))
VECTORS = sorted((SCHEMAS / "golden" / "wire-forms").glob("*.json"))
LONG = record(("l", "long"))
INSTANT = record(("l", {"type": "long", "logicalType": "timestamp-millis"}))


def encoded(codec: Codec, form: WireForm, value: dict[str, Any], name: str = "T") -> tuple[bytes, bytes | None]:
    """The value and the header that names its schema."""
    made = codec.encode_for("t", name, None, value, form)
    return made.value, dict(made.headers).get("__value_schema_id")


@pytest.mark.parametrize("form", WireForm)
def test_every_form_is_read_back_in_every_shape(form: WireForm) -> None:
    contract = CODEC.source.get("shop.OrderPlaced", 1)
    value = CODEC.encoder(contract, json_ready=True, wire_form=form)(ORDER["value"])
    header = dict(CODEC.schema_headers(contract, form)).get("__value_schema_id")
    assert CODEC.decode_json_ready(value, schema_header=header).value == ORDER["value"]
    for shape in Form:
        found = CODEC.decoder(None, shape)(bytearray(value), header)
        assert found == CODEC.decoder(None, shape)(bytes.fromhex(ORDER["hex"]))
    reader = CODEC.source.get("shop.OrderPlaced", 2)
    assert CODEC.decode_json_ready(value, reader=reader, schema_header=header).value == ORDER["read_as"]["value"]


def test_single_objects_are_as_the_specification_has_them() -> None:
    """Header and fingerprint by hand; the body as fastavro reads it."""
    contract = CODEC.source.get("shop.OrderPlaced", 1)
    value = CODEC.encoder(contract, json_ready=True, wire_form=WireForm.SINGLE_OBJECT)(ORDER["value"])
    assert value[:2] == b"\xc3\x01"
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(contract.text))
    assert int.from_bytes(value[2:10], "little") == crc_64_avro(canonical.encode())
    theirs = fastavro.schemaless_reader(io.BytesIO(value[10:]), contract.schema, None)
    assert theirs == CODEC.decode(value).value


def crc_64_avro(data: bytes) -> int:
    """Bit by bit, as the specification's "Schema Fingerprints" describes it."""
    empty = 0xC15D213AA4D7A795
    state = empty
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (empty if state & 1 else 0)
    return state


def test_the_checksum_by_hand_is_that_of_the_specification() -> None:
    assert crc_64_avro(b'"null"') == 7195948357588979594


def test_the_headers_guid_stands_for_one_version() -> None:
    for version in (1, 2):
        contract = CODEC.source.get("shop.OrderPlaced", version)
        [(name, value)] = CODEC.schema_headers(contract, WireForm.HEADER)
        assert name == "__value_schema_id"
        assert value is not None
        assert (value[:1], len(value)) == (b"\x01", 17)
        wanted = uuid5(NAMESPACE_URL, f"urn:avro-schema:shop.OrderPlaced:{version}:{contract.sha256}")
        assert UUID(bytes=value[1:]) == wanted


def test_a_recorded_guid_stands_over_the_derived_one(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LONG)
    line = json.loads((folder / "ids.jsonl").read_text())
    guid = "0d17d6e0-5a5a-4b8d-9d5c-0123456789ab"
    (folder / "ids.jsonl").write_text(json.dumps(line | {"guid": guid}) + "\n")
    codec = Codec(SchemaDirectory(folder))
    value, header = encoded(codec, WireForm.HEADER, {"l": 7})
    assert header == b"\x01" + UUID(guid).bytes
    assert codec.decode(value, schema_header=header).value == {"l": 7}
    (folder / "ids.jsonl").write_text(json.dumps(line | {"guid": "no"}) + "\n")
    with pytest.raises(ContractError, match="not a UUID"):
        SchemaDirectory(folder)


@pytest.mark.parametrize("number", [0, 97, -98, -1])
def test_a_body_may_begin_with_any_byte_where_the_header_is_there(tmp_path: Path, number: int) -> None:
    codec = codec_of(tmp_path, LONG)
    value, header = encoded(codec, WireForm.HEADER, {"l": number})
    assert codec.decode(value, schema_header=header).value == {"l": number}


def test_one_of_those_bodies_begins_like_a_single_object(tmp_path: Path) -> None:
    value, _ = encoded(codec_of(tmp_path, LONG), WireForm.HEADER, {"l": -98})
    assert value == b"\xc3\x01"
    with pytest.raises(MalformedError, match="shorter than marker and fingerprint"):
        codec_of(tmp_path, LONG).decode(value)


def test_a_record_without_fields_has_an_empty_body(tmp_path: Path) -> None:
    codec = codec_of(tmp_path, record())
    value, header = encoded(codec, WireForm.HEADER, {})
    assert value == b""
    assert codec.decode(value, schema_header=header).value == {}


@pytest.mark.parametrize("file", VECTORS, ids=lambda file: file.stem)
def test_vectors(file: Path) -> None:
    [report] = [one for one in verify_wire_forms(SCHEMAS, CODEC) if one.file == file]
    assert report.problems == []
    assert json.dumps(report.wanted, indent=2, ensure_ascii=False) + "\n" == file.read_text(encoding="utf-8")


def test_there_are_vectors_of_every_form_and_error() -> None:
    found = [json.loads(file.read_text(encoding="utf-8")) for file in VECTORS]
    assert {one["wire_form"] for one in found if "wire_form" in one} == set(WireForm)
    outcomes = {one["reads_as"].get("error", "value") for one in found if "reads_as" in one}
    assert outcomes == {"value", "avro_malformed", "schema_unknown"}


@pytest.mark.parametrize("key", ["hex", "headers", "reads_as"])
def test_a_spoiled_vector_is_found(tmp_path: Path, key: str) -> None:
    file = tmp_path / "golden" / "wire-forms" / "one.json"
    file.parent.mkdir(parents=True)
    name = "read-header-with-id" if key == "reads_as" else "written-header-order-v1"
    sound = json.loads((SCHEMAS / "golden" / "wire-forms" / f"{name}.json").read_text(encoding="utf-8"))
    file.write_text(json.dumps(sound | {key: {"error": "usage"} if key == "reads_as" else "00"}))
    [report] = verify_wire_forms(tmp_path, CODEC)
    assert [problem.split()[0] for problem in report.problems] == [key]


@given(
    header=st.none() | st.binary(max_size=20) | st.binary(min_size=16, max_size=16).map(lambda guid: b"\x01" + guid),
    value=st.binary(max_size=30) | st.binary(max_size=20).map(lambda rest: b"\xc3\x01" + rest),
)
@settings(max_examples=500, deadline=None)
def test_whatever_is_given_is_decoded_or_refused_by_name(header: bytes | None, value: bytes) -> None:
    with suppress(MalformedError, SchemaUnknownError):
        CODEC.decode(value, schema_header=header)


# --- fingerprints that two versions share ----------------------------------------------------------------


def test_versions_that_are_read_alike_may_share_a_fingerprint(tmp_path: Path) -> None:
    codec = codec_of(tmp_path, LONG, LONG | {"doc": "said"})
    assert fingerprint_of(codec.source.get("T", 1)) == fingerprint_of(codec.source.get("T", 2))
    value, _ = encoded(codec, WireForm.SINGLE_OBJECT, {"l": 5})
    assert codec.decode(value).schema.version == 1
    headers = {
        encoded(codec, WireForm.HEADER, {"l": 5})[1],
        codec.schema_headers(codec.source.get("T", 1), WireForm.HEADER)[0][1],
    }
    assert len(headers) == 2


def test_versions_that_are_read_in_different_ways_may_not(tmp_path: Path) -> None:
    codec = codec_of(tmp_path, LONG, INSTANT)
    with pytest.raises(SchemaUnknownError, match="stands for T v1 and T v2"):
        encoded(codec, WireForm.SINGLE_OBJECT, {"l": 5})
    with pytest.raises(SchemaUnknownError, match="stands for T v1 and T v2"):
        codec.decode(b"\xc3\x01" + fingerprint_of(codec.source.get("T", 1)) + b"\x0a")
    for form in (WireForm.CONFLUENT, WireForm.HEADER):
        value, header = encoded(codec, form, {"l": 5})
        assert codec.decode(value, schema_header=header).schema.version == 2


def test_a_version_registered_later_is_found(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LONG)
    writer, reader = SchemaDirectory(folder), SchemaDirectory(folder)
    codec = Codec(reader)
    with pytest.raises(SchemaUnknownError, match="GUID"):
        codec.decode(b"", schema_header=b"\x01" + bytes(16))
    wider = record(("l", "long"), ("m", "long", 1))
    writer.submit("T", json.dumps(wider), mode=Mode.BACKWARD)
    value, header = encoded(Codec(writer), WireForm.HEADER, {"l": 1, "m": 2})
    reader.register("T", 2)
    assert codec.decode(value, schema_header=header).value == {"l": 1, "m": 2}


# --- at a registry ---------------------------------------------------------------------------------------

GUID = "6c0f7f1c-3d42-4b7e-8f19-5a1d2c3b4e5f"


def registry_source(stub: RegistryStub, cache: Path | None = None) -> RegistrySource:
    section = RegistrySection(url=stub.url, retries=0, timeout_ms=30_000)
    kept = None if cache is None else SchemaCache(cache, section.urls)
    return RegistrySource(RegistryClient(section), cache=kept)


def test_a_guid_is_asked_for_at_the_registry_and_kept_on_disk(tmp_path: Path) -> None:
    header = b"\x01" + UUID(GUID).bytes
    with RegistryStub() as stub:
        stub.add("T", LONG, guid=GUID)
        codec = Codec(registry_source(stub, tmp_path))
        for _ in range(3):
            assert codec.decode(b"\x0a", schema_header=header).value == {"l": 5}
        assert [one for one in stub.requests if "guids" in one] == [f"GET /schemas/guids/{GUID}/ids"]
        assert encoded(codec, WireForm.HEADER, {"l": 5}) == (b"\x0a", header), "the registry's own GUID is written"
        with pytest.raises(SchemaUnknownError):
            codec.decode(b"\x0a", schema_header=b"\x01" + bytes(16))
    away = Codec(registry_source(stub, tmp_path))
    assert away.decode(b"\x0a", schema_header=header).value == {"l": 5}


def test_a_registry_without_guids_knows_none() -> None:
    with RegistryStub() as stub:
        stub.add("T", LONG)
        codec = Codec(registry_source(stub))
        with pytest.raises(SchemaUnknownError):
            codec.decode(b"\x0a", schema_header=b"\x01" + bytes(16))
        value, header = encoded(codec, WireForm.HEADER, {"l": 5})
        assert header == b"\x01" + guid_of(codec.source.get("T")).bytes
        assert codec.decode(value, schema_header=header).value == {"l": 5}


# --- subjects by topic -----------------------------------------------------------------------------------


def named_folder(folder: Path, *subjects: str) -> Path:
    """One version of record n.T under each subject."""
    folder.mkdir(exist_ok=True)
    (folder / "ids.jsonl").touch()
    for number, subject in enumerate(subjects):
        (folder / subject).mkdir()
        schema = record(*[(f"f{n}", "int", 0) for n in range(number)], namespace="n")
        (folder / subject / "v1.avsc").write_text(json.dumps(schema))
        SchemaDirectory(folder, drafts=True).register(subject)
    return folder


@pytest.mark.parametrize(
    ("naming", "subject"),
    [(SubjectNaming.RECORD, "n.T"), (SubjectNaming.TOPIC, "orders-value"), (SubjectNaming.TOPIC_RECORD, "orders-n.T")],
)
def test_the_topic_names_the_subject(tmp_path: Path, naming: SubjectNaming, subject: str) -> None:
    codec = Codec(SchemaDirectory(named_folder(tmp_path, "n.T", "orders-value", "orders-n.T")), naming=naming)
    made = codec.encode_for("orders", "n.T", None, {})
    assert (made.contract.subject, made.contract.record_name) == (subject, "n.T")
    assert codec.decode(made.value).schema.subject == subject
    assert codec.contract_for("elsewhere", "orders-value").subject == "orders-value", "a name with a dash is a subject"


def test_a_topic_that_has_another_record_is_refused(tmp_path: Path) -> None:
    codec = Codec(SchemaDirectory(named_folder(tmp_path, "orders-value")), naming=SubjectNaming.TOPIC)
    with pytest.raises(SchemaUnknownError, match=re.escape("orders-value is a contract for n.T, not for n.Other")):
        codec.contract_for("orders", "n.Other")
    with pytest.raises(SchemaUnknownError, match="payments-value"):
        codec.contract_for("payments", "n.T")
