"""One attempt: decode, hand to the target under its deadline, make the output record. Every failure comes back as
data."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from pydantic import BaseModel

from broker_bridge import headers as h
from broker_bridge.cloudevents import event_headers
from broker_bridge.config.route import OutputSection
from broker_bridge.consumer import Context
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.framing import WireForm
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import (
    BridgeError,
    DeadlinePassedError,
    HandlerError,
    MalformedError,
    OutputInvalidError,
    RegistryError,
    TargetTimeoutError,
    ValueInvalidError,
)
from broker_bridge.message import Message, OutgoingRecord, SchemaRef
from broker_bridge.worker.begun import Begun, begin
from broker_bridge.worker.cancellation import is_cancelled
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.targets.base import Target


class Waiting(NamedTuple):
    """An attempt that waits for its target."""

    message: Message[Any]
    rest: Begun


class Attempt:
    """Makes attempts at one route's target."""

    def __init__(
        self, pipeline: Pipeline, target: Target, codec: Codec, *, wire_form: WireForm | str = WireForm.CONFLUENT
    ) -> None:
        self._p = pipeline
        self._target = target
        self._codec = codec
        route = pipeline.route
        self._timeout_ms = route.target_timeout_ms or 30_000
        self.timeout_s = self._timeout_ms / 1000
        contract = route.contract
        reader = codec.contract_for(route.topic, contract.subject, contract.version) if contract else None
        self._decode = codec.decoder(reader, Form.PYTHON if target.form == "python" else Form.JSON)
        self._output = route.output
        if route.output is not None:
            out, form = route.output, WireForm(route.output.wire_form or wire_form)
            self._output_contract = codec.contract_for(out.topic, out.subject, out.version)
            self._encode = codec.encoder(self._output_contract, json_ready=target.form == "json", wire_form=form)
            self._schema_headers = codec.schema_headers(self._output_contract, form)

    def begin(self, delivery: Delivery) -> BridgeError | Waiting | None:
        """Try the message, as far as it goes without waiting: most handlers end here.

        None means that the target took it, with ``delivery.output`` set if there is one to publish. A ``Waiting`` is to
        be given to ``finish``.
        """
        try:
            message = self._read(delivery)  # anew for each attempt: the last one may have changed it
        except BridgeError as error:
            return error
        if message.deadline_ms is not None and delivery.started_ms >= message.deadline_ms and not delivery.replay_id:
            late_ms = delivery.started_ms - message.deadline_ms
            return DeadlinePassedError(f"its deadline was {late_ms} ms ago when its turn came")
        # Every try counts here, also one that cost no attempt: it may have had its effect, so the next is a repeat.
        delivery.tries = max(delivery.tries, delivery.attempt) + 1
        context = Context(
            delivery.tries,
            delivery.crashes,
            delivery.token,
            self._p.route.group,
            delivery.started_ms + self._timeout_ms,
            delivery.is_lost,
        )
        try:
            answer = begin(self._target.deliver(message, context))
        except BaseException as error:  # noqa: BLE001 - SystemExit too: one message must not end the worker
            return self._failure(error)
        if isinstance(answer, Begun):
            return Waiting(message, answer)
        return self._answered(delivery, message, answer)

    async def finish(self, delivery: Delivery, waiting: Waiting) -> BridgeError | None:
        """The rest of an attempt, under its deadline."""
        limit = asyncio.timeout_at(delivery.began_s + self.timeout_s)
        try:
            async with limit:
                answer = await waiting.rest
        except BaseException as error:  # noqa: BLE001 - as in begin
            return self._failure(error, overdue=limit.expired())
        return self._answered(delivery, waiting.message, answer)

    def _failure(self, error: BaseException, *, overdue: bool = False) -> BridgeError:
        """What ended an attempt, as an error of ours. Raises it where it is not the handler's."""
        if isinstance(error, BridgeError) and not isinstance(error, RegistryError):  # of what the handler does itself
            return error
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise error
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise error
        failure: BridgeError
        if isinstance(error, TimeoutError):
            detail = f"no answer within {self.timeout_s:g} s" if overdue else f"the handler raised {error!r}"
            failure = TargetTimeoutError(detail, target_code="timeout")
        else:
            name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
            failure = HandlerError(f"{name}: {error}", target_code=name)
        failure.__cause__ = error
        return failure

    def _answered(self, delivery: Delivery, message: Message[Any], answer: object) -> BridgeError | None:
        try:
            delivery.output = self._output_of(delivery, message, answer)
        except BridgeError as error:
            return error
        return None

    def _read(self, delivery: Delivery) -> Message[Any]:
        try:
            return self._message(delivery)
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

    def _message(self, delivery: Delivery) -> Message[Any]:
        record, named = delivery.record, delivery.named
        value: Any = None
        schema: SchemaRef | None = None
        if record.value is not None and self._target.form != "bytes":
            value, schema = self._decode(record.value, named.get(h.VALUE_SCHEMA_ID))
        elif record.value is not None:
            value = record.value
        return Message(
            value=value,
            key=record.key,
            headers=h.without_bridge(record.headers),
            origin=delivery.origin,
            timestamp_ms=record.timestamp_ms
            if delivery.from_source
            else h.int_in(named, h.ORIGIN_TIMESTAMP_MS, record.timestamp_ms),
            idempotency_key=delivery.idempotency_key,
            schema=schema,
            event_id=h.text_in(named, h.CE_ID),
            event_source=h.text_in(named, h.CE_SOURCE),
            event_type=h.text_in(named, h.CE_TYPE),
            event_time=h.text_in(named, h.CE_TIME),
            event_subject=h.text_in(named, h.CE_SUBJECT),
            traceparent=h.text_in(named, h.TRACEPARENT),
            correlation_id=h.text_in(named, h.CORRELATION_ID),
            deadline_ms=h.int_in(named, h.DEADLINE, 0) or None,
            replay_id=delivery.replay_id,
        )

    def _make_output(self, delivery: Delivery, message: Message[Any], answer: object) -> OutgoingRecord | None:
        if isinstance(answer, OutgoingRecord):
            return answer
        if answer is None or self._output is None:
            return None
        output, contract = self._output, self._output_contract
        try:
            encoded = self._encode(_fields(answer))
        except ValueInvalidError as error:
            raise OutputInvalidError(error.detail, where=error.where, remedy=error.remedy) from error
        event_id = f"{message.event_id or message.origin}.out"
        headers = event_headers(
            event_id=event_id,
            source=output.source or self._p.service,
            event_type=output.type or contract.record_name,
            time=rfc3339(self._p.clock.now_ms()),
            subject=message.event_subject,
            traceparent=message.traceparent,
            correlation_id=message.correlation_id or message.event_id,
            causation_id=message.event_id,
        )
        headers += self._schema_headers
        key = self._output_key(output, delivery, answer)
        return OutgoingRecord(topic=output.topic, value=encoded, key=key, headers=headers)

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
