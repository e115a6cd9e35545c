"""Waiting until the group is done: nothing left in the source topic and in its lanes after what it has committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from broker_bridge.bootstrap import open_transport
from broker_bridge.config import load_config
from broker_bridge.errors import BridgeError
from broker_bridge.transport.base import LogReader
from demo.child import ChildError

POLL_S = 0.25


async def wait_until_drained(
    config_path: Path, *, timeout_s: float, tick: Callable[[int], None], alive: Callable[[], None]
) -> None:
    """Until the group has no lag. ``tick`` gets the lag at each look; ``alive`` raises when nobody works on it.

    Raises ``ChildError`` after ``timeout_s`` seconds.
    """
    config = load_config(config_path, {})
    (route,) = config.routes
    topics = [route.topic, *route.lane_names.read(route.retry.lanes_ms)]
    reader = open_transport(config).reader()
    await reader.start()
    try:
        deadline = time.monotonic() + timeout_s
        while (left := await lag(reader, route.group, topics)) > 0:
            alive()
            tick(left)
            if time.monotonic() > deadline:
                raise ChildError(f"not drained after {timeout_s:g} s: {left:,} records left of {', '.join(topics)}")
            await asyncio.sleep(POLL_S)
        tick(0)
    finally:
        await reader.stop()


async def lag(reader: LogReader, group: str, topics: Sequence[str]) -> int:
    """Records of these topics that the group has not committed."""
    try:
        # Offsets before ends: a message that moves from one topic to a lane meanwhile is then counted, not missed.
        committed = await reader.group_offsets(group, topics)
        ends = await reader.offsets(topics)
    except BridgeError as error:
        raise ChildError(f"Kafka does not tell how far the group is: {error}") from error
    return sum(end - (committed.get(tp) or first) for tp, (first, end) in ends.items())
