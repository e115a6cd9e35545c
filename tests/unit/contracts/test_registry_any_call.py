"""Whatever a registry's client sends, there is an answer, and the folder stays whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema_folder import SCHEMAS, record

from broker_bridge.contracts import SchemaDirectory
from broker_bridge.contracts.registry_api import ROUTES, RegistryApi
from broker_bridge.contracts.registry_values import Request
from broker_bridge.contracts.served_folder import ServedFolder

ORDER = "shop.OrderPlaced"
SUBJECTS = [ORDER, "orders.placed-value", "One"]
PIECES = [*sorted({part for _, pattern, _ in ROUTES for part in pattern.split("/")}), "latest", "1", "2", "x", "ä"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", ""]
PARAMETERS = ["deleted", "verbose", "subject", "defaultToGlobal", "subjectPrefix"]
KEYS = ["schema", "schemaType", "references", "id", "version", "compatibility", "metadata", "name", "subject"]
TEXTS = ["AVRO", json.dumps(record(("a", "int"), name="One")), "-1", "NONE", "FULL", "{", ORDER]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
CALLS = st.sampled_from([(method, pattern) for method, pattern, _ in ROUTES]).flatmap(
    lambda call: st.tuples(
        st.just(call[0]),
        st.tuples(
            *(st.sampled_from(SUBJECTS + PIECES) if part == "*" else st.just(part) for part in call[1].split("/"))
        ),
    )
)
ODD_CALLS = st.tuples(
    st.sampled_from(METHODS), st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=6).map(tuple)
)
BODIES = st.binary(max_size=20) | JSON_VALUES.map(lambda value: json.dumps(value).encode())
QUERIES = st.dictionaries(st.sampled_from(PARAMETERS), st.sampled_from(["True", "false", ORDER, ""]), max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(SCHEMAS, tmp_path_factory.mktemp("any-call") / "schemas"))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=CALLS | ODD_CALLS, query=QUERIES, body=BODIES)
def test_every_call_has_an_answer(
    folder: Path, call: tuple[str, tuple[str, ...]], query: dict[str, str], body: bytes
) -> None:
    method, path = call
    api = RegistryApi(ServedFolder(folder))
    reply = api.answer(Request(method, path, query, body))
    json.dumps(reply.body)
    assert reply.status in {200, 400, 404, 405, 409, 422}
    assert reply.status == 200 or set(reply.body) == {"error_code", "message"}
    assert SchemaDirectory(folder).get(ORDER, 1).schema_id == 1
