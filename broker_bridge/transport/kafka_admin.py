"""Topics of a real cluster, through aiokafka's admin client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest

from broker_bridge.errors import TransportError
from broker_bridge.transport.base import TopicSpec
from broker_bridge.transport.kafka_errors import mapped, translated
from broker_bridge.transport.kafka_settings import KafkaSettings

_APPEAR_S = 10.0
"""How long a created topic may take to appear in every answer."""


class KafkaAdmin:
    """``TopicAdmin`` on Kafka. Asks for all topics rather than for named ones: naming a topic may create it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaAdminClient | None = None

    async def start(self) -> None:
        """See ``TopicAdmin.start``. Raises ``TransportError`` where no broker answers."""
        client = AIOKafkaAdminClient(**self._settings.connection_options())
        with translated(self._settings.bootstrap):
            try:
                await client.start()
            except BaseException:
                await client.close()
                raise
        self._client = client

    async def stop(self) -> None:
        """See ``TopicAdmin.stop``."""
        client, self._client = self._client, None
        if client is not None:
            with translated(self._settings.bootstrap):
                await client.close()

    async def ensure(self, topics: Sequence[TopicSpec]) -> list[str]:
        """See ``TopicAdmin.ensure``."""
        missing = await self._checked_missing(topics)
        if not missing:
            return []
        wanted = [
            NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=dict(spec.settings))
            for spec in missing
        ]
        with translated(self._settings.bootstrap):
            response = await self._started().create_topics(wanted)
        created: list[str] = []
        for name, code, *message in response.topic_errors:
            kind = kafka.for_code(code)
            if kind is kafka.NoError:
                created.append(name)
            elif kind is not kafka.TopicAlreadyExistsError:  # somebody else was quicker: checked below
                raise mapped(kind(message[0] if message and message[0] else name), where=name)
        await self._wait_until_seen({spec.name for spec in topics})
        return created

    async def describe(self, topics: Sequence[str]) -> dict[str, int | None]:
        """See ``TopicAdmin.describe``."""
        known = await self._known()
        return {topic: len(known[topic]["partitions"]) if topic in known else None for topic in topics}

    async def topics(self) -> list[str]:
        """See ``TopicAdmin.topics``."""
        return sorted(name for name, topic in (await self._known()).items() if not topic["is_internal"])

    async def broker_count(self) -> int:
        """See ``TopicAdmin.broker_count``."""
        return len(await self._brokers())

    async def settings(self, topic: str) -> Mapping[str, str]:
        """See ``TopicAdmin.settings``."""
        return (await self._settings_of([topic]))[topic]

    async def unsafe_settings(self, topics: Sequence[str]) -> list[str]:
        """See ``TopicAdmin.unsafe_settings``: enough replicas must have a record before it is acknowledged."""
        known = await self._known()
        present = [topic for topic in topics if topic in known]
        settings = await self._settings_of(present) if present else {}
        found: list[str] = []
        for topic in present:
            replicas = min(len(partition["replicas"]) for partition in known[topic]["partitions"])
            needed = int(settings[topic].get("min.insync.replicas") or 1)
            if replicas >= 3 and needed < 2:
                found.append(
                    f"{topic}: min.insync.replicas is {needed} with {replicas} replicas; an acknowledged record may "
                    "be on one broker alone and be lost with it (set it to 2)"
                )
            if replicas > 1 and settings[topic].get("unclean.leader.election.enable") == "true":
                found.append(f"{topic}: unclean.leader.election.enable lets a broker without the last records lead")
        return found

    async def _checked_missing(self, topics: Sequence[TopicSpec]) -> list[TopicSpec]:
        found = await self.describe([spec.name for spec in topics])
        for spec in topics:
            count = found[spec.name]
            if count is not None and count < spec.partitions:
                raise TransportError(
                    f"the topic has {count} partitions, {spec.partitions} are needed",
                    where=spec.name,
                    remedy="add partitions on purpose: keys then move to other partitions",
                )
        return [spec for spec in topics if found[spec.name] is None]

    async def _wait_until_seen(self, topics: set[str]) -> None:
        """Until every broker that answers knows them: the next client may ask any."""
        try:
            async with asyncio.timeout(_APPEAR_S):
                for node_id in await self._brokers():
                    while not await self._knows(node_id, topics):  # noqa: ASYNC110 - the event is on the broker
                        await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise TransportError(f"created topics did not appear within {_APPEAR_S:.0f} s") from error

    async def _brokers(self) -> list[int]:
        with translated(self._settings.bootstrap):
            cluster = await self._started().describe_cluster()
        return [broker["node_id"] for broker in cluster["brokers"]]

    async def _knows(self, node_id: int, topics: set[str]) -> bool:
        try:
            answer = await self._started()._send_request(MetadataRequest(None), node_id)
        except kafka.KafkaError:
            return True  # it does not answer, so nobody will ask it either
        return topics <= {topic["topic"] for topic in answer.to_object()["topics"] if topic["error_code"] == 0}

    async def _known(self) -> dict[str, dict[str, Any]]:
        with translated(self._settings.bootstrap):
            described = await self._started().describe_topics(None)
        return {topic["topic"]: topic for topic in described if topic["error_code"] == 0}

    async def _settings_of(self, topics: Sequence[str]) -> Mapping[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        with translated(self._settings.bootstrap):
            responses = await self._started().describe_configs(resources)
        found: dict[str, dict[str, str]] = {}
        for response in responses:
            for code, message, _, name, entries in response.resources:
                if code:
                    raise mapped(kafka.for_code(code)(message), where=name)
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    def _started(self) -> AIOKafkaAdminClient:
        if self._client is None:
            raise TransportError("the admin client is not started, or was stopped", remedy="call start() first")
        return self._client
