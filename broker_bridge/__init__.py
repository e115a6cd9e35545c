"""A durable buffer between services on Kafka: ordered, idempotent delivery, dead letters, and replay that proves it
worked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker_bridge.errors import BridgeError, RejectedError, RetryLaterError
from broker_bridge.message import Message, OutgoingRecord, Position, Record

if TYPE_CHECKING:
    from broker_bridge.bridge import Bridge
    from broker_bridge.consumer import Context, Handler, handler
    from broker_bridge.producer import Event, Producer

__all__ = [
    "Bridge",
    "BridgeError",
    "Context",
    "Event",
    "Handler",
    "Message",
    "OutgoingRecord",
    "Position",
    "Producer",
    "Record",
    "RejectedError",
    "RetryLaterError",
    "handler",
]

_LAZY = {
    "Bridge": "bridge",
    "Context": "consumer",
    "Handler": "consumer",
    "handler": "consumer",
    "Event": "producer",
    "Producer": "producer",
}
"""Names whose modules pull in Kafka or Avro; they are imported when first asked for, so that the command line starts
quickly."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
