"""Topics for tests that share one Kafka."""

from __future__ import annotations

import asyncio

from broker_bridge.errors import TransportError
from broker_bridge.transport.base import TopicSpec
from broker_bridge.transport.kafka import KafkaTransport

DEADLINE_S = 40.0


async def ensure(transport: KafkaTransport, spec: TopicSpec) -> None:
    """Make the topic. A broker that a test before held up may be out of its own metadata for a moment yet."""
    admin = transport.admin()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    await admin.start()
                    await admin.ensure([spec])
                    break
                except TransportError:
                    await admin.stop()
                    await asyncio.sleep(0.2)
    finally:
        await admin.stop()
