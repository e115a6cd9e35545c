"""One attempt: decode, hand to the target under its deadline, make the output record. Every failure comes back as
data.

The hot path of a worker, with ``slots``: what a handler does not look at is not made for it. A handler of plain values
gets the decoded value; a ``Message`` and a ``Context``, 5 µs together, are made for targets that ask for more.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from broker_bridge import headers as h
from broker_bridge.config.route import OutputSection
from broker_bridge.consumer import Context
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.framing import WireForm
from broker_bridge.core.newest_version import is_stale
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
from broker_bridge.worker.deadlines import Deadlines, Task
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.result_event import ResultEvent
from broker_bridge.worker.stale_replays import check_version_field, version_in
from broker_bridge.worker.targets.base import Target


class Attempt:
    """Makes attempts at one route's target."""

    def __init__(
        self, pipeline: Pipeline, target: Target, codec: Codec, *, wire_form: WireForm | str = WireForm.CONFLUENT
    ) -> None:
        self._p = pipeline
        self._target = target
        route = pipeline.route
        self._timeout_ms = route.target_timeout_ms or 30_000
        self.timeout_s = self._timeout_ms / 1000
        contract = route.contract
        reader = codec.contract_for(route.topic, contract.subject, contract.version) if contract else None
        self._decode = codec.decoder(reader, Form.PYTHON if target.form == "python" else Form.JSON)
        self._of_values = target.of_values
        self._version_field = contract.version_field if contract else None
        if reader is not None and self._version_field is not None:
            check_version_field(reader, self._version_field)
        self._deadlines = Deadlines()
        self._output = route.output
        if route.output is not None:
            out, form = route.output, WireForm(route.output.wire_form or wire_form)
            written = codec.contract_for(out.topic, out.subject, out.version)
            self._encode = codec.encoder(written, json_ready=target.form == "json", wire_form=form)
            self._event = ResultEvent(
                source=out.source or pipeline.service,
                event_type=out.type or written.record_name,
                schema=codec.schema_headers(written, form),
            )

    def begin(self, delivery: Delivery) -> BridgeError | Begun | None:
        """Try the message, as far as it goes without waiting: most handlers end here.

        None means that the target took it, with ``delivery.output`` set if there is one to publish, or that it was
        ``turned_away`` as a replay of an older version. A ``Begun`` is to
        be given to ``finish``.
        """
        try:
            value, schema = self._read(delivery)  # anew for each attempt: the last one may have changed it
            if self._version_field is not None:
                delivery.version = version_in(value, self._version_field)
                if is_stale(delivery.version, delivery.newest):
                    delivery.turned_away = True
                    return None
            if h.DEADLINE in delivery.named:
                _refuse_late(delivery)
        except BridgeError as error:
            return error
        # Every try counts here, also one that cost no attempt: it may have had its effect, so the next is a repeat.
        tries, attempt = delivery.tries, delivery.attempt
        delivery.tries = (tries if tries > attempt else attempt) + 1
        try:
            if self._of_values is not None:
                answer = begin(self._of_values(value))
            else:
                message = self._message(delivery, value, schema)
                answer = begin(self._target.deliver(message, self._context(delivery)))
        except BaseException as error:  # noqa: BLE001 - SystemExit too: one message must not end the worker
            return self._failure(error)
        return answer if type(answer) is Begun else self._answered(delivery, answer)

    async def finish(self, delivery: Delivery, begun: Begun, task: Task) -> BridgeError | None:
        """The rest of an attempt, under its deadline; ``task`` is the running one."""
        self._deadlines.enter(task, delivery.began_s + self.timeout_s)
        try:
            answer = await begun
        except BaseException as error:  # noqa: BLE001 - as in begin
            overdue = self._deadlines.leave(task)
            if overdue and isinstance(error, asyncio.CancelledError) and not task.cancelling():
                return self._failure(TimeoutError(), overdue=True)
            return self._failure(error)
        self._deadlines.leave(task)
        return self._answered(delivery, answer)

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

    def _answered(self, delivery: Delivery, answer: object) -> BridgeError | None:
        try:
            delivery.output = self._make_output(delivery, answer)
        except BridgeError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about this answer only
            failure = OutputInvalidError(f"making the result's record raised {error!r}")
            failure.__cause__ = error
            return failure
        return None

    def _read(self, delivery: Delivery) -> tuple[Any, SchemaRef | None]:
        value = delivery.record.value
        if value is None or self._target.form == "bytes":
            return value, None
        try:
            return self._decode(value, delivery.named.get(h.VALUE_SCHEMA_ID))
        except BridgeError:
            raise
        except Exception as error:
            raise MalformedError(f"reading the record raised {error!r}") from error

    def _context(self, delivery: Delivery) -> Context:
        return Context(
            delivery.tries,
            delivery.crashes,
            delivery.token,
            self._p.route.group,
            delivery.started_ms + self._timeout_ms,
            delivery.is_lost,
        )

    def _message(self, delivery: Delivery, value: Any, schema: SchemaRef | None) -> Message[Any]:
        record, named = delivery.record, delivery.named
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
            deadline_ms=_deadline_ms(delivery),
            replay_id=delivery.replay_id,
        )

    def _make_output(self, delivery: Delivery, answer: object) -> OutgoingRecord | None:
        output = self._output
        if isinstance(answer, OutgoingRecord):
            return answer
        if answer is None or output is None:
            return None
        try:
            encoded = self._encode(answer if type(answer) is dict else _fields(answer))
        except ValueInvalidError as error:
            raise OutputInvalidError(error.detail, where=error.where, remedy=error.remedy) from error
        headers = self._event.headers(delivery.named, delivery.origin, self._p.clock.now_ms())
        return OutgoingRecord(output.topic, encoded, self._output_key(output, delivery, answer), headers)

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


def _deadline_ms(delivery: Delivery) -> int | None:
    return h.int_in(delivery.named, h.DEADLINE, 0) or None


def _refuse_late(delivery: Delivery) -> None:
    """A deadline that is over is a dead letter rather than a late effect; replays are meant to be late."""
    deadline_ms = _deadline_ms(delivery)
    if deadline_ms is not None and delivery.started_ms >= deadline_ms and not delivery.replay_id:
        late_ms = delivery.started_ms - deadline_ms
        raise DeadlinePassedError(f"its deadline was {late_ms} ms ago when its turn came")
