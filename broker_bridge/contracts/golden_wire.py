"""Golden vectors of the wire forms (``schemas/golden/wire-forms/*.json``): what a value looks like in each, and what a
reader makes of values that are damaged or could be taken for another form.

A vector states either what is written (``subject``, ``version``, ``wire_form``, ``value`` in JSON form), and its bytes
and headers follow; or what is read (``headers``, ``hex``), and ``reads_as`` follows: the version and the value, or the
code of the error. Headers are pairs of name and hex, or null.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.framing import WireForm
from broker_bridge.contracts.golden import GOLDEN_FOLDER, VectorReport, load_vector, report_on
from broker_bridge.errors import ContractError
from broker_bridge.headers import schema_header_of
from broker_bridge.message import Header

WIRE_FOLDER: Final = "wire-forms"
_WRITTEN: Final = {"subject": str, "version": int, "wire_form": str, "value": dict}
_READ: Final = {"headers": list, "hex": str}
_ORDER: Final = ("name", "why", "subject", "version", "wire_form", "value", "headers", "hex", "reads_as")


def verify_wire_forms(folder: Path, codec: Codec) -> list[VectorReport]:
    """A report on every such vector of a schema folder; none where there are none. Raises ContractError with the file
    where one is damaged."""
    return [_report(codec, file) for file in sorted((folder / GOLDEN_FOLDER / WIRE_FOLDER).glob("*.json"))]


def _report(codec: Codec, file: Path) -> VectorReport:
    given = load_vector(file, {})
    is_written = "wire_form" in given
    load_vector(file, _WRITTEN if is_written else _READ)
    return report_on(file, given, lambda: (_written if is_written else _read)(codec, given), _ORDER)


def _written(codec: Codec, given: dict[str, Any]) -> dict[str, Any]:
    contract = codec.source.get(given["subject"], given["version"])
    form = WireForm(given["wire_form"])
    value = codec.encoder(contract, json_ready=True, wire_form=form)(given["value"])
    headers = codec.schema_headers(contract, form)
    read = codec.decode_json_ready(value, schema_header=schema_header_of(headers))
    if read.schema != contract.ref:
        raise ContractError(f"what is written is read as version {read.schema.version}", where=contract.where)
    return {
        "value": read.value,
        "headers": [[name, None if raw is None else raw.hex()] for name, raw in headers],
        "hex": value.hex(),
    }


def _read(codec: Codec, given: dict[str, Any]) -> dict[str, Any]:
    headers: list[Header] = [(name, None if raw is None else bytes.fromhex(raw)) for name, raw in given["headers"]]
    try:
        read = codec.decode_json_ready(bytes.fromhex(given["hex"]), schema_header=schema_header_of(headers))
    except ContractError as error:
        return {"reads_as": {"error": error.code}}
    return {"reads_as": {"subject": read.schema.subject, "version": read.schema.version, "value": read.value}}
