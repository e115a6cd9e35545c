"""A message as an HTTP request of its own: CloudEvents HTTP binding, binary mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from broker_bridge.consumer import Context
from broker_bridge.message import Message

_CE_LITERAL = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What stands for itself in a CloudEvents attribute beside letters and digits: printable ASCII without space, ``"``
and ``%`` (CloudEvents HTTP binding, 3.1.3.2)."""
_is_literal = re.compile(f"[A-Za-z0-9{re.escape(_CE_LITERAL)}]*").fullmatch
"""A third of the time that quoting takes to find that there is nothing to quote."""


class SingleForm:
    """How one route's target is sent single messages. ``common`` are the configured headers that belong to every
    request, whatever is in it; the others give way to what a message carries under their name."""

    def __init__(self, configured: Mapping[str, str]) -> None:
        headers = {name.lower(): value for name, value in configured.items()}
        self._instead = {"content-type": "application/json"} | {
            name: headers.pop(name) for name in list(headers) if name in _OURS
        }
        self.common = headers

    def request(self, message: Message[Any], context: Context) -> tuple[str, bytes]:
        """The message's own header lines, and the body."""
        headers = self._instead | request_headers(message, context)
        return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]), to_json(message.value)


def request_headers(message: Message[Any], context: Context) -> dict[str, str]:
    """The headers of one delivery: event attributes, trace, idempotency key, and what the bridge knows of earlier
    tries."""
    found = {
        "ce-specversion": "1.0",
        "idempotency-key": _header_safe(message.idempotency_key),
        "bridge-attempt": str(context.attempt),
        "bridge-crashes": str(context.crashes),
        "bridge-token": str(context.token),
        "bridge-origin": _header_safe(str(message.origin)),
    }
    if message.traceparent:
        found["traceparent"] = _header_safe(message.traceparent)
    if message.replay_id:
        found["bridge-replay-id"] = _header_safe(message.replay_id)
    for name, value in (
        ("ce-id", message.event_id),
        ("ce-source", message.event_source),
        ("ce-type", message.event_type),
        ("ce-time", message.event_time),
        ("ce-subject", message.event_subject),
    ):
        if value is not None:
            found[name] = value if _is_literal(value) else quote(value, safe=_CE_LITERAL)
    return found


def _header_safe(value: str) -> str:
    """Text as a header value: control characters and what is not ASCII are percent-encoded (CR and LF cannot pass)."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if c.isascii() and c.isprintable() else "".join(f"%{b:02X}" for b in c.encode()) for c in value)


_OURS = frozenset(
    {
        "content-type",
        "ce-specversion",
        "idempotency-key",
        "bridge-attempt",
        "bridge-crashes",
        "bridge-token",
        "bridge-origin",
        "traceparent",
        "bridge-replay-id",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-time",
        "ce-subject",
    }
)
"""Headers that a message writes; the last seven only where it has something to write."""
