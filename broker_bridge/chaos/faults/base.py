"""What a fault is: how it begins, how long it lasts, how it ends, and what may follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from broker_bridge.chaos.evidence import Evidence
from broker_bridge.chaos.verdict import Verdict
from broker_bridge.chaos.world import World
from broker_bridge.config import BridgeConfig, RouteConfig


class Fault:
    """One fault. ``rows`` are those of the fault matrix that it plays. ``begin`` returns when it has happened (or has
    been going on, where it is a sequence), ``end`` when it is mended.

    ``extra_deeds`` are mixed into the built-in workload; ``dead_kinds`` must end as dead letters, ``may_die`` may.
    ``kills_workers``: workers that end by themselves are part of it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rows: ClassVar[tuple[int, ...]]
    brokers: ClassVar[int] = 1
    small_disk: ClassVar[bool] = False
    workers: ClassVar[int] = 2
    wait_replicas: ClassVar[int | None] = None
    needs_own_target: ClassVar[bool] = False
    needs_replica: ClassVar[bool] = False
    built_in_only: ClassVar[bool] = False
    extra_deeds: ClassVar[tuple[str, ...]] = ()
    poison_share: ClassVar[float] = 0.01
    dead_kinds: ClassVar[frozenset[str]] = frozenset({"poison", "garbage"})
    may_die: ClassVar[frozenset[str]] = frozenset()
    bounds_attempts: ClassVar[bool] = True
    kills_workers: ClassVar[bool] = False

    def unfit(self, config: BridgeConfig, route: RouteConfig) -> str:
        """Why it cannot be played on such a route; empty where it can."""
        return ""

    def environment(self, folder: Path) -> dict[str, str]:
        """What workers are told by their environment; ``folder`` is the experiment's."""
        return {}

    def hold_s(self, world: World) -> float:
        """How long it lasts between ``begin`` and ``end``."""
        return world.hold_s

    def begin(self, world: World) -> None:
        """Break it."""
        raise NotImplementedError

    def end(self, world: World) -> None:
        """Mend it."""

    def review(self, world: World, evidence: Evidence, verdict: Verdict) -> None:
        """Object to what only this fault can tell, after everything else was judged."""
