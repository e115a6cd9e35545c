"""Messages and contexts as a worker gives them to a handler, for tests of the inbox."""

from __future__ import annotations

from typing import Any

from broker_bridge import Context, Message, Position


def message(key: str = "shop#1", *, topic: str = "orders.placed", offset: int = 0) -> Message[dict[str, Any]]:
    """A message with this idempotency key."""
    return Message(
        value={"order_id": key},
        key=b"c1",
        headers=(),
        origin=Position(topic, 0, offset),
        timestamp_ms=1_790_000_000_000,
        idempotency_key=key,
    )


def context(token: int = 1) -> Context:
    """A first attempt with this fencing token."""
    return Context(attempt=1, crashes=0, token=token, group="billing", deadline_ms=1_790_000_060_000)
