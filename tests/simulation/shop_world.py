"""A shop under attack, run by a plan: what is ordered, what the handler does with it, who crashes, what fails."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from happenings import GROUP, ORDER, TOPIC, Happenings, SkewedClock
from weather import Weather
from worlds import Plan, Step, plan_of

from broker_bridge import Bridge, Context, Message, RejectedError, RetryLaterError
from broker_bridge.bootstrap import open_codec
from broker_bridge.config import BridgeConfig
from broker_bridge.contracts.codec import Codec
from broker_bridge.core.identity import claim_key
from broker_bridge.errors import StoreError, TargetUnavailableError, TransportError
from broker_bridge.message import Record
from broker_bridge.observability import names
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual
from broker_bridge.testing.history import Assigned, Effect, Ended, Fault, History, RecordingLog, RecordingStore, Started
from broker_bridge.testing.in_memory import RunningWorker
from broker_bridge.testing.invariants import Checker, Terms
from broker_bridge.testing.lifeline import WORKER

SCHEMAS = Path(__file__).parents[2] / "schemas"
QUIET_WITHIN_MS = 300_000


class ShopWorld(Happenings):
    """One run. ``world`` is the bridge in memory, ``history`` what happened, ``checker`` what it breaks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        config, codec = _prepared(json.dumps(plan.policies, sort_keys=True))
        self.clock = LoopClock()
        self.bridge = Bridge(config=config)
        self.bridge.handler(GROUP)(self._handle)
        self.route = config.routes[0]
        self.checker = Checker(self._terms())
        self.history = History(self.clock, self.checker.see)
        self.log = RecordingLog(self.history)
        self.store = RecordingStore(self.clock, self.history)
        self.weather = Weather(random.Random(plan.seed + 1), plan.latency, self._died_at_call)
        self.world = InMemoryBridge(
            self.bridge,
            partitions=plan.partitions,
            log=self.log,
            store=self.store,
            clock=self.clock,
            seed=plan.seed,
            history=self.history,
            interference=self.weather,
            codec=codec,
        )
        self.orders: list[dict[str, Any]] = []
        self.tries: Counter[str] = Counter()
        self.calm = False
        self.healthy = False
        self.mended: set[str] = set()
        self.pending: set[asyncio.Task[None]] = set()
        self.died: list[str] = []
        self.clocks: dict[str, SkewedClock] = {}
        self.everyone: list[RunningWorker] = []
        self.serial = 1
        self.flushed = False

    def _terms(self) -> Terms:
        route, lanes = self.route, self.route.lane_names
        retry = route.retry
        return Terms(
            topic=TOPIC,
            lanes=tuple(lanes.retries(retry.lanes_ms)),
            redrive=lanes.redrive,
            dead_letter=lanes.dead_letter,
            max_attempts=retry.in_place + len(retry.lanes_ms),
            in_place=retry.in_place,
            output=route.output.topic if route.output else None,
            ordered=route.order == "key",
            holds=route.dead_letter.on_dead == "hold",
            guarded=route.claims.on_redis_down == "block",
            true_clocks="clock jump" not in self.plan.kind.steps,
            remembers=route.claims.on_redis_down == "fallback",
            limited=self.plan.kind.name == "limit",
            version_of=_version_of if self.plan.kind.replay_order else None,
        )

    # -- the handler

    async def _handle(self, message: Message[dict[str, Any]], context: Context) -> dict[str, Any] | None:
        key = claim_key(message.idempotency_key, namespace=TOPIC)
        worker = WORKER.get()
        self._alive(worker)
        self.history.add(Started(worker, key, message.origin, context.token, context.attempt))
        spent = False
        try:
            await self._meet_fate(message.value["note"], message.value["order_id"])
            await self.weather.while_paused(worker)
            self._alive(worker)
            self.history.add(Effect(worker, key, message.origin, context.token))
            spent = True
        except (RetryLaterError, TargetUnavailableError):
            raise  # may be held without an attempt spent
        except Exception:
            spent = True
            raise
        finally:
            self.history.add(Ended(worker, key, context.token, spent))
        return _answer(message.value) if self.plan.kind.answers else None

    def _alive(self, worker: str) -> None:
        """The dead have no effects: what is left of a worker in this process is on its way out."""
        if worker in self.checker.dead_workers:
            raise asyncio.CancelledError

    async def _meet_fate(self, note: str, order_id: str) -> None:
        fate, number = note.split()
        self.tries[order_id] += 1
        early = self.tries[order_id] <= int(number)
        await asyncio.sleep((self.plan.kind.slow_s if fate == "slow" else 0.01) * (int(number) + 1) / 3)
        if self.healthy or order_id in self.mended:
            return
        if fate == "poison" or (fate == "transient" and early):
            raise ValueError(fate)
        if fate == "refused":
            raise RejectedError(fate)
        if fate == "busy" and early:
            raise RetryLaterError(fate, retry_after_ms=100)
        if fate == "away" and early:
            raise TargetUnavailableError(fate)

    # -- the run

    async def run(self) -> list[str]:
        """Play, heal, wait for quiet, and judge. Ends with the first violation."""
        async with self.world:
            self.everyone += self.world.workers.values()
            for step in self.plan.steps:
                await self._take(step)
                self._bury()
                if self.found:
                    return self.found
            await self._heal()
            await self._wait_for_quiet()
            for running in list(self.world.workers.values()):
                await self._end(running.line.name, running.stop)
        self._look_for_the_alarm()
        return [*self.died, *self.checker.close()]

    @property
    def found(self) -> list[str]:
        """What was broken so far."""
        return [*self.died, *self.checker.found]

    async def _take(self, step: Step) -> None:
        rng = random.Random(step.seed)
        if step.action not in _QUIET_STEPS:
            self.history.add(Fault(step.action))
        await getattr(self, "_" + step.action.replace(" ", "_"))(rng)

    async def _heal(self) -> None:
        self.calm = True
        self.weather.clear()
        while self.pending:
            await asyncio.gather(*self.pending)
        self.history.add(Fault("healed"))
        self._bury()
        self.log._faults.clear()
        self.store._failures.clear()
        for clock in self.clocks.values():
            clock.offset_ms = 0
        self.healthy = self.plan.kind.name in ("hold", "limit")
        await self._start_again()
        await self._place(random.Random(self.plan.seed), "last", "fine 1")

    async def _start_again(self) -> None:
        """What too many dead letters stopped is started by somebody, once the cause is mended; they may have been
        counted while it was."""
        for running in list(self.world.workers.values()):
            if running.worker.routes[0].pipeline.stopped:
                await self._end(running.line.name, running.stop)
        if not self.world.workers:
            self._start()

    async def _wait_for_quiet(self) -> None:
        deadline_ms = self.clock.now_ms() + QUIET_WITHIN_MS
        while not self.found:
            try:
                await self.world.settled(within_ms=15_000)
                await asyncio.sleep(1)
                return
            except TimeoutError:
                self._bury()
                await self._start_again()
                self._replay_what_holds()
            except (StoreError, TransportError):
                self._bury()
            if self.clock.now_ms() > deadline_ms:
                waiting = sorted(str(at) for at in self._unsettled())
                self.died.append(f"I21 not quiet in time: {waiting[:6]}")
                self._suspect_a_waiting_one()

    def _unsettled(self) -> list[Any]:
        committed = self.log.committed.get(GROUP, {})
        topics = [TOPIC, *self.route.lane_names.read(self.route.retry.lanes_ms)]
        return [
            record.position
            for topic in topics
            for tp, partition in self.log.partitions(topic)
            for record in partition.between(committed.get(tp, 0), partition.end, 10)
        ]

    def _suspect_a_waiting_one(self) -> None:
        items = [self.checker.item_at[at] for at in self._unsettled() if at in self.checker.item_at]
        if items:
            self.checker.suspect = items[0].key

    def _look_for_the_alarm(self) -> None:
        """The last order was claimed after every loss, so somebody has to know of one."""
        if not self.flushed:
            return
        told = 0.0
        for running in self.everyone:
            metrics = running.worker.routes[0].pipeline.metrics
            told += metrics.windows.labels(GROUP, names.W3_CLAIMS_LOST)._value.get()
        if not told:
            self.died.append("W3 nobody was told that claims were lost")

    # -- small things

    def _bury(self) -> None:
        """A worker that finds no log or no store at its start ends, rightly; one that was at work must never."""
        for name, running in list(self.world.workers.items()):
            if running.task.done() and not running.task.cancelled():
                error = running.task.exception()
                del self.world.workers[name]
                if error is not None:
                    self.gone(name, error)

    def gone(self, name: str, error: BaseException) -> None:
        had_work = any(isinstance(event, Assigned) and event.worker == name for _, event in self.history)
        if name not in self.checker.dead_workers and (had_work or not isinstance(error, (StoreError, TransportError))):
            self.died.append(f"I21 {name} died: {error!r}")


_QUIET_STEPS = frozenset({"order", "order again", "wait"})


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "payment_id": f"p-{order['order_id']}",
        "order_id": order["order_id"],
        "customer_id": order["customer_id"],
        "amount_cents": order["amount_cents"],
        "currency": "EUR",
        "sequence": 1,
        "captured_at": 1_790_000_000_000,
    }


def _version_of(record: Record) -> int:
    value = _codec().decode(record.value or b"").value
    assert isinstance(value, dict)
    return int(value["amount_cents"])


@functools.cache
def _prepared(policies: str) -> tuple[BridgeConfig, Codec]:
    """What does not change from run to run: the configuration of these policies, and the compiled contracts."""
    bridge = Bridge(schemas=SCHEMAS, service="simulation")

    async def handler(_: Message[dict[str, Any]]) -> None: ...

    bridge.route(TOPIC, group=GROUP, contract=ORDER, **json.loads(policies))(handler)
    return bridge.config, _codec()


@functools.cache
def _codec() -> Codec:
    return open_codec(Bridge(schemas=SCHEMAS).config)


def play(plan: Plan) -> ShopWorld:
    """Run a plan to its end. ``found`` of the world is what it broke."""

    async def scenario() -> ShopWorld:
        shop = ShopWorld(plan)
        await shop.run()
        return shop

    return run_virtual(scenario())


def simulate(seed: int) -> ShopWorld:
    """Run one seed."""
    return play(plan_of(seed))
