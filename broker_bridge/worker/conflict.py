"""Same idempotency key, other bytes: the same payload or another one?

Equal bytes prove the same payload cheaply, unequal bytes prove nothing, because Avro libraries encode one value in
several ways (map order, padded integers). So before a conflict is called, the record that was seen first is read from
the log and both are compared as decoded values. Where it cannot be read any more the bytes decide.
"""

from __future__ import annotations

import struct

from broker_bridge.contracts.codec import Codec
from broker_bridge.core.claim import pack_origin
from broker_bridge.errors import BridgeError, RegistryError, TransportError
from broker_bridge.headers import schema_header_of
from broker_bridge.message import Position, Record
from broker_bridge.transport.base import LogReader, Transport
from broker_bridge.worker.delivery import Delivery


class PayloadComparison:
    """Compares the payload of a delivery with that of the record its claim was first granted for."""

    def __init__(self, transport: Transport, codec: Codec, topic: str) -> None:
        self._transport = transport
        self._codec = codec
        self._topic = topic
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
            return self._decoded(first) == self._decoded(delivery.record)
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

    def _decoded(self, record: Record) -> object:
        if record.value is None:
            return None
        return self._codec.decode(record.value, schema_header=schema_header_of(record.headers)).value

    async def stop(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            await self._reader.stop()
