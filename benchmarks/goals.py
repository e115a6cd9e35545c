"""What speed is wanted, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Run


@dataclass(frozen=True)
class Goal:
    """``found`` is the figure, None where it was not measured; it is met ``at_least`` or ``at_most`` the limit."""

    wanted: str
    found: Callable[[Run], float | None]
    shown: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, run: Run) -> bool | None:
        """None where it was not measured."""
        value = self.found(run)
        if value is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def _share(scenario: str, key: str, mine: str, theirs: str) -> Callable[[Run], float | None]:
    def found(run: Run) -> float | None:
        one, other = run.median(scenario, mine, key), run.median(scenario, theirs, key)
        return one / other if one is not None and other else None

    return found


def _share_of_most(scenario: str, key: str, mine: str, theirs: str) -> Callable[[Run], float | None]:
    """At the last point, the largest."""

    def found(run: Run) -> float | None:
        values = [row.value for row in run.rows(scenario, theirs)]
        one, other = (run.median(scenario, name, key, values[-1]) if values else None for name in (mine, theirs))
        return one / other if one is not None and other else None

    return found


def _p99_beyond_by_hand(run: Run) -> float | None:
    mine = run.median("latency", "bridge", "p99", 200)
    theirs = run.median("latency", "batch_aiokafka", "p99", 200)
    return mine - theirs if mine is not None and theirs is not None else None


def _most_memory(scenario: str, *contenders: str) -> Callable[[Run], float | None]:
    def found(run: Run) -> float | None:
        rows = (row for name in contenders for row in run.rows(scenario, name))
        return max((peak for row in rows for peak in row.values("rss_mb")), default=None)

    return found


def _dearest_over_cheapest(run: Run) -> float | None:
    costs = [cost for row in run.rows("backlog", "bridge") if (cost := row.median("cpu_us")) is not None]
    return (max(costs) / min(costs) - 1) * 100 if len(costs) > 1 else None


GOALS = (
    Goal(
        "one process at least 1.0 × the best batch loop by hand on aiokafka",
        _share("throughput", "rate", "bridge", "batch_aiokafka"),
        "{:.2f} ×",
        at_least=1.0,
    ),
    Goal(
        "the same with the hot path compiled: at least 1.25 ×",
        _share("throughput", "rate", "bridge_compiled", "batch_aiokafka"),
        "{:.2f} ×",
        at_least=1.25,
    ),
    Goal(
        "at least 40 × FastStream's loop with SET NX a record",
        _share("throughput", "rate", "bridge", "faststream_loop"),
        "{:.0f} ×",
        at_least=40,
    ),
    Goal(
        "two processes at least 1.6 × one, where cores allow (here Kafka and Redis use the same)",
        _share("throughput", "rate", "bridge_two", "bridge"),
        "{:.2f} ×",
        at_least=1.6,
    ),
    Goal(
        "p99 at 200 messages/s within 3 ms of the loop by hand",
        _p99_beyond_by_hand,
        "{:+.1f} ms",
        at_most=3.0,
    ),
    Goal(
        "HTTP delivery at least 0.9 × the loop by hand with the same client",
        _share("http", "rate", "bridge", "http_loop"),
        "{:.2f} ×",
        at_least=0.9,
    ),
    Goal(
        "HTTP delivery in batches at least 2 × the loop by hand, which sends single requests",
        _share("http", "rate", "bridge_batch", "http_loop"),
        "{:.2f} ×",
        at_least=2.0,
    ),
    Goal("memory below 150 MB a process at any backlog", _most_memory("backlog", "bridge"), "{:.0f} MB", at_most=150),
    Goal(
        "`dlq groups` at least 0.5 × as fast as a bare consumer reads the dead letters",
        _share_of_most("dead-letters", "rate", "groups", "read"),
        "{:.2f} ×",
        at_least=0.5,
    ),
    Goal(
        "`replay plan` with a filter at least 0.5 × as fast as a bare consumer reads the dead letters",
        _share_of_most("dead-letters", "rate", "plan", "read"),
        "{:.2f} ×",
        at_least=0.5,
    ),
    Goal(
        "`replay run` without a rate limit at least 0.8 × as fast as a bare loop that reads and writes",
        _share_of_most("dead-letters", "rate", "run", "forward"),
        "{:.2f} ×",
        at_least=0.8,
    ),
    Goal(
        "memory of these commands below 200 MB at any number of dead letters",
        _most_memory("dead-letters", "groups", "plan", "plan_all", "run"),
        "{:.0f} MB",
        at_most=200,
    ),
    Goal("CPU a message flat within 10 % over the backlog", _dearest_over_cheapest, "{:.0f} %", at_most=10),
)
