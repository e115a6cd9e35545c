"""A steady stream of events, and what became of each send: the one record of what the rest must account for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

from broker_bridge.bootstrap import open_producer, open_transport
from broker_bridge.chaos.evidence import Sent
from broker_bridge.chaos.workload import Item, Workload
from broker_bridge.cloudevents import event_headers
from broker_bridge.config import BridgeConfig, RouteConfig
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import BridgeError, ContractError, TransportError
from broker_bridge.message import OutgoingRecord, Position
from broker_bridge.producer import Event, Producer
from broker_bridge.transport.base import BatchProducer, Transport

TICK_S = 0.05
SOURCE = "/chaos"


class Load(threading.Thread):
    """Sends ``per_s`` events a second until ``finish``. What is not acknowledged is sent again under the same id, as a
    careful producer would, and counts once."""

    def __init__(self, config: BridgeConfig, route: RouteConfig, workload: Workload, *, per_s: int) -> None:
        super().__init__(name="load", daemon=True)
        section = config.producer.model_copy(update={"source": SOURCE})
        self._config = config.model_copy(update={"producer": section})
        self._route = route
        self._workload = workload
        self._per_s = per_s
        self._finish = threading.Event()
        self._sent: list[Sent] = []
        self._unacknowledged: list[Item] = []
        self._raw: BatchProducer
        self.failure: BaseException | None = None

    def run(self) -> None:
        """The thread."""
        try:
            asyncio.run(self._stream())
        except BaseException as error:  # noqa: BLE001 - told by ``finish``
            self.failure = error

    def finish(self, timeout_s: float) -> list[Sent]:
        """Stop sending, wait for the last answers, and return all that was sent. Raises what ended the stream."""
        self._finish.set()
        self.join(timeout_s)
        if self.failure is not None:
            raise self.failure
        left = [Sent(_key(item), item.record_key, item.kind, None) for item in self._unacknowledged]
        return [*self._sent, *left]

    def abandon(self) -> None:
        """Stop sending: nobody will ask what was sent."""
        self._finish.set()

    @property
    def acknowledged(self) -> int:
        """How many Kafka has taken so far."""
        return len(self._sent)

    async def _stream(self) -> None:
        transport = open_transport(self._config)
        self._raw = transport.producer(delivery_timeout_ms=self._config.kafka.delivery_timeout_ms)
        await self._raw.start()
        try:
            await self._stream_events(transport)
        finally:
            await self._raw.stop()

    async def _stream_events(self, transport: Transport) -> None:
        async with open_producer(self._config, transport=transport) as producer:
            started, made = time.monotonic(), 0
            while not self._finish.is_set():
                due = int((time.monotonic() - started) * self._per_s) - made
                due = min(due, self._per_s)  # after an outage: no flood to make up for it
                again, self._unacknowledged = self._unacknowledged, []
                items = [*again, *(self._workload.next() for _ in range(max(0, due)))]
                made = int((time.monotonic() - started) * self._per_s)
                await self._send(producer, items)
                await asyncio.sleep(TICK_S)
            await self._send(producer, list(self._unacknowledged))

    async def _send(self, producer: Producer, items: list[Item]) -> None:
        self._unacknowledged = list(items)
        encoded = [item for item in items if item.raw is None]
        raw = [item for item in items if item.raw is not None]
        answers = [
            *await producer.send_batch([self._event(item) for item in encoded]),
            *await self._send_raw(raw),
        ]
        self._unacknowledged = []
        for item, answer in zip((*encoded, *raw), answers, strict=True):
            if isinstance(answer, Position):
                self._sent.append(Sent(_key(item), item.record_key, item.kind, answer))
            elif isinstance(answer, ContractError):
                raise answer
            else:
                self._unacknowledged.append(item)

    async def _send_raw(self, items: list[Item]) -> Sequence[Position | BridgeError]:
        if not items:
            return []
        try:
            return await self._raw.send_batch([self._record(item) for item in items])
        except TransportError as error:  # nothing was tried
            return [error] * len(items)

    def _event(self, item: Item) -> Event:
        contract = self._route.contract
        assert contract is not None
        return Event(
            topic=self._route.topic, value=item.value, contract=contract.subject, version=contract.version,
            key=item.record_key, event_id=item.event_id,
        )  # fmt: skip

    def _record(self, item: Item) -> OutgoingRecord:
        headers = event_headers(
            event_id=item.event_id, source=SOURCE, event_type="garbage", time=rfc3339(time.time_ns() // 1_000_000),
            subject=item.record_key,
        )  # fmt: skip
        return OutgoingRecord(self._route.topic, item.raw, key=item.record_key.encode(), headers=headers)


def _key(item: Item) -> str:
    return f"{SOURCE}#{item.event_id}"
