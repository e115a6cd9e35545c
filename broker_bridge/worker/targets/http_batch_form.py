"""Many messages in one POST, and what became of each: CloudEvents HTTP binding, batched content mode."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic_core import to_json

from broker_bridge.consumer import Context
from broker_bridge.errors import DeliveryError, TargetUnavailableError
from broker_bridge.message import Message
from broker_bridge.worker.targets.http_answer import failure_of

CONTENT_TYPE = "content-type: application/cloudevents-batch+json\r\n"


class Done(NamedTuple):
    """The target took the message and answered so."""

    value: object


def batch_event(message: Message[Any], context: Context) -> bytes:
    """A message as a structured event. What CloudEvents demands and the record does not carry comes from its place;
    the token is text, for a CloudEvents integer has 32 bits."""
    origin = message.origin
    event = {
        "specversion": "1.0",
        "id": message.event_id or str(origin),
        "source": message.event_source or f"kafka://{origin.topic}",
        "type": message.event_type or (message.schema.subject if message.schema else "kafka.record"),
        "datacontenttype": "application/json",
        "idempotencykey": message.idempotency_key,
        "bridgeattempt": context.attempt,
        "bridgecrashes": context.crashes,
        "bridgetoken": str(context.token),
        "bridgeorigin": str(origin),
        "data": message.value,
    }
    optional = {"time": message.event_time, "subject": message.event_subject, "traceparent": message.traceparent}
    event.update({name: value for name, value in optional.items() if value is not None})
    return to_json(event)


def results_in(body: bytes, now_ms: int) -> dict[str, Done | DeliveryError] | None:
    """What is said of each idempotency key; None where the body is no answer to a batch. Who is told of twice, and
    not the same, is told of by nobody."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    entries: dict[str, Any] = {}
    for entry in found:
        key = entry.get("idempotencykey") if isinstance(entry, dict) else None
        if isinstance(key, str):
            entries[key] = entry if entries.get(key, entry) == entry else None
    return {key: _result(entry, now_ms) for key, entry in entries.items() if entry is not None}


def no_result() -> DeliveryError:
    """The answer leaves a message out, so whether it had its effect is not known."""
    return TargetUnavailableError(
        "the answer to a batch has no result for this message",
        target_code="no_result",
        remedy="answer each event's idempotencykey with a status from 200 to 599",
    )


def _result(entry: dict[str, Any], now_ms: int) -> Done | DeliveryError:
    status, wait = entry.get("status"), entry.get("retry_after")
    if not isinstance(status, int) or not 200 <= status <= 599:
        return no_result()
    if status < 300:
        return Done(entry.get("result"))
    retry_after = str(wait) if type(wait) in (int, str) else None
    return failure_of(status, retry_after, entry.get("problem"), now_ms)
