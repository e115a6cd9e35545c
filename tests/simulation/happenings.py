"""What happens in a shop: orders, replays, and all that goes wrong. One method for each step of a plan."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from weather import Weather
from worlds import FATES, Plan

from broker_bridge.config import RouteConfig
from broker_bridge.core.dead_letter import read_dead_letter, write_redrive
from broker_bridge.errors import DeliveryTimeoutError, TransportError
from broker_bridge.headers import CE_ID, text_of
from broker_bridge.idempotency.memory import Failure
from broker_bridge.message import Record
from broker_bridge.testing import InMemoryBridge, LoopClock
from broker_bridge.testing.history import History, RecordingLog, RecordingStore
from broker_bridge.testing.in_memory import RunningWorker
from broker_bridge.testing.invariants import Checker
from broker_bridge.testing.virtual_time import VirtualTimeLoop

TOPIC, GROUP, ORDER = "orders.placed", "payments", "shop.OrderPlaced"
MOST_WORKERS = 3


class SkewedClock(LoopClock):
    """The wall clock of one worker. Leases are measured by the loop's own time, which nobody moves."""

    offset_ms = 0

    def now_ms(self) -> int:
        """Wrong by ``offset_ms``."""
        return super().now_ms() + self.offset_ms


class Happenings:
    """The steps; ``ShopWorld`` has the world they happen in. Each is given a source of chance of its own."""

    plan: Plan
    route: RouteConfig
    clock: LoopClock
    world: InMemoryBridge
    log: RecordingLog
    store: RecordingStore
    weather: Weather
    history: History
    checker: Checker
    orders: list[dict[str, Any]]
    mended: set[str]
    pending: set[asyncio.Task[None]]
    died: list[str]
    clocks: dict[str, SkewedClock]
    everyone: list[RunningWorker]
    serial: int
    calm: bool
    flushed: bool

    def gone(self, name: str, error: BaseException) -> None:
        """A worker ended by itself."""
        raise NotImplementedError

    # -- what is ordered

    async def _order(self, rng: random.Random) -> None:
        fates = {**FATES, **self.plan.kind.fates}
        for number in range(rng.randint(1, 5)):
            fate = rng.choices(list(fates), list(fates.values()))[0]
            await self._place(rng, f"{rng.getrandbits(20):05x}{number}", f"{fate} {rng.randint(1, 3)}")

    async def _place(self, rng: random.Random, name: str, note: str) -> None:
        self.orders.append(
            {
                "order_id": f"o-{name}",
                "customer_id": f"c{rng.randint(1, 5)}",
                "amount_cents": rng.randint(1, 9_999),
                "currency": "EUR",
                "placed_at": 1_790_000_000_000,
                "note": note,
                "lines": [],
                "channel": "web",
            }
        )
        await self._send(self.orders[-1])

    async def _order_again(self, rng: random.Random) -> None:
        if self.orders:
            await self._send(rng.choice(self.orders[-8:]))

    async def _order_changed(self, rng: random.Random) -> None:
        """Another payload under an id that was used before."""
        if self.orders:
            await self._send({**rng.choice(self.orders[-8:]), "amount_cents": 10_000 + rng.randint(1, 2)})

    async def _send(self, value: dict[str, Any]) -> None:
        try:
            await self.world.producer.send(
                TOPIC, value, key=value["customer_id"], contract=ORDER, event_id=value["order_id"]
            )
        except TransportError:
            return  # what is in the log is in the history

    async def _wait(self, rng: random.Random) -> None:
        await asyncio.sleep(rng.choice([0.005, 0.05, 0.3, 1.0, 3.5]))

    async def _redrive(self, rng: random.Random) -> None:
        """A replay of one dead letter; often the cause was mended before."""
        letters = self.log.records(self.route.lane_names.dead_letter)
        if letters and self.log.available:
            letter = rng.choice(letters[-10:])
            self._write_redrive(letter, f"r{rng.getrandbits(32):08x}")
            if rng.random() < 0.6:
                self.mended.add(text_of(letter.headers, CE_ID) or "")

    def _write_redrive(self, letter: Record, replay_id: str) -> None:
        topic, now_ms = self.route.lane_names.redrive, self.clock.now_ms()
        self.log.append(
            write_redrive(
                read_dead_letter(letter),
                topic=topic,
                replay_id=replay_id,
                now_ms=now_ms,
                order=self.plan.kind.replay_order,
            ),
            now_ms=now_ms,
        )
        self.log.changed()

    def _replay_what_holds(self) -> None:
        """Where dead letters hold their keys, nothing is quiet before each was replayed with success."""
        if not self.checker.terms.holds:
            return
        for letter in self.log.records(self.route.lane_names.dead_letter):
            item = self.checker.item_at[letter.position]
            replays = self.checker.replays[item]
            if item not in self.checker.completed and (not replays or replays[-1] < self.checker.letters[item]):
                self._write_redrive(letter, f"h{len(self.history.events)}")

    # -- what goes wrong

    async def _join(self, rng: random.Random) -> None:
        if self.log.available and self.store.available and len(self.world.workers) < MOST_WORKERS:
            self._start()

    def _start(self) -> None:
        self.serial += 1
        name = f"worker-{self.serial}"
        self.clocks[name] = SkewedClock()
        self.everyone.append(self.world.start_worker(name, clock=self.clocks[name]))

    async def _leave(self, rng: random.Random) -> None:
        if len(self.world.workers) > 1:
            running = self._any(rng)
            self._later(0.0, lambda: self._end(running.line.name, running.stop))

    async def _crash(self, rng: random.Random) -> None:
        if self.world.workers:
            self._kill(self._any(rng), lingers=rng.random() < 0.5)

    async def _crash_at_a_call(self, rng: random.Random) -> None:
        if self.world.workers:
            running = self._any(rng)
            running.line.lingers = rng.random() < 0.5
            self.weather.kill_at_call(running.line.name, rng.randint(1, 25), applied=rng.random() < 0.5)

    async def _crash_between_steps(self, rng: random.Random) -> None:
        if self.world.workers:
            running, lingers = self._any(rng), rng.random() < 0.5
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop.interrupt(rng.randint(1, 400), lambda: self.calm or self._kill(running, lingers=lingers))

    def _died_at_call(self, name: str) -> None:
        if name in self.world.workers:
            running = self.world.workers[name]
            self._kill(running, lingers=running.line.lingers)

    def _kill(self, running: RunningWorker, *, lingers: bool) -> None:
        """Where it lingers, the group goes on without it only when its session has run out."""
        if self.world.workers.get(running.line.name) is not running or running.task.done():
            return
        running.line.lingers = lingers
        running.line.cut_off()
        self.world.workers.pop(running.line.name)
        self.weather.resume(running.line.name)
        self._later(0.0, lambda: self._end(running.line.name, running.crash))
        if lingers:
            self._later(1.0, running.line.evict)

    async def _evict(self, rng: random.Random) -> None:
        if self.world.workers:
            self._later(0.0, self._any(rng).evict)

    async def _freeze(self, rng: random.Random) -> None:
        """Polls stop for longer than the session: the worker becomes a zombie that works on."""
        if self.world.workers:
            running = self._any(rng)
            running.line.polling.clear()
            self._later(rng.choice([0.5, 2.0]), running.evict)
            self._later(rng.choice([1.0, 4.0, 8.0]), running.line.polling.set)

    async def _pause(self, rng: random.Random) -> None:
        """Nothing of the worker reaches anybody for a while; for longer than its session it loses its partitions."""
        if self.world.workers:
            running, length_s = self._any(rng), rng.choice([0.3, 1.5, 4.0, 8.0])
            name = running.line.name
            self.weather.pause(name)
            if length_s > 2.0:
                self._later(2.0, running.evict)
            self._later(length_s, lambda: self.weather.resume(name))

    async def _store_away(self, rng: random.Random) -> None:
        length_s = rng.choice([0.3, 2.0, 5.0])
        if self.world.workers and rng.random() < 0.5:
            line = self._any(rng).line
            line.store_away = True
            self._later(length_s, lambda: setattr(line, "store_away", False))
        else:
            self.store.available = False
            self._later(length_s, lambda: setattr(self.store, "available", True))

    async def _store_trouble(self, rng: random.Random) -> None:
        self.store.fail_next(rng.randint(1, 3), how=rng.choice(list(Failure)))

    async def _flush(self, rng: random.Random) -> None:
        self.flushed |= self.store.answered
        self.store.forget_all()

    async def _failover(self, rng: random.Random) -> None:
        self.store.forget_latest(rng.choice([5, 50, 500]))

    async def _send_trouble(self, rng: random.Random) -> None:
        lanes = self.route.lane_names
        self._disturb(rng, rng.choice([lanes.dead_letter, *lanes.retries(self.route.retry.lanes_ms)]))

    async def _answer_trouble(self, rng: random.Random) -> None:
        assert self.route.output is not None
        self._disturb(rng, self.route.output.topic)

    def _disturb(self, rng: random.Random, topic: str) -> None:
        if rng.random() < 0.5:
            self.log.lose_next_acks(rng.randint(1, 3), topic=topic)
        else:
            self.log.fail_next_sends(rng.randint(1, 5), DeliveryTimeoutError("no answer"), topic=topic)

    async def _log_away(self, rng: random.Random) -> None:
        self.log.available = False
        self._later(rng.choice([0.3, 2.0]), lambda: setattr(self.log, "available", True))

    async def _trim(self, rng: random.Random) -> None:
        """Retention removes what was committed."""
        for tp, offset in self.log.committed.get(GROUP, {}).items():
            self.log.trim(tp, before=offset)

    async def _clock_jump(self, rng: random.Random) -> None:
        if self.clocks:
            clock = self.clocks[rng.choice(list(self.clocks))]
            clock.offset_ms = rng.choice([-3_600_000, -60_000, -700, 0, 700, 60_000, 3_600_000])

    # -- small things

    def _any(self, rng: random.Random) -> RunningWorker:
        """One of the workers, rather one that has a message in its handler."""
        workers = list(self.world.workers.values())
        busy = {one.worker for running in self.checker.running.values() for one in running}
        return rng.choice([one for one in workers if one.line.name in busy and rng.random() < 0.8] or workers)

    def _later(self, delay_s: float, do: Callable[[], Awaitable[None] | None]) -> None:
        async def wait_and_do() -> None:
            await asyncio.sleep(delay_s)
            done = do()
            if done is not None:
                await done

        task = asyncio.ensure_future(wait_and_do())
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    async def _end(self, name: str, end: Callable[[], Awaitable[None]]) -> None:
        try:
            await end()
        except Exception as error:  # noqa: BLE001 - a worker that dies is a finding, not the end of the run
            self.gone(name, error)
