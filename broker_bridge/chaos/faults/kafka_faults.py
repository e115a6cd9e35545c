"""Faults of Kafka and of the way to it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from broker_bridge.chaos import kafka_wire
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.servers import SMALL_DISK_MB, thaw
from broker_bridge.chaos.tcp_proxy import Behaviour
from broker_bridge.chaos.world import World

_FILL_BYTES = 1 << 20


class BrokerKill(Fault):
    """The only one."""

    name = "broker-kill"
    title = "SIGKILL to the only broker, started again"
    rows = (21,)

    def begin(self, world: World) -> None:
        """Kill."""
        world.servers.brokers[0].kill()

    def end(self, world: World) -> None:
        """Start."""
        world.servers.brokers[0].start()


class BrokerFreeze(Fault):
    """Connections stay open and nothing comes."""

    name = "broker-freeze"
    title = "SIGSTOP the only broker for longer than sessions last"
    rows = (21, 26)

    def hold_s(self, world: World) -> float:
        """Longer than the group's sessions."""
        return max(world.hold_s, world.session_s * 1.5)

    def begin(self, world: World) -> None:
        """Freeze."""
        world.servers.brokers[0].kill(signal.SIGSTOP)

    def end(self, world: World) -> None:
        """Thaw."""
        thaw(world.servers.brokers[0])


class LeaderKill(Fault):
    """Others lead what it led."""

    name = "leader-kill"
    title = "SIGKILL to the leader of a partition, of three brokers"
    rows = (19,)
    brokers = 3

    def victim(self, world: World) -> int:
        """The node to die."""
        return kafka_wire.leader_of(world.servers.brokers[0].port, world.route.topic, 0)

    def begin(self, world: World) -> None:
        """Kill."""
        node = self.victim(world)
        self._dead = next(broker for broker in world.servers.brokers if broker.node.node_id == node)
        self._dead.kill()

    def end(self, world: World) -> None:
        """Start."""
        self._dead.start()


class CoordinatorKill(LeaderKill):
    """Commits, heartbeats and joins lose their address."""

    name = "coordinator-kill"
    title = "SIGKILL to the coordinator of the group, of three brokers, while it commits"
    rows = (22,)

    def victim(self, world: World) -> int:
        """The node to die."""
        return kafka_wire.coordinator_of(world.servers.brokers[0].port, world.route.group)


class TwoOfThreeFrozen(Fault):
    """No quorum, no in-sync replica: nothing may be acknowledged."""

    name = "two-of-three-frozen"
    title = "SIGSTOP two of three brokers for 45 s"
    rows = (20,)
    brokers = 3

    def hold_s(self, world: World) -> float:
        """As the fault matrix has it."""
        return 45.0

    def begin(self, world: World) -> None:
        """Freeze."""
        for broker in world.servers.brokers[1:]:
            broker.kill(signal.SIGSTOP)

    def end(self, world: World) -> None:
        """Thaw."""
        for broker in world.servers.brokers[1:]:
            thaw(broker)


class BrokersRolling(Fault):
    """An upgrade of the cluster."""

    name = "brokers-rolling-restart"
    title = "each of three brokers stopped and started"
    rows = (23,)
    brokers = 3

    def hold_s(self, world: World) -> float:
        """The restarts are all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """In turn."""
        for broker in world.servers.brokers:
            broker.restart()
            world.run_for(2.0)


class _KafkaLink(Fault):
    """Something with the way from the workers to the brokers."""

    behaviour: Behaviour

    def begin(self, world: World) -> None:
        """Say how it behaves."""
        for relay in world.servers.kafka_relays:
            relay.behave(self.behaviour)

    def end(self, world: World) -> None:
        """Plain again."""
        for relay in world.servers.kafka_relays:
            relay.heal()


class KafkaCut(Fault):
    """Resets in the middle of whatever is said."""

    name = "kafka-cut"
    title = "every connection to Kafka reset, once a second"
    rows = (26,)

    def hold_s(self, world: World) -> float:
        """The resets are all of it."""
        return 0.0

    def begin(self, world: World) -> None:
        """Reset."""
        for _ in range(max(3, int(world.hold_s))):
            for relay in world.servers.kafka_relays:
                relay.cut()
            world.run_for(1.0)


class KafkaHalfOpen(_KafkaLink):
    """A firewall that forgot us."""

    name = "kafka-half-open"
    title = "connections to Kafka stay open, bytes vanish"
    rows = (26,)
    behaviour = Behaviour(swallow=True)

    def hold_s(self, world: World) -> float:
        """Longer than the group's sessions."""
        return max(world.hold_s, world.session_s * 1.5)


class KafkaAnswersLost(_KafkaLink):
    """Produced, committed, joined: the broker knows, the worker does not."""

    name = "kafka-answers-lost"
    title = "Kafka gets every request, its answers vanish"
    rows = (25,)
    behaviour = Behaviour(drop_answers=True)


class KafkaRefused(_KafkaLink):
    """Nobody listens, and what is open is reset."""

    name = "kafka-refused"
    title = "connections to Kafka are reset and refused"
    rows = (21,)
    behaviour = Behaviour(refuse=True)

    def begin(self, world: World) -> None:
        """Refuse and reset."""
        super().begin(world)
        for relay in world.servers.kafka_relays:
            relay.cut()


class KafkaLatency(_KafkaLink):
    """Another continent."""

    name = "kafka-latency"
    title = "150 to 250 ms each way to Kafka"
    rows = (26,)
    behaviour = Behaviour(latency_ms=150, jitter_ms=100)


class DiskFull(Fault):
    """Kafka ends itself, Redis refuses writes; both come back once there is room."""

    name = "disk-full"
    title = f"the disk of Kafka and Redis ({SMALL_DISK_MB} MB) is full"
    rows = (24, 38)
    small_disk = True

    def begin(self, world: World) -> None:
        """Fill it to the last byte."""
        self._filler = world.servers.stack_folder / "filler"
        fill(self._filler)

    def end(self, world: World) -> None:
        """Make room and start what has ended."""
        self._filler.unlink()
        for broker in world.servers.brokers:
            broker.restart()
        if not world.servers.stack.redis.is_running:
            world.servers.stack.redis.start()


def fill(path: Path) -> None:
    """Write until the file system takes no more."""
    block = b"\0" * _FILL_BYTES
    with path.open("wb", buffering=0) as file:
        for size in (len(block), 4_096, 1):
            try:
                while os.write(file.fileno(), block[:size]) == size:
                    pass
            except OSError:
                continue


KAFKA_FAULTS: tuple[type[Fault], ...] = (
    BrokerKill,
    BrokerFreeze,
    LeaderKill,
    CoordinatorKill,
    TwoOfThreeFrozen,
    BrokersRolling,
    KafkaCut,
    KafkaHalfOpen,
    KafkaAnswersLost,
    KafkaRefused,
    KafkaLatency,
    DiskFull,
)
