"""One aiokafka producer, and two ways to part from it: retire (finish what runs), abandon (nothing more leaves)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.producer.message_accumulator import BatchBuilder

from broker_bridge.message import TopicPartition
from broker_bridge.transport.kafka_settings import KafkaSettings

_APPEAR_TRIES = 3
_APPEAR_WAIT_S = 0.1
"""A topic just created may not be known to every broker yet."""
_KILL_S = 2.0


class ProducerSession:
    """A started aiokafka producer, counted uses, and the futures that wait on it."""

    def __init__(self, client: AIOKafkaProducer, *, close_timeout_ms: int) -> None:
        self.client = client
        self.retired = False
        self.dead = False
        self._close_timeout_ms = close_timeout_ms
        self._uses = 0
        self._closing: asyncio.Task[None] | None = None
        self._futures: set[asyncio.Future[Any]] = set()

    @classmethod
    async def opened(cls, settings: KafkaSettings, delivery_timeout_ms: int) -> Self:
        """Connect and get a producer id. The caller sets a deadline around it."""
        options = settings.connection_options()
        # A request on a dead connection must fail early enough for a second try within the delivery deadline.
        options["request_timeout_ms"] = min(settings.request_timeout_ms, max(2_000, delivery_timeout_ms // 3))
        client = AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            compression_type=None if settings.compression == "none" else settings.compression,
            linger_ms=settings.linger_ms,
            max_batch_size=settings.max_request_bytes,
            max_request_size=settings.max_request_bytes,
        )
        session = cls(client, close_timeout_ms=delivery_timeout_ms)
        try:
            await client.start()
        except BaseException:
            session.abandon()
            await session.gone()
            raise
        return session

    async def partition_counts(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Partition counts of those topics that exist. Never asks for a topic by name before it is known to exist:
        that could create it. Looks again at those that are known to have fewer partitions than ``wanted``: some may
        have been added, and aiokafka by itself looks every five minutes."""
        cluster = self.client.client.cluster
        found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in wanted}
        if any(0 < found[topic] < count for topic, count in wanted.items()):
            await self.client.client.force_metadata_update()
            found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in wanted}
        unknown = {topic for topic, count in found.items() if not count}
        for attempt in range(_APPEAR_TRIES if unknown else 0):
            existing = (await self.client.client.fetch_all_metadata()).topics()
            for topic in unknown & existing:
                found[topic] = len(await self.client.partitions_for(topic))
            unknown -= existing
            if not unknown or attempt == _APPEAR_TRIES - 1:
                break
            await asyncio.sleep(_APPEAR_WAIT_S)
        return {topic: count for topic, count in found.items() if count}

    async def submit(self, builder: BatchBuilder, tp: TopicPartition) -> asyncio.Future[Any]:
        """Hand over a batch; the future has aiokafka's metadata of it, or is cancelled by ``abandon``.

        Waits while another call's batch for the partition is queued, for as long as the caller's deadline allows.
        """
        future: asyncio.Future[Any] | None = None
        while future is None:
            with suppress(kafka.KafkaTimeoutError):  # aiokafka's own limit on that wait
                future = await self.client.send_batch(builder, tp.topic, partition=tp.partition)
        self._futures.add(future)
        future.add_done_callback(self._answered)
        return future

    @contextmanager
    def used(self) -> Iterator[None]:
        """While inside, retiring does not close the producer."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            self._close_if_unused()

    def retire(self) -> None:
        """Take no new calls; close once nobody uses it any more."""
        self.retired = True
        self._close_if_unused()

    @property
    def is_gone(self) -> bool:
        """Its connections are closed."""
        return self._closing is not None and self._closing.done()

    async def gone(self) -> None:
        """Return when a session that was retired or abandoned has closed its connections."""
        if self._closing is not None:
            await asyncio.wait({self._closing})

    def abandon(self) -> None:
        """Stop at once: the sender is cancelled, so no retry leaves any more, and the connections are cut.

        Whoever waits for an acknowledgement sees its future cancelled. aiokafka's own ``stop`` would first flush.
        """
        if self.dead:
            return
        self._closing = asyncio.ensure_future(self._kill(self._stop_sending()))

    async def close(self, *, timeout_ms: int) -> None:
        """Flush, at most this long, and disconnect."""
        if self.dead:
            return
        self.retired = True
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                with suppress(kafka.KafkaError, OSError):
                    await self.client.stop()
                self.dead = True
        except TimeoutError:
            await self._kill(self._stop_sending())

    def _stop_sending(self) -> asyncio.Task[None] | None:
        """From here on nothing is retried. Returns the sender, which is about to end."""
        self.retired = self.dead = True
        for future in self._futures:
            future.cancel()
        sender: asyncio.Task[None] | None = self.client._sender.sender_task
        if sender is not None:
            sender.cancel()
        self.client._closed = True
        return sender

    async def _kill(self, sender: asyncio.Task[None] | None) -> None:
        """A cancelled sender still waits for its requests in flight: cutting the connections ends those, and a second
        cancel the rest."""
        with suppress(Exception):
            await self.client.client.close()
        if sender is not None:
            await asyncio.wait({sender}, timeout=_KILL_S)
            sender.cancel()
            await asyncio.wait({sender}, timeout=_KILL_S)
        with suppress(Exception):
            await self.client.client.close()  # what a last retry may have opened

    def _answered(self, future: asyncio.Future[Any]) -> None:
        self._futures.discard(future)
        if not future.cancelled():
            future.exception()  # looked at, also where the caller was cancelled and nobody else will

    def _close_if_unused(self) -> None:
        if self.retired and self._uses == 0 and self._closing is None:
            self._closing = asyncio.ensure_future(self.close(timeout_ms=self._close_timeout_ms))
