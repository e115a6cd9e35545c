"""Telling a cancellation of ours from a ``CancelledError`` that somebody else's code let out.

asyncio takes any task that ends with ``CancelledError`` for cancelled and tells nobody: a slot or a stage that lets a
foreign one through is silently gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
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


async def keep(stages: Sequence[asyncio.Task[None]], *, ask_again_s: float) -> None:
    """Wait for stages that do not end by themselves; when this is cancelled, or one of them ends, end all of them.
    Raises what they say of their end.

    They are asked until they have ended, for a library may take the request for its own, and a stage that goes on then
    keeps its worker from ending::

        worker                     stage                    client library, closing a connection
        drains
        asks the stages to end ──────────────────────────▶  "my reader was cancelled, as I wished"
        waits for all of them      goes on, waits for work
    """
    try:
        await asyncio.wait(stages, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = set(stages)
        while left:
            for stage in left:
                stage.cancel()
            _, left = await asyncio.wait(left, timeout=ask_again_s)
        for stage in stages:
            if not stage.cancelled():
                stage.result()
