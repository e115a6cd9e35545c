"""One attempt: decode, hand to the target under its deadline, make the output record. Every failure comes back as
data."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from broker_bridge import headers as h
from broker_bridge.cloudevents import event_headers
from broker_bridge.config.route import OutputSection
from broker_bridge.consumer import Context
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.contract import Contract
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import (
    BridgeError,
    HandlerError,
    MalformedError,
    OutputInvalidError,
    TargetTimeoutError,
    ValueInvalidError,
)
from broker_bridge.message import Message, OutgoingRecord, SchemaRef
from broker_bridge.worker.cancellation import is_cancelled
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.targets.base import Target


class Attempt:
    """Makes attempts at one route's target."""

    def __init__(self, pipeline: Pipeline, target: Target, codec: Codec) -> None:
        self._p = pipeline
        self._target = target
        self._codec = codec
        route = pipeline.route
        self.timeout_s = (route.target_timeout_ms or 30_000) / 1000
        self._reader = self._contract(route.contract.subject, route.contract.version) if route.contract else None
        self._output = route.output
        self._output_contract = self._contract(route.output.subject, route.output.version) if route.output else None

    def _contract(self, subject: str, version: int | None) -> Contract:
        return self._codec.source.get(subject, version)

    async def make(self, delivery: Delivery) -> BridgeError | None:
        """Try the message once. None means that the target took it, with ``delivery.output`` set if there is one to
        publish."""
        try:
            message = self._read(delivery)  # anew for each attempt: the last one may have changed it
            answer = await self._deliver(delivery, message)
            delivery.output = self._output_of(delivery, message, answer)
        except BridgeError as error:
            return error
        return None

    async def _deliver(self, delivery: Delivery, message: Message[Any]) -> object:
        # Every try counts here, also one that cost no attempt: it may have had its effect, so the next is a repeat.
        delivery.tries = max(delivery.tries, delivery.attempt) + 1
        context = Context(
            attempt=delivery.tries,
            crashes=delivery.crashes,
            token=delivery.token,
            group=self._p.route.group,
            deadline_ms=delivery.started_ms + int(self.timeout_s * 1000),
            is_lost=lambda: delivery.lost or delivery.part.gone,
        )
        try:
            async with asyncio.timeout(self.timeout_s) as limit:
                return await self._target.deliver(message, context)
        except (BridgeError, KeyboardInterrupt, GeneratorExit):
            raise
        except TimeoutError as error:
            detail = f"no answer within {self.timeout_s:g} s" if limit.expired() else f"the handler raised {error!r}"
            raise TargetTimeoutError(detail, target_code="timeout") from error
        except BaseException as error:  # SystemExit too: one message must not end the worker
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
            raise HandlerError(f"{name}: {error}", target_code=name) from error

    def _read(self, delivery: Delivery) -> Message[Any]:
        try:
            return self._decode(delivery)
        except BridgeError:
            raise
        except Exception as error:
            raise MalformedError(f"reading the record raised {error!r}") from error

    def _output_of(self, delivery: Delivery, message: Message[Any], answer: object) -> OutgoingRecord | None:
        try:
            return self._make_output(delivery, message, answer)
        except BridgeError:
            raise
        except Exception as error:
            raise OutputInvalidError(f"making the result's record raised {error!r}") from error

    def _decode(self, delivery: Delivery) -> Message[Any]:
        record, found = delivery.record, delivery.record.headers
        value: Any = None
        schema: SchemaRef | None = None
        if record.value is not None and self._target.form != "bytes":
            decode = self._codec.decode if self._target.form == "python" else self._codec.decode_json_ready
            value, schema = decode(record.value, reader=self._reader)
        elif record.value is not None:
            value = record.value
        return Message(
            value=value,
            key=record.key,
            headers=h.without_bridge(found),
            origin=delivery.origin,
            timestamp_ms=h.int_of(found, h.ORIGIN_TIMESTAMP_MS, record.timestamp_ms)
            if not delivery.from_source
            else record.timestamp_ms,
            idempotency_key=delivery.idempotency_key,
            schema=schema,
            event_id=h.text_of(found, h.CE_ID),
            event_source=h.text_of(found, h.CE_SOURCE),
            event_type=h.text_of(found, h.CE_TYPE),
            event_time=h.text_of(found, h.CE_TIME),
            event_subject=h.text_of(found, h.CE_SUBJECT),
            traceparent=h.text_of(found, h.TRACEPARENT),
            correlation_id=h.text_of(found, h.CORRELATION_ID),
            deadline_ms=h.int_of(found, h.DEADLINE, 0) or None,
            replay_id=delivery.replay_id,
        )

    def _make_output(self, delivery: Delivery, message: Message[Any], answer: object) -> OutgoingRecord | None:
        if isinstance(answer, OutgoingRecord):
            return answer
        if answer is None or self._output is None or self._output_contract is None:
            return None
        output, contract = self._output, self._output_contract
        try:
            encode = self._codec.encode_json_ready if self._target.form == "json" else self._codec.encode
            encoded = encode(contract.subject, contract.version, _fields(answer))
        except ValueInvalidError as error:
            raise OutputInvalidError(error.detail, where=error.where, remedy=error.remedy) from error
        event_id = f"{message.event_id or message.origin}.out"
        return OutgoingRecord(
            topic=output.topic,
            value=encoded,
            key=self._output_key(output, delivery, answer),
            headers=event_headers(
                event_id=event_id,
                source=output.source or self._p.service,
                event_type=output.type or contract.subject,
                time=rfc3339(self._p.clock.now_ms()),
                subject=message.event_subject,
                traceparent=message.traceparent,
                correlation_id=message.correlation_id or message.event_id,
                causation_id=message.event_id,
            ),
        )

    def _output_key(self, output: OutputSection, delivery: Delivery, answer: object) -> bytes | None:
        if output.key is None:
            return delivery.record.key
        found = answer.get(output.key) if isinstance(answer, dict) else getattr(answer, output.key, None)
        if found is None:
            raise OutputInvalidError(
                f"the answer has no field {output.key!r} to key the result by", remedy="check [route.output] key"
            )
        return str(found).encode()


def _fields(answer: object) -> Any:
    if isinstance(answer, (dict, BaseModel)):
        return answer
    raise OutputInvalidError(
        f"the answer is a {type(answer).__name__}, not an object with fields",
        remedy="answer with the fields of the output contract",
    )
