"""Running a plan: look first, then send, and never twice what was sent before.

What protects a replay that is killed, repeated, or run in two places at once:

* the redrive lane tells a later run what was sent (``redrive_lane``);
* a copy that was sent twice all the same (two runs at once, an acknowledgement lost on the way) meets the claim of its
  key: the claim knows the replay's id, and grants it once (I7, I17)::

      run A   copy 1 acked ─────────────► worker: DEAD + new replay id → granted → COMPLETED
      run B        copy 2 acked ────────────────────────────► worker: COMPLETED → dropped
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from broker_bridge.clock import Clock
from broker_bridge.core.dead_letter import DeadLetter, read_dead_letter, write_redrive
from broker_bridge.core.identity import replay_tag
from broker_bridge.core.replay_plan import PlanItem, difference
from broker_bridge.core.replay_state import Heading, before_sending
from broker_bridge.core.token_bucket import TokenBucket
from broker_bridge.errors import PlanRefusedError, ReplayError, TopicMissingError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import Sent, sent_by
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import BatchProducer, LogReader

BATCH = 500


@dataclass(slots=True)
class RunReport:
    """How far a run is. ``headings`` counts items looked at, ``sent`` those that Kafka acknowledged in this run."""

    plan_id: str
    items: int
    sent: int = 0
    was_stopped: bool = False
    headings: Counter[Heading] = field(default_factory=Counter)

    @property
    def looked_at(self) -> int:
        """Items decided on so far."""
        return self.headings.total()


Progress = Callable[[RunReport], None]


class ReplayRunner:
    """Runs plans of one route. ``reader``, ``store`` and (for ``send``) ``producer`` are started by the caller."""

    def __init__(
        self,
        *,
        reader: LogReader,
        producer: BatchProducer,
        store: IdempotencyStore,
        route: ReplayRoute,
        clock: Clock,
        batch: int = BATCH,
    ) -> None:
        self._reader = reader
        self._producer = producer
        self._store = store
        self._route = route
        self._clock = clock
        self._batch = batch

    async def preview(self, plan: Plan) -> RunReport:
        """Look at every item as things are now and count what ``send`` would do; nothing is written.

        Raises ``PlanRefusedError`` where the plan is another route's, a topic is gone, or a letter that would be sent
        is no longer what the plan says.
        """
        self._check_route(plan)
        await self._check_topics()
        sent = await sent_by(plan, self._reader)
        report = RunReport(plan.id, plan.end.items)
        for items in _chunks(plan.items(), self._batch):
            to_send = await self._to_send(items, plan, sent, report)
            await self._letters(to_send)
        return report

    async def send(
        self, plan: Plan, *, rate_per_s: float, stop: asyncio.Event | None = None, progress: Progress | None = None
    ) -> RunReport:
        """Check all as ``preview`` does, then send what is left to be sent, ``rate_per_s`` at most.

        Returns early, after the batch in flight, once ``stop`` is set. Raises ``ReplayError`` where Kafka did not
        acknowledge; whatever happens, running the same plan again goes on where this run ended.
        """
        await self.preview(plan)
        sent = await sent_by(plan, self._reader)
        stop = stop or asyncio.Event()
        burst = max(1, min(self._batch, int(rate_per_s)))
        bucket = TokenBucket(rate_per_s=rate_per_s, burst=burst, now_ms=self._clock.now_ms())
        report = RunReport(plan.id, plan.end.items)
        for items in _chunks(plan.items(), burst):
            to_send = await self._to_send(items, plan, sent, report)
            if to_send:
                await self._wait_for(bucket, len(to_send), stop)
            if stop.is_set():
                report.headings[Heading.TO_SEND] -= len(to_send)
                report.was_stopped = True
                break
            await self._send(await self._letters(to_send), plan, report)
            if progress is not None:
                progress(report)
        return report

    # -- before anything is sent

    def _check_route(self, plan: Plan) -> None:
        header, route = plan.header, self._route
        for what, planned, ours in (
            ("group", header.group, route.group),
            ("source topic", header.topic, route.topic),
            ("dead-letter topic", header.dead_letter_topic, route.dead_letter_topic),
            ("destination", header.destination, route.redrive_topic),
        ):
            if planned != ours:
                raise PlanRefusedError(
                    f"the plan's {what} is {planned!r}, route {route.name!r} has {ours!r}; "
                    "a replay goes to the group's own redrive lane and nowhere else",
                    where=str(plan.path),
                    remedy=f"run it with the configuration it was made with (route {header.route!r})",
                )

    async def _check_topics(self) -> None:
        route = self._route
        try:
            offsets = await self._reader.offsets([route.topic, route.dead_letter_topic, route.redrive_topic])
        except TopicMissingError as error:
            raise PlanRefusedError(f"a topic of the plan is gone: {error.detail}", where=error.where) from error
        count = Counter(tp.topic for tp in offsets)
        if count[route.redrive_topic] < count[route.dead_letter_topic]:
            raise PlanRefusedError("the redrive lane has too few partitions", where=route.redrive_topic)

    async def _to_send(self, items: list[PlanItem], plan: Plan, sent: Sent, report: RunReport) -> list[PlanItem]:
        claims = await self._store.inspect(self._route.group, [bytes.fromhex(item.claim) for item in items])
        tag = replay_tag(plan.id)
        chosen: list[PlanItem] = []
        for item, claim in zip(items, claims, strict=True):
            heading = before_sending(
                item,
                claim,
                replay=tag,
                was_sent=(item.partition, item.offset) in sent,
                allow_expired=plan.header.allow_expired,
            )
            report.headings[heading] += 1
            if heading is Heading.TO_SEND:
                chosen.append(item)
        return chosen

    async def _letters(self, items: list[PlanItem]) -> list[DeadLetter]:
        """The letters of these items, each checked to be the very one that was planned."""
        topic = self._route.dead_letter_topic
        records = await self._reader.fetch([Position(topic, item.partition, item.offset) for item in items])
        letters: list[DeadLetter] = []
        for item, record in zip(items, records, strict=True):
            where = f"{topic}/{item.partition}/{item.offset}"
            if record is None:
                raise PlanRefusedError(
                    f"the dead letter of {item.origin(self._route.topic)} is gone from the log",
                    where=where,
                    remedy="retention removed it; make a new plan of what is left",
                )
            letter = read_dead_letter(record)
            if changed := difference(item, letter, namespace=self._route.topic):
                raise PlanRefusedError(
                    f"another record stands where the plan's was ({changed} differ)",
                    where=where,
                    remedy="the dead-letter topic was made anew; make a new plan",
                )
            letters.append(letter)
        return letters

    # -- sending

    async def _wait_for(self, bucket: TokenBucket, amount: int, stop: asyncio.Event) -> None:
        while not stop.is_set() and (wait_ms := bucket.take(amount, now_ms=self._clock.now_ms())) > 0:
            # At least what the clock can show: a shorter sleep would find the same time again.
            sleep = asyncio.ensure_future(self._clock.sleep_ms(max(1.0, wait_ms)))
            stopped = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait({sleep, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleep.cancel()
                stopped.cancel()

    async def _send(self, letters: list[DeadLetter], plan: Plan, report: RunReport) -> None:
        if not letters:
            return
        now_ms = self._clock.now_ms()
        records = [
            write_redrive(letter, topic=self._route.redrive_topic, replay_id=plan.id, now_ms=now_ms)
            for letter in letters
        ]
        answers = await self._producer.send_batch(records)
        failures = [answer for answer in answers if isinstance(answer, TransportError)]
        report.sent += len(answers) - len(failures)
        if failures:
            raise ReplayError(
                f"Kafka did not acknowledge {len(failures)} of {len(answers)} records ({failures[0].detail}); "
                f"{report.sent} were sent in this run",
                where=self._route.redrive_topic,
                remedy="run the same plan again: it goes on where this run ended",
            ) from failures[0]


def _chunks(items: Iterable[PlanItem], size: int) -> Iterator[list[PlanItem]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
