"""All faults by name, and the run without any."""

from __future__ import annotations

import difflib

from broker_bridge.chaos.faults.aimed_kills import AIMED_KILLS
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.faults.kafka_faults import KAFKA_FAULTS
from broker_bridge.chaos.faults.redis_faults import REDIS_FAULTS
from broker_bridge.chaos.faults.target_faults import TARGET_FAULTS
from broker_bridge.chaos.faults.topic_faults import TOPIC_FAULTS
from broker_bridge.chaos.faults.worker_faults import WORKER_FAULTS
from broker_bridge.chaos.world import World
from broker_bridge.errors import UsageError


class NoFault(Fault):
    """What the others are compared with: no repeat at all is allowed."""

    name = "none"
    title = "nothing goes wrong"
    rows = ()

    def begin(self, world: World) -> None:
        """Nothing."""


_ALL: tuple[type[Fault], ...] = (
    NoFault,
    *WORKER_FAULTS,
    *AIMED_KILLS,
    *KAFKA_FAULTS,
    *TOPIC_FAULTS,
    *REDIS_FAULTS,
    *TARGET_FAULTS,
)
FAULTS = {fault.name: fault for fault in _ALL}

QUICK = ("none", "worker-kill", "worker-freeze-session", "broker-kill", "redis-answers-lost", "redis-flushall")
"""What is run where nobody named a fault."""


def fault_named(name: str) -> type[Fault]:
    """The fault. Raises ``UsageError`` with the nearest name."""
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, n=1)
        remedy = f"did you mean {near[0]}?" if near else "see: broker-bridge chaos run --list"
        raise UsageError(f"there is no fault {name!r}", remedy=remedy)
    return FAULTS[name]
