"""Which ports, ids and sizes a stack gets: what was asked for, else what it had before, else free ports."""

from __future__ import annotations

from broker_bridge.errors import StackError
from broker_bridge.stack.kafka.settings import new_cluster_id
from broker_bridge.stack.ports import free_port, is_free
from broker_bridge.stack.server import port_taken
from broker_bridge.stack.spec import StackSpec
from broker_bridge.stack.state import KafkaNodeState, RedisState, RegistryState, StackState


class PortChooser:
    """Hands out each port once."""

    def __init__(self, spec: StackSpec) -> None:
        self._given = {*spec.fixed_kafka_ports(), *spec.relay_ports}
        self._given |= {port for port in (spec.redis_port, spec.registry_port) if port is not None}

    def choose(self, fixed: int | None, before: int | None) -> int:
        """`fixed` as it is; `before` if it is still free; else one that is."""
        if fixed is not None:
            return fixed
        if before is not None and before not in self._given and is_free(before):
            port = before
        else:
            port = free_port(avoid=frozenset(self._given))
        self._given.add(port)
        return port


def check_fixed_ports(spec: StackSpec) -> None:
    """Ports that were asked for by number must be free. Raises PortTakenError."""
    wanted = [("Kafka", port) for port in spec.fixed_kafka_ports()]
    wanted += [(name, port) for name, port in (("Redis", spec.redis_port), ("Registry", spec.registry_port)) if port]
    for name, port in wanted:
        if not is_free(port):
            raise port_taken(name, port)


def plan_layout(spec: StackSpec, previous: StackState | None, *, keep_ports: bool = True) -> StackState:
    """The stack to start. Raises StackError when the folder holds the data of another size of cluster."""
    if previous is not None and len(previous.kafka) != spec.brokers:
        raise StackError(
            f"this folder holds the data of {len(previous.kafka)} Kafka node(s), not {spec.brokers}",
            where=str(spec.folder),
            remedy=f"pass --brokers {len(previous.kafka)}, name another --data-dir, or drop the data: "
            "broker-bridge stack down --wipe",
        )
    ports = PortChooser(spec)
    fixed: list[int | None] = [*spec.fixed_kafka_ports()] or [None] * spec.brokers
    before = previous if keep_ports else None
    nodes = []
    for index in range(spec.brokers):
        known = before.kafka[index] if before else None
        nodes.append(
            KafkaNodeState(
                node_id=index + 1,
                port=ports.choose(fixed[index], known.port if known else None),
                controller_port=ports.choose(None, known.controller_port if known else None),
                relayed_port=ports.choose(None, known.relayed_port if known else None) if spec.relay_ports else None,
                relay_port=spec.relay_ports[index] if spec.relay_ports else None,
            )
        )
    redis = RedisState(port=ports.choose(spec.redis_port, before.redis.port if before else None))
    earlier = before.registry if before else None
    registry_port = ports.choose(spec.registry_port, earlier.port if earlier else None) if spec.registry else None
    return StackState(
        engine="native",
        cluster_id=previous.cluster_id if previous else new_cluster_id(),
        kafka_heap_mb=spec.heap_mb,
        kafka=nodes,
        redis=redis,
        registry=None if registry_port is None else RegistryState(port=registry_port),
    )
