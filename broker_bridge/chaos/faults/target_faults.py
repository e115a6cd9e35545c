"""Faults of the target, played by our own."""

from __future__ import annotations

from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.weather import Weather
from broker_bridge.chaos.world import World


class _TargetWeather(Fault):
    """The target behaves badly for a while. No message may die of that."""

    needs_own_target = True
    bounds_attempts = False
    weather: Weather

    def begin(self, world: World) -> None:
        """Bad weather."""
        world.say_weather(self.weather)

    def end(self, world: World) -> None:
        """Fine again."""
        world.clear_weather()


class TargetDown(_TargetWeather):
    """The breaker opens, the route pauses, no attempt is spent."""

    name = "target-down"
    title = "the target is down: nobody reaches it"
    rows = (44,)
    weather = Weather(mood="down")


class TargetErrors(_TargetWeather):
    """A message may be the cause of an error. Here none is, and that has to be told."""

    name = "target-errors"
    title = "the target answers every message with an error, as 500 is"
    rows = (44,)
    weather = Weather(mood="errors")


class TargetHangs(_TargetWeather):
    """Each call runs into its deadline."""

    name = "target-hangs"
    title = "the target never answers"
    rows = (13, 44)
    weather = Weather(mood="hang")

    def hold_s(self, world: World) -> float:
        """A few deadlines."""
        return max(world.hold_s, world.route.target_timeout_ms / 1000 * 3)


class TargetSlow(_TargetWeather):
    """Slow is not down."""

    name = "target-slow"
    title = "the target takes half a second for each message"
    rows = (44,)
    weather = Weather(mood="slow", seconds=0.5)


class TargetFailsAfterEffect(_TargetWeather):
    """The same key is sent again: only the target can tell."""

    name = "target-fails-after-effect"
    title = "one message in ten has its effect, and the target says it failed"
    rows = (42,)
    weather = Weather(mood="fail_after_effect", share=0.1)


class TargetBusy(_TargetWeather):
    """Later, says the target, for some."""

    name = "target-busy"
    title = "the target asks to come back later for one message in five"
    rows = (43,)
    weather = Weather(mood="refuse_for_a_while", share=0.2, seconds=0.5)


TARGET_FAULTS: tuple[type[Fault], ...] = (
    TargetDown,
    TargetErrors,
    TargetHangs,
    TargetSlow,
    TargetFailsAfterEffect,
    TargetBusy,
)
