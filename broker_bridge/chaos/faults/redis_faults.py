"""Faults of Redis and of the way to it. ``lost_writes`` faults are the window W3 itself."""

from __future__ import annotations

import signal
from pathlib import Path

from broker_bridge.chaos.evidence import Evidence, now_ms
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.servers import thaw
from broker_bridge.chaos.shifted_clock import ShiftedClock, compiler
from broker_bridge.chaos.tcp_proxy import Behaviour
from broker_bridge.chaos.verdict import Verdict
from broker_bridge.chaos.world import World
from broker_bridge.config import BridgeConfig, RouteConfig
from broker_bridge.errors import StackError
from broker_bridge.stack.prerequisites import existing

SHORT_FREEZE_S = 0.3
TAIL_BYTES = 20_000
HOUR_S = 3_600


class _RedisAway(Fault):
    """Redis cannot be reached for a while, and has lost nothing afterwards."""

    bounds_attempts = True

    def begin(self, world: World) -> None:
        """Take it away."""
        self._since_ms = now_ms()
        self.away(world)

    def end(self, world: World) -> None:
        """Bring it back."""
        self.back(world)
        world.note_redis_away(self._since_ms)

    def away(self, world: World) -> None:
        """What takes it away."""
        raise NotImplementedError

    def back(self, world: World) -> None:
        """What brings it back."""
        raise NotImplementedError


class RedisRestart(_RedisAway):
    """An orderly one: nothing is lost."""

    name = "redis-restart"
    title = "Redis stopped and started again"
    rows = (33, 35)

    def away(self, world: World) -> None:
        """Stop."""
        world.servers.stack.redis.stop()

    def back(self, world: World) -> None:
        """Start."""
        world.servers.stack.redis.start()


class RedisFreezeShort(Fault):
    """Shorter than a call may take: slow, nothing else."""

    name = "redis-freeze-short"
    title = "SIGSTOP Redis for 0.3 s, again and again"
    rows = (34,)

    def hold_s(self, world: World) -> float:
        """The freezes are all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """Freeze and thaw."""
        for _ in range(8):
            world.servers.stack.redis.kill(signal.SIGSTOP)
            world.run_for(SHORT_FREEZE_S)
            thaw(world.servers.stack.redis)
            world.run_for(SHORT_FREEZE_S)


class RedisFreezeLong(_RedisAway):
    """Calls time out, some of them after they were applied; leases run out."""

    name = "redis-freeze-long"
    title = "SIGSTOP Redis for longer than calls and leases last"
    rows = (33, 34, 35)

    def hold_s(self, world: World) -> float:
        """Longer than a lease."""
        return max(world.hold_s, world.lease_s * 1.5)

    def away(self, world: World) -> None:
        """Freeze."""
        world.servers.stack.redis.kill(signal.SIGSTOP)

    def back(self, world: World) -> None:
        """Thaw."""
        thaw(world.servers.stack.redis)


class _RedisLink(_RedisAway):
    """Something with the way to Redis."""

    behaviour: Behaviour

    def away(self, world: World) -> None:
        """Say how it behaves."""
        world.servers.redis_relay.behave(self.behaviour)

    def back(self, world: World) -> None:
        """Plain again."""
        world.servers.redis_relay.heal()


class RedisAnswersLost(_RedisLink):
    """Claims and settlements are applied, and nobody hears of it."""

    name = "redis-answers-lost"
    title = "Redis gets every command, its answers vanish"
    rows = (34, 35)
    behaviour = Behaviour(drop_answers=True)


class RedisHalfOpen(_RedisLink):
    """A firewall that forgot us."""

    name = "redis-half-open"
    title = "connections to Redis stay open, bytes vanish"
    rows = (33, 35)
    behaviour = Behaviour(swallow=True)


class RedisRefused(_RedisLink):
    """Nobody listens, and what is open is reset."""

    name = "redis-refused"
    title = "connections to Redis are reset and refused"
    rows = (33, 35)
    behaviour = Behaviour(refuse=True)

    def away(self, world: World) -> None:
        """Refuse and reset."""
        super().away(world)
        world.servers.redis_relay.cut()


class RedisLatency(_RedisLink):
    """Another continent."""

    name = "redis-latency"
    title = "100 to 150 ms each way to Redis"
    rows = (34,)
    behaviour = Behaviour(latency_ms=100, jitter_ms=50)


class RedisCut(Fault):
    """Resets in the middle of whatever is said."""

    name = "redis-cut"
    title = "every connection to Redis reset, five times a second"
    rows = (34, 35)

    def hold_s(self, world: World) -> float:
        """The resets are all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """Reset."""
        for _ in range(max(10, int(world.hold_s * 5))):
            world.servers.redis_relay.cut()
            world.run_for(0.2)


class RedisFull(_RedisAway):
    """``noeviction``: writes are refused, nothing is forgotten."""

    name = "redis-full"
    title = "Redis is at its memory limit and refuses writes"
    rows = (38,)

    def away(self, world: World) -> None:
        """No room for anything."""
        world.servers.redis("CONFIG SET maxmemory 1")

    def back(self, world: World) -> None:
        """No limit."""
        world.servers.redis("CONFIG SET maxmemory 0")


class FlushAll(Fault):
    """Somebody meant another Redis. Then a worker dies, so that records come again and meet no claims."""

    name = "redis-flushall"
    title = "FLUSHALL, and SIGKILL to a worker"
    rows = (39,)

    def begin(self, world: World) -> None:
        """Flush, then make records come again."""
        since_ms = now_ms()
        world.servers.redis("FLUSHALL")
        world.redis_lost_writes(since_ms)
        world.pool.kill(world.pool.workers[0])


class AofTailCut(Fault):
    """What a power cut does under ``appendfsync everysec``. SIGKILL alone would prove nothing: the page cache lives."""

    name = "redis-aof-cut"
    title = f"SIGKILL Redis, cut {TAIL_BYTES} bytes off its file, and SIGKILL to every worker"
    rows = (37,)

    def begin(self, world: World) -> None:
        """All in one breath, so that what the tail held is not committed yet."""
        redis = world.servers.stack.redis
        since_ms = now_ms() - 1_000
        for worker in world.pool.workers:
            world.pool.kill(worker)
        redis.kill()
        cut_tail(redis.folder)
        redis.start()
        world.redis_lost_writes(since_ms)

    def hold_s(self, world: World) -> float:
        """It has happened."""
        return 0.0


def cut_tail(folder: Path) -> None:
    """Take the last bytes off the newest append-only file."""
    files = sorted(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise StackError("Redis has no append-only file", where=str(folder))
    size = files[-1].stat().st_size
    with files[-1].open("r+b") as file:
        file.truncate(max(0, size - TAIL_BYTES))


class RedisFailover(Fault):
    """The replica lags behind a partition and becomes the primary: what it never saw is gone."""

    name = "redis-failover"
    title = "failover to a partitioned replica, without WAIT; SIGKILL to every worker"
    rows = (36,)
    needs_replica = True
    loses_writes = True

    def hold_s(self, world: World) -> float:
        """It has happened."""
        return 0.0

    def begin(self, world: World) -> None:
        """Partition, let it work on, then fail over while every worker dies."""
        servers = world.servers
        assert servers.replica is not None
        assert servers.replica_link is not None
        servers.replica_link.behave(Behaviour(swallow=True))
        since_ms = now_ms()
        world.run_for(2.0)
        for worker in world.pool.workers:
            world.pool.kill(worker)
        servers.stack.redis.kill()
        servers.promote(servers.replica.port)
        if self.loses_writes:
            world.redis_lost_writes(since_ms)
        else:
            world.note_redis_away(since_ms)


class RedisFailoverWithWait(RedisFailover):
    """Nothing counts before the replica has it, so nothing can be lost: while it is away the route pauses."""

    name = "redis-failover-wait"
    title = "the same with wait_replicas = 1: nothing acknowledged is lost"
    wait_replicas = 1
    loses_writes = False

    def begin(self, world: World) -> None:
        """After the failover there is one Redis left: an operator has to bring a replica."""
        super().begin(world)
        world.run_for(1.0)

    def end(self, world: World) -> None:
        """The old primary follows the new one."""
        world.servers.follow_promoted()


class RedisClock(Fault):
    """Leases end an hour early, then an hour late; tokens must grow all the same."""

    name = "redis-clock"
    title = "Redis' clock jumps an hour ahead, then two hours back; SIGKILL to a worker after the first"
    rows = (40,)

    def unfit(self, config: BridgeConfig, route: RouteConfig) -> str:
        """It takes a compiler: Redis reads the machine's clock, which is not ours to move."""
        return "" if compiler() else "the library that moves Redis' clock takes a C compiler (cc), and there is none"

    def hold_s(self, world: World) -> float:
        """The jumps are all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """A Redis with a clock of its own, an orderly start; then the jumps."""
        clock, redis = ShiftedClock(world.folder), world.servers.stack.redis
        since_ms = now_ms()
        redis.run_by(lambda: clock.wrapped(existing("redis-server")))
        redis.restart()
        world.note_redis_away(since_ms)
        for shift_s in (HOUR_S, -HOUR_S):
            world.run_for(world.lease_s)
            before_s = int(world.servers.redis("TIME").split()[2])
            clock.move(shift_s)
            world.facts[f"jumped_s_{'ahead' if shift_s > 0 else 'back'}"] = _jump(world, before_s)
            if shift_s > 0:
                world.pool.kill(world.pool.workers[0])
            world.run_for(world.lease_s * 2)
        clock.move(0)

    def end(self, world: World) -> None:
        """The right time again; the next start is of the plain program."""
        world.servers.stack.redis.run_by(lambda: existing("redis-server"))

    def review(self, world: World, evidence: Evidence, verdict: Verdict) -> None:
        """It has to have been felt."""
        if world.facts["jumped_s_ahead"] < HOUR_S - 60 or world.facts["jumped_s_back"] > -2 * HOUR_S + 60:
            verdict.object("the fault was not felt", "Redis' clock did not move")


def _jump(world: World, before_s: int) -> int:
    return int(world.servers.redis("TIME").split()[2]) - before_s


REDIS_FAULTS: tuple[type[Fault], ...] = (
    RedisRestart,
    RedisFreezeShort,
    RedisFreezeLong,
    RedisAnswersLost,
    RedisHalfOpen,
    RedisRefused,
    RedisLatency,
    RedisCut,
    RedisFull,
    FlushAll,
    AofTailCut,
    RedisFailover,
    RedisFailoverWithWait,
    RedisClock,
)
