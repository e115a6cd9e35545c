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


async def endless(stage: Coroutine[Any, Any, None], name: str, *, ask_again_s: float) -> None:
    """Run a stage that ends only when it is cancelled. Raises ``BridgeError`` where it ends in any other way.

    Who is cancelled here asks the stage to end until it does, for a library may take the request for its own, and a
    stage that goes on then keeps a worker from ending::

        worker                     stage                    client library, closing a connection
        drains
        asks the stages to end ──────────────────────────▶  "my reader was cancelled, as I wished"
        waits for all of them      goes on, waits for work
    """
    running = asyncio.ensure_future(stage)
    try:
        await asyncio.wait((running,))
    except asyncio.CancelledError:
        while not running.done():
            running.cancel()
            await asyncio.wait((running,), timeout=ask_again_s)
        if not running.cancelled():
            running.result()  # what it has to say of its end
        raise
    if running.cancelled():
        raise BridgeError(f"the stage {name} was cancelled from inside")
    running.result()
    raise BridgeError(f"the stage {name} came to an end")
