"""What the route's contract says of a dead letter's value: does it decode, thanks to whom, and written how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.framing import SINGLE_OBJECT_MAGIC, WireForm
from broker_bridge.errors import ContractError, UsageError
from broker_bridge.headers import VALUE_SCHEMA_ID, schema_header_of
from broker_bridge.message import Header


class Reading(NamedTuple):
    """A value in JSON form; ``by_upcaster``: it decodes only thanks to an upcaster. ``version`` is that of its record
    key, None where the route has no version field or the value none."""

    value: Mapping[str, Any]
    by_upcaster: bool
    version: int | None


class LetterContract:
    """Values of one route. ``contract`` None reads each as it was written; ``version_field`` as configured."""

    def __init__(self, codec: Codec, contract: Contract | None, *, version_field: str | None = None) -> None:
        self._codec = codec
        self._contract = contract
        self.version_field = version_field
        self._decode = codec.decode_json_ready
        self._plain: Codec | None = None
        if codec.upcasters and contract is not None:
            limits = codec.limits
            self._plain = Codec(codec.source, max_value_bytes=limits.max_value_bytes, max_items=limits.max_items)

    def read(self, value: bytes, headers: Sequence[Header]) -> Reading:
        """As a worker of the route reads it. Raises ``ContractError``."""
        contract, name = self._contract, schema_header_of(headers)
        found = self._decode(value, reader=contract, schema_header=name)
        by_upcaster = (
            self._plain is not None
            and contract is not None
            and (found.schema.subject, found.schema.version) != (contract.subject, contract.version)
            and not self._is_plain(value, name)
        )
        version = found.value.get(self.version_field) if self.version_field else None
        return Reading(found.value, by_upcaster, version if type(version) is int else None)

    def as_written(self, value: bytes, headers: Sequence[Header]) -> Mapping[str, Any]:
        """By the schema that wrote it alone. Raises ``ContractError``."""
        return self._decode(value, schema_header=schema_header_of(headers)).value

    def write(
        self, value: Mapping[str, Any], *, like: bytes, headers: Sequence[Header]
    ) -> tuple[bytes, tuple[Header, ...]]:
        """The bytes of a value in JSON form under the current contract, and the headers that go with them: in the wire
        form of ``like``, which came with ``headers``. Raises ``ContractError``, ``UsageError`` without a contract."""
        if self._contract is None:
            raise UsageError(
                "values cannot be edited: the route has no contract to write them under",
                remedy='name one: [route.contract] subject = "…"',
            )
        form = WireForm.CONFLUENT
        if schema_header_of(headers) is not None:
            form = WireForm.HEADER
        elif like.startswith(SINGLE_OBJECT_MAGIC):
            form = WireForm.SINGLE_OBJECT
        written = self._codec.encoder(self._contract, json_ready=True, wire_form=form)(value)
        if form is not WireForm.HEADER:
            return written, tuple(headers)
        kept = [header for header in headers if header[0] != VALUE_SCHEMA_ID]
        return written, (*kept, *self._codec.schema_headers(self._contract, form))

    def _is_plain(self, value: bytes, schema_header: bytes | None) -> bool:
        assert self._plain is not None
        try:
            self._plain.decode_json_ready(value, reader=self._contract, schema_header=schema_header)
        except ContractError:
            return False
        return True

    @property
    def can_write(self) -> bool:
        """Whether values can be edited."""
        return self._contract is not None
