"""The registry's client: what each answer means, and that no answer costs more than its bounds."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_stub import RegistryStub, answers, drips, drops, floods

from broker_bridge.config import RegistrySection
from broker_bridge.contracts.registry_client import MAX_ANSWER_BYTES, Reference, RegistryClient
from broker_bridge.errors import (
    BridgeError,
    ConfigError,
    ContractError,
    IncompatibleError,
    RegistryError,
    RegistryRefusedError,
    SchemaUnknownError,
)

SCHEMA = {"type": "record", "name": "T", "namespace": "n", "fields": []}


@pytest.fixture
def registry() -> Iterator[RegistryStub]:
    with RegistryStub() as stub:
        yield stub


def client(registry: RegistryStub, **keys: Any) -> RegistryClient:
    return RegistryClient(
        RegistrySection.model_validate({"url": registry.url, "retries": 0, "timeout_ms": 30_000, **keys})
    )


async def test_schemas_by_id_and_by_subject(registry: RegistryStub) -> None:
    registry.add("n.T", SCHEMA)
    registry.add("a/b %?", SCHEMA | {"doc": "2"}, references=[{"name": "n.U", "subject": "u", "version": 3}])
    asked = client(registry)
    first, second = await asked.schema(1), await asked.version("a/b %?")
    assert (first.schema_id, first.kind, first.references) == (1, "AVRO", ())
    assert (second.schema_id, second.subject, second.version) == (2, "a/b %?", 1)
    assert second.references == (Reference("n.U", "u", 3),)
    assert await asked.places(2) == [("a/b %?", 1)]
    assert await asked.subjects() == ["n.T", "a/b %?"]
    assert await asked.versions("n.T") == [1]
    assert (await asked.lookup("n.T", first.text)).schema_id == 1
    assert await asked.register("n.T", first.text) == 1
    assert await asked.incompatibilities("n.T", first.text) is None
    for refused in (["a was removed"], []):
        registry.misbehaves = [answers(200, json.dumps({"is_compatible": False, "messages": refused}))]
        assert await asked.incompatibilities("n.T", first.text) == refused


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (answers(404, b'{"error_code": 40403, "message": "Schema not found"}'), SchemaUnknownError, "Schema not found"),
        (answers(404), RegistryRefusedError, "answers 404, not as a registry does"),
        (answers(404, "<html>nginx</html>"), RegistryRefusedError, "check the path of [registry] url"),
        (answers(404, b'{"error_code": 40408, "message": "\\u001b[2J"}'), RegistryRefusedError, "\\x1b[2J"),
        (answers(409, b'{"error_code": 409, "message": "b was removed"}'), IncompatibleError, "b was removed"),
        (answers(422, b'{"error_code": 42201, "message": "no Avro"}'), ContractError, "no Avro"),
        (answers(401), RegistryRefusedError, "credentials"),
        (answers(403, b"[]"), RegistryRefusedError, "credentials"),
        (answers(302, location="http://169.254.169.254/latest"), RegistryRefusedError, "redirects are not followed"),
        (answers(200, b"<html>"), RegistryError, "not JSON"),
        (answers(200, b"[" * 100_000), RegistryError, "not JSON"),
        (answers(200, b'{"schema": 7}'), RegistryError, "no schema"),
        (answers(200, b'{"schema": "{}", "references": [1]}'), RegistryError, "a reference without"),
        (answers(200, b"[]"), RegistryError, "no schema"),
        (answers(500, b"oops"), RegistryError, "answers 500"),
        (answers(429, retry_after="1"), RegistryError, "answers 429"),
        (drops(), RegistryError, "broke off"),
        (drips(), RegistryError, "no answer within 300 ms"),
        (floods(MAX_ANSWER_BYTES), RegistryRefusedError, "larger than"),
    ],
)
async def test_what_an_answer_means(registry: RegistryStub, answer: Any, kind: type[BridgeError], said: str) -> None:
    registry.always = answer
    timeout_ms = 300 if "within" in said else 10_000
    with pytest.raises(kind) as caught:
        await client(registry, timeout_ms=timeout_ms).schema(1)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert len(registry.requests) <= 2  # aiohttp itself asks once more where a connection ends without an answer
    assert len(str(caught.value)) < 700


async def test_a_redirect_is_not_followed(registry: RegistryStub) -> None:
    with RegistryStub() as elsewhere:
        registry.always = answers(307, location=f"{elsewhere.url}/schemas/ids/1")
        with pytest.raises(RegistryRefusedError):
            await client(registry, username="u", password="p").schema(1)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    "passing", [answers(500), answers(503), answers(408), answers(429), answers(200, "<"), drops()]
)
async def test_what_may_pass_is_tried_again(registry: RegistryStub, passing: Any) -> None:
    registry.add("n.T", SCHEMA)
    registry.misbehaves = [passing, passing]
    assert (await client(registry, retries=2).schema(1)).schema_id == 1
    assert len(registry.requests) == 3


@pytest.mark.parametrize("lasting", [answers(401), answers(302), answers(404), answers(400)])
async def test_what_does_not_pass_is_not(registry: RegistryStub, lasting: Any) -> None:
    registry.add("n.T", SCHEMA)
    registry.misbehaves = [lasting]
    with pytest.raises(RegistryRefusedError):
        await client(registry, retries=5).schema(1)
    assert len(registry.requests) == 1


async def test_tries_are_bounded_and_go_round_all_urls(registry: RegistryStub) -> None:
    with RegistryStub() as other:
        registry.always = other.always = answers(500)
        with pytest.raises(RegistryError, match="5 tries"):
            await client(registry, url=f"{registry.url}, {other.url}/", retries=4).schema(1)
        assert (len(registry.requests), len(other.requests)) == (3, 2)
        assert other.requests[0] == "GET /schemas/ids/1"


async def test_another_url_answers_where_the_first_is_down(registry: RegistryStub) -> None:
    registry.add("n.T", SCHEMA)
    gone = RegistryStub()
    assert (await client(registry, url=f"{gone.url},{registry.url}").schema(1)).schema_id == 1
    with pytest.raises(RegistryError, match="cannot connect"):
        await client(gone).schema(1)


async def test_credentials_are_sent_and_never_shown(registry: RegistryStub) -> None:
    registry.always = answers(401)
    for keys, sent in (
        ({"username": "ann", "password": "canary-1"}, "Basic " + base64.b64encode(b"ann:canary-1").decode()),
        ({"token": "canary-2"}, "Bearer canary-2"),
    ):
        section = RegistrySection.model_validate({"url": registry.url, "retries": 0, "timeout_ms": 30_000, **keys})
        with pytest.raises(RegistryRefusedError) as caught:
            await RegistryClient(section).schema(1)
        assert registry.headers[-1]["authorization"] == sent
        assert "canary" not in repr(section) + str(caught.value) + repr(caught.value.problem())


def test_certificates_that_cannot_be_used_are_told_at_start(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    with pytest.raises(ConfigError, match="certificates cannot be used"):
        RegistryClient(RegistrySection(url="https://registry.example", ca_file=bad))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made for this test."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry"
        f" -addext subjectAltName=IP:127.0.0.1 -out {cert} -keyout {key}".split(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


async def test_tls_trusts_the_ca_file_only_and_shows_its_own_certificate(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cert))
    tls.load_cert_chain(cert, key)
    with RegistryStub(tls=tls) as registry:
        registry.add("n.T", SCHEMA)
        assert (await client(registry, ca_file=cert).schema(1)).schema_id == 1
        with pytest.raises(RegistryRefusedError, match="certificate is not trusted"):
            await client(registry).schema(1)
    tls.verify_mode = ssl.CERT_REQUIRED
    with RegistryStub(tls=tls) as registry:
        registry.add("n.T", SCHEMA)
        assert (await client(registry, ca_file=cert, cert_file=cert, key_file=key).schema(1)).schema_id == 1
        with pytest.raises(RegistryError):
            await client(registry, ca_file=cert).schema(1)
