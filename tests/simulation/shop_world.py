"""A shop under attack, decided by one seed: what is ordered, what the handler does with it, who crashes, what fails."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from broker_bridge import Bridge, Context, Message, RejectedError, RetryLaterError
from broker_bridge.core.identity import claim_key
from broker_bridge.errors import DeliveryTimeoutError, StoreError, TargetUnavailableError, TransportError
from broker_bridge.headers import TRACE, TRACEPARENT
from broker_bridge.idempotency.memory import Failure
from broker_bridge.message import Record
from broker_bridge.testing import InMemoryBridge, LoopClock, run_virtual
from broker_bridge.testing.history import Assigned, Effect, Ended, Fault, History, RecordingLog, RecordingStore, Started
from broker_bridge.testing.invariants import Terms, violations
from broker_bridge.testing.lifeline import WORKER

SCHEMAS = Path(__file__).parents[2] / "schemas"
TOPIC, GROUP, ORDER = "orders.placed", "payments", "shop.OrderPlaced"
PARTITIONS = 2
LANES = ("1s", "4s")
IN_PLACE = 2
POLICIES: dict[str, Any] = {
    "concurrency": 4,
    "max_in_flight": 30,
    "poll_records": 10,
    "commit_interval": "200ms",
    "target": {"kind": "python", "handler": "embedded:handler", "timeout": "2s"},
    "claims": {"lease": "3s", "crash_limit": 50},
    "retry": {"in_place": IN_PLACE, "base": "50ms", "max": "200ms", "budget_floor": 1, "lanes": list(LANES)},
    "breaker": {"window": 10, "open": "300ms", "max_open": "1s"},
    "shutdown": {"drain": "1s"},
}
QUIET_WITHIN_MS = 200_000
FATES = {"fine": 60, "poison": 6, "refused": 5, "transient": 14, "slow": 8, "busy": 4, "away": 3}


class ShopWorld:
    """One run. ``world`` is the bridge in memory, ``history`` what happened."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.clock = LoopClock()
        self.history = History(self.clock)
        self.log = RecordingLog(self.history)
        self.store = RecordingStore(self.clock, self.history)
        self.bridge = Bridge(schemas=SCHEMAS, service="simulation")
        self.bridge.route(TOPIC, group=GROUP, contract=ORDER, **POLICIES)(self._handle)
        self.world = InMemoryBridge(
            self.bridge,
            partitions=PARTITIONS,
            log=self.log,
            store=self.store,
            clock=self.clock,
            seed=seed,
            history=self.history,
        )
        self.orders: list[tuple[int, str, str]] = []
        self.tries: Counter[str] = Counter()
        self.pending: set[asyncio.Task[None]] = set()
        self.died: list[str] = []
        self.serial = 1

    @property
    def terms(self) -> Terms:
        """What the checker must know of the route."""
        route = self.bridge.config.routes[0]
        names = route.lane_names
        lanes = tuple(names.read(route.retry.lanes_ms))
        return Terms(TOPIC, lanes, names.dead_letter, IN_PLACE + len(LANES), IN_PLACE)

    # -- the handler

    async def _handle(self, message: Message[dict[str, Any]], context: Context) -> None:
        key = claim_key(message.idempotency_key, namespace=TOPIC)
        worker = WORKER.get()
        self.history.add(Started(worker, key, message.origin, context.token, context.attempt))
        spent = False
        try:
            await self._meet_fate(message.value["note"], message.value["order_id"])
            self.history.add(Effect(key, context.token))
            spent = True
        except (RetryLaterError, TargetUnavailableError):
            raise  # may be held without an attempt spent
        except Exception:
            spent = True
            raise
        finally:
            self.history.add(Ended(worker, key, context.token, spent))

    async def _meet_fate(self, note: str, order_id: str) -> None:
        fate, number = note.split()
        self.tries[order_id] += 1
        early = self.tries[order_id] <= int(number)
        await asyncio.sleep((1.0 if fate == "slow" else 0.01) * (int(number) + 1) / 3)
        if fate == "poison" or (fate == "transient" and early):
            raise ValueError(fate)
        if fate == "refused":
            raise RejectedError(fate)
        if fate == "busy" and early:
            raise RetryLaterError(fate, retry_after_ms=100)
        if fate == "away" and early:
            raise TargetUnavailableError(fate)

    # -- what happens

    async def run(self) -> list[str]:
        """Play, heal, wait for quiet, and judge."""
        async with self.world:
            for _ in range(self.rng.randint(25, 45)):
                await self._step()
                self._bury()
            await self._heal()
            try:
                await self.world.settled(within_ms=QUIET_WITHIN_MS)
            except TimeoutError:
                self.died.append("I21: not quiet in time")
            await asyncio.sleep(1)
            for running in list(self.world.workers.values()):
                await self._end(running.line.name, running.stop())
        return violations(self.history, self.terms) + self.died

    async def _step(self) -> None:
        actions: dict[Callable[[], Awaitable[None]], int] = {
            self._order: 40,
            self._order_again: 8,
            self._wait: 30,
            self._join: 6,
            self._leave: 4,
            self._crash: 4,
            self._evict: 3,
            self._freeze: 4,
            self._store_away: 3,
            self._store_trouble: 5,
            self._send_trouble: 5,
            self._log_away: 2,
        }
        action = self.rng.choices(list(actions), list(actions.values()))[0]
        await action()

    async def _order(self) -> None:
        for _ in range(self.rng.randint(1, 5)):
            fate = self.rng.choices(list(FATES), list(FATES.values()))[0]
            number = len(self.orders)
            self.orders.append((number, f"c{self.rng.randint(1, 5)}", f"{fate} {self.rng.randint(1, 3)}"))
            await self._send(*self.orders[-1])

    async def _order_again(self) -> None:
        if self.orders:
            await self._send(*self.rng.choice(self.orders[-8:]))

    async def _send(self, number: int, customer: str, note: str) -> None:
        value = {
            "order_id": f"o-{number:04d}",
            "customer_id": customer,
            "amount_cents": number,
            "currency": "EUR",
            "placed_at": 1_790_000_000_000,
            "note": note,
            "lines": [],
            "channel": "web",
        }
        try:
            await self.world.producer.send(TOPIC, value, key=customer, contract=ORDER, event_id=f"o-{number:04d}")
        except TransportError:
            return  # what is in the log is in the history

    async def _wait(self) -> None:
        await asyncio.sleep(self.rng.choice([0.005, 0.05, 0.3, 1.0, 3.5]))

    async def _join(self) -> None:
        if self.log.available and self.store.available and len(self.world.workers) < 3:
            self._note("join")
            self.serial += 1
            self.world.start_worker(f"worker-{self.serial}")

    async def _leave(self) -> None:
        if len(self.world.workers) > 1:
            self._note("leave")
            running = self._any()
            self._later(0.0, self._end(running.line.name, running.stop()))

    async def _crash(self) -> None:
        if self.world.workers:
            self._note("crash")
            running = self._any()
            self._later(0.0, self._end(running.line.name, running.crash()))

    async def _evict(self) -> None:
        if self.world.workers:
            self._note("evict")
            self._later(0.0, self._any().evict())

    async def _freeze(self) -> None:
        """Polls stop for longer than the session: the worker becomes a zombie that works on."""
        if self.world.workers:
            self._note("freeze")
            running = self._any()
            running.line.polling.clear()
            self._later(self.rng.choice([0.5, 2.0]), running.evict())
            self._later(self.rng.choice([1.0, 4.0, 8.0]), self._thaw(running))

    async def _thaw(self, running: Any) -> None:
        running.line.polling.set()

    async def _store_away(self) -> None:
        if self.world.workers and self.rng.random() < 0.5:
            line = self._any().line
            line.store_away = True
            self._later(self.rng.choice([0.3, 2.0, 5.0]), self._set(line, "store_away", False))
        else:
            self.store.available = False
            self._later(self.rng.choice([0.3, 2.0, 5.0]), self._set(self.store, "available", True))
        self._note("store away")

    async def _store_trouble(self) -> None:
        self._note("store trouble")
        self.store.fail_next(self.rng.randint(1, 3), how=self.rng.choice(list(Failure)))

    async def _send_trouble(self) -> None:
        self._note("send trouble")
        names = self.bridge.config.routes[0].lane_names
        topic = self.rng.choice([names.dead_letter, *names.retries(self.bridge.config.routes[0].retry.lanes_ms)])
        if self.rng.random() < 0.5:
            self.log.lose_next_acks(self.rng.randint(1, 3), topic=topic)
        else:
            self.log.fail_next_sends(self.rng.randint(1, 5), DeliveryTimeoutError("no answer"), topic=topic)

    async def _log_away(self) -> None:
        self._note("log away")
        self.log.available = False
        self._later(self.rng.choice([0.3, 2.0]), self._set(self.log, "available", True))

    async def _set(self, owner: Any, name: str, value: bool) -> None:
        setattr(owner, name, value)

    async def _heal(self) -> None:
        while self.pending:
            await asyncio.gather(*self.pending)
        self._note("healed")
        self._bury()
        self.log._faults.clear()
        self.store._failures.clear()
        if not self.world.workers:
            self.world.start_worker(f"worker-{self.serial + 1}")

    def _bury(self) -> None:
        """A worker that finds no log or no store at its start ends, rightly; one that was at work must never."""
        for name, running in list(self.world.workers.items()):
            if running.task.done() and not running.task.cancelled():
                error = running.task.exception()
                del self.world.workers[name]
                if error is not None:
                    self._died(name, error)

    def _died(self, name: str, error: BaseException) -> None:
        had_work = any(isinstance(event, Assigned) and event.worker == name for _, event in self.history)
        if had_work or not isinstance(error, (StoreError, TransportError)):
            self.died.append(f"{name} died: {error!r}")

    # -- small things

    def _any(self) -> Any:
        return self.rng.choice(list(self.world.workers.values()))

    def _note(self, what: str) -> None:
        self.history.add(Fault(what))

    def _later(self, delay_s: float, work: Awaitable[None]) -> None:
        async def wait_and_do() -> None:
            await asyncio.sleep(delay_s)
            await work

        task = asyncio.ensure_future(wait_and_do())
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    async def _end(self, name: str, ending: Awaitable[None]) -> None:
        try:
            await ending
        except Exception as error:  # noqa: BLE001 - a worker that dies is a finding, not the end of the run
            self._died(name, error)


def simulate(seed: int) -> tuple[list[str], History]:
    """Run one seed; what it breaks, and what happened."""

    async def scenario() -> tuple[list[str], History]:
        shop = ShopWorld(seed)
        return await shop.run(), shop.history

    return run_virtual(scenario())


def digest(history: History) -> str:
    """Equal for equal histories, in whatever order sets come; trace ids are random in each run."""

    def plain(value: object) -> object:
        if isinstance(value, frozenset | dict):
            return sorted(map(repr, value.items() if isinstance(value, dict) else value))
        if isinstance(value, Record):
            return (
                value.position,
                value.value,
                [header for header in value.headers if header[0] not in (TRACEPARENT, TRACE)],
            )
        return value

    lines = [f"{at} {type(event).__name__} {[plain(part) for part in event]}" for at, event in history]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
