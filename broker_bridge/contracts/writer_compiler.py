"""TEMPORARY first version over fastavro; same signature as the compiled one that follows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import fastavro

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.forms import Form
from broker_bridge.errors import ValueInvalidError


def compile_writer(contract: Contract, form: Form) -> Callable[[Mapping[str, Any], bytes], bytes]:
    """Function from (value, prefix) to framed bytes."""

    def write(value: Mapping[str, Any], start: bytes) -> bytes:
        out = io.BytesIO()
        out.write(start)
        try:
            fastavro.schemaless_writer(out, contract.schema, value, strict_allow_default=form is Form.PYTHON)
        except Exception as error:
            raise ValueInvalidError(f"{type(error).__name__}: {error}") from error
        return out.getvalue()

    return write
