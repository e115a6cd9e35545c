"""Every scenario by its name, in the order of the page."""

from __future__ import annotations

from benchmarks.scenario import Scenario
from benchmarks.scenarios.backlog import Backlog
from benchmarks.scenarios.dead_letters import DeadLetters
from benchmarks.scenarios.help_text import HelpText
from benchmarks.scenarios.http_delivery import HttpDelivery
from benchmarks.scenarios.latency import Latency
from benchmarks.scenarios.parked import Parked
from benchmarks.scenarios.partition_count import PartitionCount
from benchmarks.scenarios.producer_alone import ProducerAlone
from benchmarks.scenarios.redis_memory import RedisMemory
from benchmarks.scenarios.start_up import StartUp
from benchmarks.scenarios.throughput import Throughput
from benchmarks.scenarios.trouble import Trouble

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Throughput,
        ProducerAlone,
        Latency,
        HttpDelivery,
        Backlog,
        PartitionCount,
        Trouble,
        Parked,
        DeadLetters,
        RedisMemory,
        StartUp,
        HelpText,
    )
}
