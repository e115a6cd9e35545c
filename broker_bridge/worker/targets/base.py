"""Where messages go. Three targets: a Python handler, an HTTP endpoint, another topic."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol

from broker_bridge.consumer import Context
from broker_bridge.message import Message

Form = Literal["python", "json", "bytes"]
"""What a target is given as ``message.value``: Python values with logical types, plain values ready for JSON, or the
record's bytes."""


class Target(Protocol):
    """Acts on one message at a time; many calls run at once."""

    @property
    def form(self) -> Form:
        """In which form values are wanted."""

    @property
    def of_values(self) -> Callable[[Any], Coroutine[Any, Any, object]] | None:
        """What ``deliver`` comes to where it looks at the value and at nothing else of a message; None elsewhere."""

    async def start(self) -> None:
        """Make ready; raises ``BridgeError`` where it never can be."""

    async def deliver(self, message: Message[Any], context: Context) -> object:
        """Act on the message. Returns the answer (None for none) or an ``OutgoingRecord`` to be written as it is.

        Raises ``DeliveryError`` subclasses; anything else counts as ``handler_failed``.
        """

    async def stop(self) -> None:
        """Let go of connections. Idempotent."""
