"""A shop's orders in memory, for tests of the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from broker_bridge import Bridge, Context, Message
from broker_bridge.testing import InMemoryBridge

SCHEMAS = Path(__file__).parents[3] / "schemas"
TOPIC, GROUP = "orders.placed", "payments"
ORDER = "shop.OrderPlaced"

Handle = Callable[[Message[dict[str, Any]], Context], Awaitable[Any]]


def order(number: int, customer: str = "c1", **changed: Any) -> dict[str, Any]:
    """One order; its id has its number."""
    return {
        "order_id": f"o-{number:04d}",
        "customer_id": customer,
        "amount_cents": 100 + number,
        "currency": "EUR",
        "placed_at": 1_790_000_000_000 + number,
        "note": None,
        "lines": [{"sku": "A", "quantity": 1}],
        "channel": "web",
        **changed,
    }


def shop(handle: Handle, **policies: Any) -> Bridge:
    """A bridge with one route from orders to ``handle``."""
    bridge = Bridge(schemas=SCHEMAS, service="test")

    async def target(message: Message[dict[str, Any]], context: Context) -> Any:
        return await handle(message, context)

    bridge.route(TOPIC, group=GROUP, contract=ORDER, **policies)(target)
    return bridge


async def place(world: InMemoryBridge, *numbers: int, customer: str = "c1", **changed: Any) -> None:
    """Produce orders, in this order."""
    for number in numbers:
        await world.producer.send(
            TOPIC,
            order(number, customer, **changed),
            key=customer,
            contract=ORDER,
            event_id=f"o-{number:04d}",
        )


def target_within(timeout: str) -> dict[str, str]:
    """The section that gives a handler so much time."""
    return {"kind": "python", "handler": "embedded:handler", "timeout": timeout}
