"""Everything that one experiment has at hand, and the levers that faults pull."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from broker_bridge.chaos.effects import BUILT_IN_HANDLER
from broker_bridge.chaos.evidence import Happening, now_ms
from broker_bridge.chaos.http_sink import HttpSink
from broker_bridge.chaos.lag_watcher import LagWatcher
from broker_bridge.chaos.servers import Servers
from broker_bridge.chaos.weather import FINE, Weather, WeatherFile
from broker_bridge.chaos.workers import WorkerPool
from broker_bridge.chaos.workload import Orders
from broker_bridge.config import BridgeConfig, RouteConfig
from broker_bridge.errors import StackError


@dataclass
class World:
    """One experiment. ``config`` and ``route`` are the private ones, by no relay. ``hold_s`` is how long a fault
    lasts that has no length of its own."""

    servers: Servers
    config: BridgeConfig
    route: RouteConfig
    folder: Path
    pool: WorkerPool
    lag: LagWatcher
    weather_file: WeatherFile
    sink: HttpSink | None
    orders: Orders | None
    hold_s: float
    happenings: list[Happening] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)
    """What a fault counted, to show that it was felt."""

    # --- how long things are --------------------------------------------------------------------------------

    @property
    def lease_s(self) -> float:
        """The claim lease of the route."""
        return self.route.claims.lease_ms / 1000

    @property
    def session_s(self) -> float:
        """The group session timeout."""
        return self.config.kafka.session_timeout_ms / 1000

    # --- time passes ----------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        """Let it go on for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.pool.tend()
            time.sleep(0.05)

    def wait_until(self, holds: Callable[[], bool], *, within_s: float) -> bool:
        """Let it go on until something is so; False where it never was."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                return False
            self.pool.tend()
            time.sleep(0.05)
        return True

    # --- what faults say ------------------------------------------------------------------------------------

    def say_weather(self, weather: Weather) -> None:
        """How our own target behaves from now on. Raises ``StackError`` where the target is not ours."""
        if self.sink is None and not self.has_own_target:
            raise StackError(
                "this fault is played by the target, and the target is not ours",
                remedy="for an HTTP target pass --sink, which stands in for it",
            )
        self.weather_file.write(weather)

    @property
    def has_own_target(self) -> bool:
        """Whether messages end in a target of ours that keeps a log."""
        return self.sink is not None or getattr(self.route.target, "handler", "") == BUILT_IN_HANDLER

    def clear_weather(self) -> None:
        """Fine again."""
        self.weather_file.write(FINE)

    def mix_in(self, *deeds: str) -> None:
        """Have the built-in workload send these soon. Raises ``StackError`` where the workload is a user's."""
        if self.orders is None:
            raise StackError("this fault is a message of the built-in workload")
        self.orders.mix_in(*deeds)

    def note_redis_away(self, since_ms: float) -> None:
        """Note that Redis could not be reached since then."""
        self.happenings.append(Happening("redis_away", since_ms, now_ms()))

    def redis_lost_writes(self, since_ms: float) -> None:
        """Note that what Redis acknowledged since then (or part of it) is gone."""
        self.happenings.append(Happening("redis_lost_writes", since_ms, now_ms()))
