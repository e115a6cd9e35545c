"""The Kafka transport: aiokafka's clients behind the bridge's Protocols. Only ``kafka*.py`` here import aiokafka."""

from __future__ import annotations

from collections.abc import Sequence

from broker_bridge.transport.base import PartitionsHook
from broker_bridge.transport.kafka_admin import KafkaAdmin
from broker_bridge.transport.kafka_consumer import KafkaConsumer
from broker_bridge.transport.kafka_producer import KafkaProducer
from broker_bridge.transport.kafka_reader import KafkaReader
from broker_bridge.transport.kafka_settings import KafkaSettings

__all__ = ["KafkaAdmin", "KafkaConsumer", "KafkaProducer", "KafkaReader", "KafkaSettings", "KafkaTransport"]


class KafkaTransport:
    """``Transport`` on Kafka. Raises ``UnsafeSettingsError`` or ``ConfigError`` for settings not to be used."""

    def __init__(self, settings: KafkaSettings) -> None:
        settings.refuse_unsafe()
        self._settings = settings

    def consumer(
        self,
        *,
        group: str,
        topics: Sequence[str],
        on_assigned: PartitionsHook | None = None,
        on_revoked: PartitionsHook | None = None,
        member: str | None = None,
    ) -> KafkaConsumer:
        """See ``Transport.consumer``."""
        return KafkaConsumer(
            self._settings, group=group, topics=topics, on_assigned=on_assigned, on_revoked=on_revoked, member=member
        )

    def producer(self, *, delivery_timeout_ms: int = 30_000) -> KafkaProducer:
        """See ``Transport.producer``."""
        return KafkaProducer(self._settings, delivery_timeout_ms=delivery_timeout_ms)

    def reader(self) -> KafkaReader:
        """See ``Transport.reader``."""
        return KafkaReader(self._settings)

    def admin(self) -> KafkaAdmin:
        """See ``Transport.admin``."""
        return KafkaAdmin(self._settings)
