"""Faults of workers: killed, frozen, blocked, joined by others, with a wrong clock, or fed what kills them."""

from __future__ import annotations

import time

from broker_bridge.chaos.evidence import Happening, now_ms
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.weather import Weather
from broker_bridge.chaos.world import World
from broker_bridge.config import BridgeConfig, RouteConfig

KILLS = 3
HOUR_S = 3_600.0


class WorkerKill(Fault):
    """One after the other, whatever they are doing."""

    name = "worker-kill"
    title = f"SIGKILL to a worker, {KILLS} times"
    rows = (1, 2, 3, 4, 5, 6, 7)

    def begin(self, world: World) -> None:
        """Kill in turns; each is started again."""
        for number in range(KILLS):
            world.pool.kill(world.pool.workers[number % len(world.pool.workers)])
            world.run_for(1.5)

    def hold_s(self, world: World) -> float:
        """The kills are all of it."""
        return 0.0


class WorkerFreezeBeyondSession(Fault):
    """The classic zombie: the group gives its partitions away, then it wakes up."""

    name = "worker-freeze-session"
    title = "SIGSTOP a worker for longer than its session and lease, then SIGCONT"
    rows = (10,)

    def hold_s(self, world: World) -> float:
        """Longer than both."""
        return max(world.session_s, world.lease_s) * 1.3 + 1.0

    def begin(self, world: World) -> None:
        """Freeze."""
        world.pool.freeze(world.pool.workers[0])

    def end(self, world: World) -> None:
        """Wake it up."""
        world.pool.thaw(world.pool.workers[0])


class WorkerFreezeBeyondLease(WorkerFreezeBeyondSession):
    """Still a member of the group, but its claims are free to take."""

    name = "worker-freeze-lease"
    title = "SIGSTOP a worker for longer than its lease, but not its session"
    rows = (11,)

    def unfit(self, config: BridgeConfig, route: RouteConfig) -> str:
        """There must be room between the two."""
        if route.claims.lease_ms < config.kafka.session_timeout_ms * 0.8:
            return ""
        return "the lease is not clearly shorter than the session timeout, so no pause lies between them"

    def hold_s(self, world: World) -> float:
        """Between the two."""
        return (world.lease_s + world.session_s) / 2


class WorkerRollingRestart(Fault):
    """What a deployment does."""

    name = "worker-rolling-restart"
    title = "SIGTERM to one worker after the other, each started again"
    rows = (8, 9)

    def hold_s(self, world: World) -> float:
        """The restarts are all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """Twice round."""
        for worker in [*world.pool.workers, *world.pool.workers]:
            status = world.pool.end(worker)
            if status != 0:
                world.pool.died_by_itself.append(f"worker {worker.number} ended a drain with status {status}")
            world.run_for(0.5)
            worker.start()
            world.run_for(1.5)


class RebalanceStorm(Fault):
    """Members come and go faster than partitions settle."""

    name = "rebalance-storm"
    title = "a worker joins every 5 s and leaves again"
    rows = (8, 17)

    def hold_s(self, world: World) -> float:
        """The storm is all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """Every second guest leaves by SIGKILL."""
        until = time.monotonic() + max(10.0, world.hold_s * 2)
        guests = 0
        while time.monotonic() < until:
            guest = world.pool.add()
            world.run_for(5.0)
            if guests % 2:
                guest.wanted = False
                world.pool.kill(guest)
            else:
                world.pool.end(guest)
            guests += 1


class WorkerClockShift(Fault):
    """Leases and order must not go by a worker's clock."""

    name = "worker-clock"
    title = "workers whose clocks are an hour ahead and an hour behind take over"
    rows = (41,)

    def begin(self, world: World) -> None:
        """The first ones leave; the new ones stay to the end."""
        before = list(world.pool.workers)
        world.pool.add(clock_shift_s=HOUR_S)
        world.pool.add(clock_shift_s=-HOUR_S)
        world.run_for(2.0)
        for worker in before:
            world.pool.end(worker)


class LoopBlocked(Fault):
    """Neither heartbeats nor renewals go out meanwhile."""

    name = "worker-loop-blocked"
    title = "a handler blocks the event loop for longer than the session"
    rows = (12,)
    needs_own_target = True
    built_in_only = True

    def hold_s(self, world: World) -> float:
        """Until the last one is through with it."""
        return world.session_s * 1.3 + 3.0

    def begin(self, world: World) -> None:
        """Each worker once."""
        self._since_ms = now_ms()
        world.say_weather(Weather(mood="block_loop", seconds=world.session_s * 1.3))

    def end(self, world: World) -> None:
        """No more."""
        world.clear_weather()
        until_ms = now_ms() + world.session_s * 1_300
        for worker in world.pool.workers:
            world.happenings.append(Happening("blocked", self._since_ms, until_ms, worker.pid))


class DeadlyMessage(Fault):
    """Memory, a segfault in C, ``os._exit``: the worker is gone before it can say anything."""

    name = "deadly-message"
    title = "one message kills every worker that tries it"
    rows = (14,)
    built_in_only = True
    needs_own_target = True
    dead_kinds = Fault.dead_kinds | {"deadly"}
    kills_workers = True

    def hold_s(self, world: World) -> float:
        """Three leases and as many starts."""
        return world.lease_s * 4 + 6.0

    def begin(self, world: World) -> None:
        """Send it."""
        world.mix_in("deadly")


class HangingHandler(Fault):
    """Its deadline ends it; after its attempts it is a dead letter."""

    name = "handler-hangs"
    title = "two messages whose handler never returns"
    rows = (13,)
    built_in_only = True
    needs_own_target = True
    dead_kinds = Fault.dead_kinds | {"hangs"}

    def begin(self, world: World) -> None:
        """Send them."""
        world.mix_in("hangs", "hangs")


WORKER_FAULTS: tuple[type[Fault], ...] = (
    WorkerKill,
    WorkerFreezeBeyondSession,
    WorkerFreezeBeyondLease,
    WorkerRollingRestart,
    RebalanceStorm,
    WorkerClockShift,
    LoopBlocked,
    DeadlyMessage,
    HangingHandler,
)
