"""Same idempotency key, other bytes: the same payload or another one?

Equal bytes prove the same payload cheaply, unequal bytes prove nothing, because Avro libraries encode one value in
several ways (map order, padded integers). So before a conflict is called, the record that was seen first is read from
the log and both are compared as decoded values; where they were written under different schemas (an event sent again
by a producer that was upgraded meanwhile), as the route reads them. Where it cannot be read any more the bytes decide.
"""

from __future__ import annotations

import struct

from broker_bridge.contracts.codec import Codec, Decoded
from broker_bridge.contracts.contract import Contract
from broker_bridge.core.claim import pack_origin
from broker_bridge.errors import BridgeError, RegistryError, TransportError
from broker_bridge.headers import schema_header_of
from broker_bridge.message import Position, Record
from broker_bridge.transport.base import LogReader, Transport
from broker_bridge.worker.delivery import Delivery


class PayloadComparison:
    """Compares the payload of a delivery with that of the record its claim was first granted for. ``read_as`` is the
    contract that the route reads values as, None where it takes them as they were written."""

    def __init__(self, transport: Transport, codec: Codec, topic: str, read_as: Contract | None = None) -> None:
        self._transport = transport
        self._codec = codec
        self._topic = topic
        self._read_as = read_as
        self._reader: LogReader | None = None

    async def is_same_payload(self, delivery: Delivery, first_origin: bytes) -> bool:
        """True where both decode to equal values. Raises ``TransportError`` where the first record, or a schema, cannot
        be read just now: an outage must not turn a duplicate into a conflict."""
        first = await self._fetch(first_origin)
        if first is None:
            return False
        if first.value == delivery.record.value:
            return True
        try:
            return self._are_equal(first, delivery.record)
        except RegistryError as error:
            raise TransportError(f"a schema cannot be had now: {error.detail}", remedy=error.remedy) from error
        except BridgeError:
            return False

    async def _fetch(self, origin: bytes) -> Record | None:
        if len(origin) != 16:
            return None
        _, partition, offset = struct.unpack(">IIQ", origin)
        if pack_origin(self._topic, partition, offset) != origin:
            return None
        try:
            if self._reader is None:
                reader = self._transport.reader()
                await reader.start()
                self._reader = reader
            return (await self._reader.fetch([Position(self._topic, partition, offset)]))[0]
        except TransportError as error:
            if error.retriable:
                raise
            return None

    def _are_equal(self, first: Record, second: Record) -> bool:
        if first.value is None or second.value is None:
            return first.value is second.value
        one, other = self._decoded(first, None), self._decoded(second, None)
        if one.schema == other.schema or self._read_as is None:
            return one.value == other.value
        return self._decoded(first, self._read_as).value == self._decoded(second, self._read_as).value

    def _decoded(self, record: Record, read_as: Contract | None) -> Decoded:
        header = schema_header_of(record.headers)
        return self._codec.decode(record.value or b"", reader=read_as, schema_header=header)

    async def stop(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            await self._reader.stop()
