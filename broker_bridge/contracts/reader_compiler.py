"""TEMPORARY first version over fastavro; same signature as the compiled one that follows."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro

from broker_bridge.contracts.compatibility import can_read, describe
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.errors import IncompatibleError, MalformedError


def _strip(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _strip(one) for key, one in schema.items() if key != "logicalType"}
    return [_strip(one) for one in schema] if isinstance(schema, list) else schema


def compile_reader(
    writer: Contract, reader: Contract | None, form: Form, limits: Limits
) -> Callable[[bytes, int], dict[str, Any]]:
    """Function from (framed value, start of the body) to the decoded value."""
    if reader is not None and (problems := can_read(reader, writer)):
        raise IncompatibleError(describe(problems))
    of, to = writer.schema, reader.schema if reader else None
    if form is not Form.PYTHON:
        of, to = _strip(of), _strip(to)

    def read(value: bytes, start: int) -> dict[str, Any]:
        body = io.BytesIO(value)
        body.seek(start)
        try:
            found: Any = fastavro.schemaless_reader(body, of, to)
        except Exception as error:
            raise MalformedError(f"{type(error).__name__}: {error}") from error
        if body.tell() != len(value):
            raise MalformedError("bytes left over")
        return found  # type: ignore[no-any-return]

    return read
