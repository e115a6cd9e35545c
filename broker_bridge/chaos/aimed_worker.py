"""The worker's side of an aimed kill: its Kafka, Redis and target, watched, and SIGKILL from within at the moment.

What is watched are the calls that the engine makes, so the engine itself is the one that ships. A worker dies where no
*other* message stands between its start and its settlement, so that what repeats afterwards can be laid to the moment
and to nothing else. On a machine so busy that this does not come, it dies after a while all the same, and what stood
there is in what it leaves behind.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from broker_bridge import headers as h
from broker_bridge.bootstrap import WORKER_REQUEST_BYTES, open_store, open_transport
from broker_bridge.chaos.evidence import now_ms
from broker_bridge.chaos.moments import MOMENT_VARIABLE, Crossroads, Moment, Strike, in_hex
from broker_bridge.config import BridgeConfig, RouteConfig
from broker_bridge.consumer import Context
from broker_bridge.core.claim import ClaimAnswer, ClaimRequest, ClaimStatus, SettleKind, Settlement, SettleStatus
from broker_bridge.core.identity import claim_key
from broker_bridge.errors import TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Message, OutgoingRecord, Position, TopicPartition
from broker_bridge.transport.base import BatchProducer, GroupConsumer, PartitionsHook, Transport
from broker_bridge.worker.targets.base import Target

PATIENCE_MS = 15_000


class Trigger:
    """Knows which messages are begun, counts how often the moment came, and kills."""

    def __init__(self, crossroads: Crossroads, route: RouteConfig) -> None:
        self._crossroads = crossroads
        self.route = route
        self._count = 0
        self._due_ms = math.inf
        self.begun: set[bytes] = set()
        self.ended: set[bytes] = set()
        """Of those begun, those whose call ended well."""
        self.draining = False

    def key_of(self, idempotency_key: str) -> bytes:
        """The claim key of a message."""
        return claim_key(idempotency_key, namespace=self.route.topic)

    def settled(self, key: bytes) -> None:
        """Whatever became of the message, it is not in hand any more."""
        self.begun.discard(key)
        self.ended.discard(key)

    def aims_at(self, moment: Moment) -> bool:
        """Whether that is what was aimed at, and nobody has hit it yet."""
        aim = self._crossroads.aim()
        return aim is not None and aim.moment is moment

    def reached(self, moment: Moment, keys: set[bytes], *, untouched: Sequence[bytes] = ()) -> None:
        """The engine is at the moment, with these messages. Does not return where it is the wanted one."""
        aim = self._crossroads.aim()
        if aim is None or aim.moment is not moment:
            return
        self._count += 1
        if self._count < aim.occurrence:
            return
        self._due_ms = min(self._due_ms, now_ms())
        if self._is_pure(moment, keys) or now_ms() - self._due_ms > PATIENCE_MS:
            strike = Strike(
                moment=moment, worker=os.getpid(), at_ms=now_ms(),
                keys=in_hex(keys), untouched=in_hex(untouched), begun=in_hex(self.begun),
            )  # fmt: skip
            if self._crossroads.leave_word(strike):
                os.kill(os.getpid(), signal.SIGKILL)

    def _is_pure(self, moment: Moment, keys: set[bytes]) -> bool:
        """In a drain others may still run, but what had its effect is settled."""
        return not self.ended if moment is Moment.DURING_DRAIN else self.begun <= keys


class StandIn:
    """Stands between the engine and one of its parts. What it does not watch goes straight to the part."""

    def __init__(self, part: Any, trigger: Trigger) -> None:
        self._part = part
        self._trigger = trigger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class AimedTarget(StandIn):
    """The target, and the moment when a call of it has ended well."""

    of_values: None = None

    async def deliver(self, message: Message[Any], context: Context) -> object:
        """See ``Target.deliver``."""
        key = self._trigger.key_of(message.idempotency_key)
        self._trigger.begun.add(key)
        try:
            answer: object = await self._part.deliver(message, context)
        except Exception:
            self._trigger.settled(key)
            raise
        self._trigger.ended.add(key)
        self._trigger.reached(Moment.AFTER_EFFECT, {key})
        return answer


class AimedStore(StandIn):
    """The claim store, and the moments around its calls."""

    async def claim(self, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> list[ClaimAnswer]:
        """See ``IdempotencyStore.claim``."""
        self._trigger.reached(Moment.BEFORE_CLAIM, {request.key for request in requests})
        if len(requests) > 1 and self._trigger.aims_at(Moment.MID_CLAIM):
            half = len(requests) // 2
            answers = await self._part.claim(group, requests[:half], lease_ms=lease_ms)
            if granted := _granted(requests[:half], answers):
                untouched = [request.key for request in requests[half:]]
                self._trigger.reached(Moment.MID_CLAIM, granted, untouched=untouched)
            answers += await self._part.claim(group, requests[half:], lease_ms=lease_ms)
        else:
            answers = await self._part.claim(group, requests, lease_ms=lease_ms)
        if granted := _granted(requests, answers):
            self._trigger.reached(Moment.AFTER_CLAIM, granted)
        return list(answers)

    async def settle(self, group: str, settlements: Sequence[Settlement], *, ttl_ms: int) -> list[SettleStatus]:
        """See ``IdempotencyStore.settle``."""
        statuses: list[SettleStatus] = await self._part.settle(group, settlements, ttl_ms=ttl_ms)
        settled = {kind: set[bytes]() for kind in SettleKind}
        for settlement, status in zip(settlements, statuses, strict=True):
            self._trigger.settled(settlement.key)
            if status is SettleStatus.OK:
                settled[settlement.kind].add(settlement.key)
        if settled[SettleKind.COMPLETE]:
            self._trigger.reached(Moment.AFTER_COMPLETE, settled[SettleKind.COMPLETE])
        if self._trigger.draining and settled[SettleKind.RELEASE]:
            self._trigger.reached(Moment.DURING_DRAIN, settled[SettleKind.RELEASE])
        return statuses


def _granted(requests: Sequence[ClaimRequest], answers: Sequence[ClaimAnswer]) -> set[bytes]:
    both = zip(requests, answers, strict=True)
    return {request.key for request, answer in both if answer.status is ClaimStatus.GRANTED}


class AimedProducer(StandIn):
    """The producer, and the moments when copies and dead letters are acknowledged."""

    async def send_batch(self, records: Sequence[OutgoingRecord]) -> list[Position | TransportError]:
        """See ``BatchProducer.send_batch``."""
        answers: list[Position | TransportError] = await self._part.send_batch(records)
        there = [record for record, answer in zip(records, answers, strict=True) if isinstance(answer, Position)]
        route = self._trigger.route
        lanes = route.lane_names.retries(route.retry.lanes_ms)
        copies = {self._key_of(record) for record in there if record.topic in lanes and _was_tried(record)}
        letters = {self._key_of(record) for record in there if record.topic == route.lane_names.dead_letter}
        if copies:
            self._trigger.reached(Moment.AFTER_RETRY_ACK, copies)
        if letters:
            self._trigger.reached(Moment.AFTER_DEAD_LETTER_ACK, letters)
        return answers

    def _key_of(self, record: OutgoingRecord) -> bytes:
        origin = h.parse_position(h.text_of(record.headers, h.ORIGIN) or "")
        assert origin is not None, record.topic
        return self._trigger.key_of(h.idempotency_key(record.headers, origin))


def _was_tried(record: OutgoingRecord) -> bool:
    return not any(h.text_of(record.headers, name) for name in (h.PARKED, h.HELD))


class AimedConsumer(StandIn):
    """The consumer, and the moment when what is given up has ended and is to be committed."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See ``GroupConsumer.commit``."""
        if self._trigger.draining:
            self._trigger.reached(Moment.DURING_DRAIN, set())
        await self._part.commit(offsets)


class AimedTransport(StandIn):
    """The transport, whose consumers and producers are watched."""

    def consumer(self, *, on_revoked: PartitionsHook, **options: Any) -> GroupConsumer:
        """See ``Transport.consumer``."""

        async def given_up(partitions: frozenset[TopicPartition]) -> None:
            self._trigger.draining = True
            try:
                await on_revoked(partitions)
            finally:
                self._trigger.draining = False

        made = self._part.consumer(on_revoked=given_up, **options)
        return cast(GroupConsumer, AimedConsumer(made, self._trigger))

    def producer(self, *, delivery_timeout_ms: int) -> BatchProducer:
        """See ``Transport.producer``."""
        made = self._part.producer(delivery_timeout_ms=delivery_timeout_ms)
        return cast(BatchProducer, AimedProducer(made, self._trigger))


class AimedParts:
    """What a worker of one route is made of where it may be aimed at."""

    def __init__(self, config: BridgeConfig, folder: Path) -> None:
        (route,) = config.routes
        self._trigger = Trigger(Crossroads(folder), route)
        transport = open_transport(config, max_request_bytes=WORKER_REQUEST_BYTES)
        self.transport = cast(Transport, AimedTransport(transport, self._trigger))
        self.store = cast(IdempotencyStore, AimedStore(open_store(config), self._trigger))

    def target(self, target: Target) -> Target:
        """Put the watch around a target."""
        return cast(Target, AimedTarget(target, self._trigger))


def aimed_parts(config: BridgeConfig) -> AimedParts | None:
    """The parts, where this process was told that it may be aimed at."""
    folder = os.environ.get(MOMENT_VARIABLE)
    return AimedParts(config, Path(folder)) if folder else None
