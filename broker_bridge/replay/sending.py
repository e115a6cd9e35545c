"""Sending the items of one run: as they are admitted, in order, under the run's lease, the canary before the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from broker_bridge.clock import Clock
from broker_bridge.core.operation import Operation
from broker_bridge.core.replay_pace import PaceLimits, Phase, ReplayPace
from broker_bridge.core.replay_state import Heading
from broker_bridge.errors import BridgeError, ReplayError, TransportError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import OutgoingRecord
from broker_bridge.replay.lane_watch import LaneWatch, TargetIsAway
from broker_bridge.replay.letters_back import LettersBack
from broker_bridge.replay.pause_orders import PauseOrders
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.run_gate import RunGate
from broker_bridge.replay.run_items import Found, RunItems
from broker_bridge.replay.run_lease import RunLease, Waiting
from broker_bridge.replay.run_record import RunRecorder
from broker_bridge.replay.run_report import Progress, RunEnd, RunReport
from broker_bridge.transport.base import BatchProducer, LogReader

LOOK_AGAIN_MS: Final = 5_000
"""Claims that were looked up longer ago are looked up again before their items are sent."""


@dataclass(slots=True, frozen=True)
class RunHooks:
    """What a run tells, and is told by. ``stop`` ends it after the records in flight; ``orders`` pause it; ``recorder``
    writes down its start, pauses and end; ``waiting`` is told of the lease of an earlier run."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress | None = None
    recorder: RunRecorder | None = None
    orders: PauseOrders | None = None
    target_is_away: TargetIsAway | None = None
    waiting: Waiting | None = None


@dataclass(slots=True, frozen=True)
class Clients:
    """What a run works with, started."""

    reader: LogReader
    producer: BatchProducer
    store: IdempotencyStore
    clock: Clock


class Sending:
    """Sends what ``items`` says is to be sent, and keeps ``report``."""

    def __init__(
        self,
        plan: Plan,
        items: RunItems,
        back: LettersBack,
        report: RunReport,
        *,
        limits: PaceLimits,
        hooks: RunHooks,
        lease: RunLease,
        clients: Clients,
        batch: int,
    ) -> None:
        self._plan = plan
        self._items = items
        self._back = back
        self._report = report
        self._hooks = hooks
        self._lease = lease
        self._producer = clients.producer
        self._clock = clock = clients.clock
        limits = replace(limits, canary=report.canary)
        self._pace = ReplayPace(limits, burst=batch, now_ms=clock.now_ms())
        self._watch = LaneWatch(
            plan,
            limits,
            reader=clients.reader,
            store=clients.store,
            clock=clock,
            target_is_away=hooks.target_is_away,
        )
        self._gate = RunGate(
            self._pace,
            self._watch,
            clock=clock,
            stop=hooks.stop,
            orders=hooks.orders,
            on_pause=self._paused,
            told=self._tell,
        )
        self._batch = batch
        self._on_their_way: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Send until all is sent or the run is over, and say in the report which it was."""
        await self._watch.start()
        try:
            async with aclosing(self._items.to_send()) as batches:
                async for found in batches:
                    if not await self._send_found(found):
                        self._report.end = RunEnd.of(self._pace.phase)
                        break
                await self._landed()
        except asyncio.CancelledError:
            if self._on_their_way is not None:
                self._on_their_way.cancel()
                await asyncio.wait({self._on_their_way})
            raise
        except BridgeError:
            with contextlib.suppress(BridgeError):  # what went wrong first is what counts
                await self._landed()
            raise
        self._tell()

    async def _send_found(self, found: Found) -> bool:
        for part in self._parts(found):
            is_canary = part[0][0].number < self._report.canary
            if not is_canary and self._pace.phase is Phase.CANARY:
                self._watch.watch(self._items.sent_early)
                self._pace.canary_is_sent(now_ms=self._clock.now_ms())
            if not await self._send_part(part):
                return False
            if is_canary:
                await self._landed()
                self._watch.watch(numbered.item for numbered, _ in part)
        return True

    def _parts(self, found: Found) -> Iterator[Found]:
        """At most a batch at a time, the canary's items apart."""
        canary = sum(numbered.number < self._report.canary for numbered, _ in found)
        for items in (found[:canary], found[canary:]):
            for start in range(0, len(items), self._batch):
                yield items[start : start + self._batch]

    async def _send_part(self, left: Found) -> bool:
        """Send these as they are admitted. False where the run is over before the last of them.

        What is sent next is made while what was sent last is on its way, and goes only after that was acknowledged:
        what Kafka refuses is never behind something later.
        """
        while left:
            amount = await self._gate.admit(len(left))
            if not amount:
                return False
            if self._items.looked_ms_ago(left[0][0].number) > LOOK_AGAIN_MS:
                left = await self._items.look_again(left)
            now_ms, back = self._clock.now_ms(), self._back
            records = [back.record(numbered, letter, now_ms=now_ms) for numbered, letter in left[:amount]]
            await self._landed()
            if self._hooks.stop.is_set():
                return False
            await self._lease.check()
            self._on_their_way = asyncio.create_task(self._deliver(records))
            left = left[amount:]
        return True

    async def _landed(self) -> None:
        """Wait for what is on its way. Raises ``ReplayError`` where Kafka did not acknowledge all of it."""
        on_their_way, self._on_their_way = self._on_their_way, None
        if on_their_way is not None:
            await on_their_way

    async def _deliver(self, records: list[OutgoingRecord]) -> None:
        if not records:
            return
        answers = await self._producer.send_batch(records)
        failures = [answer for answer in answers if isinstance(answer, TransportError)]
        report = self._report
        report.sent += len(answers) - len(failures)
        report.headings[Heading.TO_SEND] += len(answers) - len(failures)
        if failures:
            raise ReplayError(
                f"Kafka did not acknowledge {len(failures)} of {len(answers)} records ({failures[0].detail}); "
                f"{report.sent} were sent in this run",
                where=self._plan.header.destination,
                remedy="run the same plan again: it goes on where this run ended",
            ) from failures[0]
        self._tell()

    async def _paused(self, order: Operation) -> None:
        if self._hooks.recorder is not None:
            await self._hooks.recorder.paused(sent=self._report.sent, order=order)

    def _tell(self) -> None:
        self._report.waits_for, self._report.died = self._gate.reason, self._pace.view.died
        if self._hooks.progress is not None:
            self._hooks.progress(self._report)
