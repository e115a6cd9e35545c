"""Telling a cancellation of ours from a ``CancelledError`` that somebody else's code let out.

asyncio takes any task that ends with ``CancelledError`` for cancelled and tells nobody: a slot or a stage that lets a
foreign one through is silently gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from broker_bridge.errors import BridgeError


def is_cancelled() -> bool:
    """Whether the running task was asked to end, also where the code it runs swallowed that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def endless(stage: Coroutine[Any, Any, None], name: str) -> None:
    """Run a stage that ends only when it is cancelled. Raises ``BridgeError`` where it ends in any other way."""
    try:
        await stage
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise BridgeError(f"the stage {name} was cancelled from inside") from error
    raise BridgeError(f"the stage {name} came to an end")
