"""The embeddable producer: values under a contract in, acknowledged events in Kafka out.

::

    async with bridge.producer(source="/shop/web") as producer:
        await producer.send("orders.placed", order, key=order.customer_id, contract="shop.OrderPlaced")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from broker_bridge.clock import Clock
from broker_bridge.cloudevents import active_traceparent, event_headers, new_event_id, new_traceparent
from broker_bridge.contracts.codec import Encoded
from broker_bridge.contracts.framing import WireForm
from broker_bridge.contracts.source import when_fetched
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import BridgeError, HeadersInvalidError, TransportError, UsageError
from broker_bridge.message import Header, OutgoingRecord, Position
from broker_bridge.transport.base import BatchProducer


class Encoder(Protocol):
    """What the producer needs of ``contracts.Codec``."""

    def encode_for(self, topic: str, name: str, version: int | None, value: Any, wire_form: WireForm, /) -> Encoded:
        """``value`` as it goes to a topic, under the contract of that name. Raises a ``ContractError``."""


class ProducerFactory(Protocol):
    """What the producer needs of a transport."""

    def producer(self, *, delivery_timeout_ms: int = 30_000) -> BatchProducer:
        """A producer whose sends answer within the deadline."""


@dataclass(slots=True, kw_only=True)
class Event:
    """One event to be sent. ``value`` None is a tombstone.

    ``contract`` is the full name of the Avro record, or a subject with a dash, ``version`` one of its versions (the
    latest without). ``key`` decides the partition unless ``partition`` does; a text is sent as UTF-8. Without
    ``event_id`` a new one is made, without ``time_ms`` (since the epoch) it is now, without ``subject`` it is the key,
    without ``traceparent`` it is the active span or a new trace. ``idempotency_key`` replaces source and id as the
    identity of the event. ``deadline_ms`` (since the epoch) says until when handling it makes sense. ``headers`` come
    after those of the wire contract.
    """

    topic: str
    value: Any
    contract: str
    key: str | bytes | None = None
    version: int | None = None
    event_id: str | None = None
    subject: str | None = None
    time_ms: int | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    idempotency_key: str | None = None
    deadline_ms: int | None = None
    headers: Sequence[Header] = ()
    partition: int | None = None


class Producer:
    """Sends events of one ``source``. Use it with ``async with``, or ``start`` and ``stop``.

    ``wire_form`` says how values name their schema: ``"confluent"``, ``"header"`` or ``"single-object"``.

    Every answer comes within ``delivery_timeout_ms``. A ``DeliveryTimeoutError`` means that the event may or may not be
    in Kafka: send it again with the *same* ``event_id``, and whoever consumes it will see one event.
    """

    def __init__(
        self,
        transport: ProducerFactory,
        codec: Encoder,
        *,
        source: str,
        clock: Clock,
        delivery_timeout_ms: int = 30_000,
        new_id: Callable[[], str] = new_event_id,
        wire_form: WireForm | str = WireForm.CONFLUENT,
    ) -> None:
        self._producer = transport.producer(delivery_timeout_ms=delivery_timeout_ms)
        self._codec = codec
        self._source = source
        self._clock = clock
        self._new_id = new_id
        self._wire_form = WireForm.named(wire_form)

    async def start(self) -> None:
        """Connect. Raises ``TransportError``."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush within the delivery deadline and disconnect. Idempotent."""
        await self._producer.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def send(
        self,
        topic: str,
        value: Any,
        *,
        contract: str,
        key: str | bytes | None = None,
        version: int | None = None,
        event_id: str | None = None,
        subject: str | None = None,
        time_ms: int | None = None,
        traceparent: str | None = None,
        tracestate: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
        headers: Sequence[Header] = (),
        partition: int | None = None,
    ) -> Position:
        """Send one event and return where it is, once Kafka has acknowledged it. The parameters are those of ``Event``.

        Raises a ``ContractError`` for a value or header that is not valid, a ``RegistryError`` where its schema cannot
        be had (nothing was sent), and a ``TransportError`` where the event is not known to be in Kafka.
        """
        event = Event(
            topic=topic,
            value=value,
            contract=contract,
            key=key,
            version=version,
            event_id=event_id,
            subject=subject,
            time_ms=time_ms,
            traceparent=traceparent,
            tracestate=tracestate,
            correlation_id=correlation_id,
            causation_id=causation_id,
            idempotency_key=idempotency_key,
            deadline_ms=deadline_ms,
            headers=headers,
            partition=partition,
        )
        [answer] = await self.send_batch([event])
        if isinstance(answer, BridgeError):
            raise answer
        return answer

    async def send_batch(self, events: Sequence[Event]) -> list[Position | BridgeError]:
        """Send these and answer each, in order: where it is, or why it is not known to be there.

        An event that is not valid is answered and not sent; the others go on. Does not raise for an event.
        """
        answers: list[Position | BridgeError | None] = [None] * len(events)
        indices: list[int] = []
        records: list[OutgoingRecord] = []
        trace = active_traceparent()
        for index, event in enumerate(events):
            try:
                records.append(await self._record(event, trace))
                indices.append(index)
            except BridgeError as error:
                answers[index] = error
        for index, answer in zip(indices, await self._sent(records), strict=True):
            answers[index] = answer
        return [answer for answer in answers if answer is not None]

    async def _record(self, event: Event, trace: str | None) -> OutgoingRecord:
        """The event as it goes to Kafka, once its schema is there."""
        return await when_fetched(
            lambda: record_of(
                event,
                trace,
                codec=self._codec,
                source=self._source,
                now_ms=self._clock.now_ms(),
                new_id=self._new_id,
                wire_form=self._wire_form,
            )
        )

    async def _sent(self, records: Sequence[OutgoingRecord]) -> Sequence[Position | TransportError]:
        if not records:
            return []
        try:
            return await self._producer.send_batch(records)
        except TransportError as error:  # nothing was tried
            return [error] * len(records)


def record_of(
    event: Event,
    trace: str | None,
    *,
    codec: Encoder,
    source: str,
    now_ms: int,
    new_id: Callable[[], str],
    wire_form: WireForm = WireForm.CONFLUENT,
) -> OutgoingRecord:
    """The event as it goes to Kafka. ``trace`` is the active span's traceparent, if there is one.

    Raises ``UsageError`` and ``ContractError`` where the event is not valid.
    """
    if event.event_id == "":
        raise HeadersInvalidError("an event needs an id, or None for a new one", where="ce_id")
    subject = event.subject
    if subject is None and isinstance(event.key, str):
        subject = event.key or None
    value, schema_headers, event_type = _encoded(event, codec, wire_form)
    key = _key_bytes(event)
    headers = event_headers(
        event_id=event.event_id if event.event_id is not None else new_id(),
        source=source,
        event_type=event_type,
        time=_time(event, now_ms),
        subject=subject,
        traceparent=event.traceparent or trace or new_traceparent(),
        tracestate=event.tracestate,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        idempotency_key=event.idempotency_key,
        deadline_ms=event.deadline_ms,
        extra=event.headers,
    )
    headers += schema_headers
    return OutgoingRecord(topic=event.topic, value=value, key=key, headers=headers, partition=event.partition)


def _encoded(event: Event, codec: Encoder, wire_form: WireForm) -> tuple[bytes | None, Sequence[Header], str]:
    """The value, the headers that belong to it, and the type of the event. A tombstone needs no contract."""
    if event.value is None:
        return None, (), event.contract
    encoded = codec.encode_for(event.topic, event.contract, event.version, event.value, wire_form)
    return encoded.value, encoded.headers, encoded.contract.record_name


def _time(event: Event, now_ms: int) -> str:
    try:
        return rfc3339(event.time_ms if event.time_ms is not None else now_ms)
    except OverflowError as error:
        raise HeadersInvalidError(f"time_ms {event.time_ms} is no time between year 1 and 9999") from error


def _key_bytes(event: Event) -> bytes | None:
    key = event.key
    if key is None or isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise UsageError(f"key must be text or bytes, not {type(key).__name__}", where=event.topic)
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"key {key!r} is not Unicode text", where=event.topic) from error
