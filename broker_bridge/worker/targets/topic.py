"""Another topic as a target: the record goes on as it is."""

from __future__ import annotations

from typing import Any

from broker_bridge.config.route import TopicTarget
from broker_bridge.consumer import Context
from broker_bridge.message import Message, OutgoingRecord
from broker_bridge.worker.targets.base import Form


class TopicForwardTarget:
    """Forwards key, value and headers; the worker's own send acknowledges it before the claim is settled."""

    form: Form = "bytes"
    of_values: None = None

    def __init__(self, config: TopicTarget) -> None:
        self._topic = config.topic
        self._same_partition = config.partitions == "same"

    async def start(self) -> None:
        """Nothing to do."""

    async def deliver(self, message: Message[Any], context: Context) -> object:
        """The record to write."""
        return OutgoingRecord(
            topic=self._topic,
            key=message.key,
            value=message.value,
            headers=message.headers,
            partition=message.origin.partition if self._same_partition else None,
            timestamp_ms=message.timestamp_ms,
        )

    async def stop(self) -> None:
        """Nothing to do."""
