"""The kinds of worlds that are simulated. A seed decides the kind, its measures, and every step that is taken in it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FATES = {"fine": 60, "poison": 6, "refused": 5, "transient": 14, "slow": 8, "busy": 4, "away": 3}
"""What the handler does with an order, and how often."""

STEPS = {
    "order": 40,
    "order again": 8,
    "wait": 30,
    "join": 6,
    "leave": 4,
    "crash": 3,
    "crash at a call": 3,
    "crash between steps": 3,
    "evict": 3,
    "freeze": 3,
    "pause": 3,
    "store away": 3,
    "store trouble": 5,
    "send trouble": 5,
    "log away": 2,
    "trim": 1,
}
"""What happens in every world, and how often."""


@dataclass(frozen=True)
class Kind:
    """What makes a world different. ``policies`` are laid over those of every world, ``steps`` and ``fates`` over the
    common ones. ``replay_order`` is what replays ask for. ``windows`` are those that may open in it, beside W1 and W2.
    """

    name: str
    policies: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    fates: Mapping[str, int] = field(default_factory=dict)
    windows: frozenset[str] = frozenset()
    slow_s: float = 1.0
    answers: bool = False
    replay_order: str = ""


_ANSWERS = {"topic": "payments.captured", "subject": "shop.PaymentCaptured"}

KINDS = (
    Kind("plain"),
    Kind("hold", {"dead_letter": {"on_dead": "hold"}}, {"redrive": 8}, {"poison": 4, "refused": 8}),
    Kind("redrive", steps={"redrive": 20}, fates={"poison": 12, "refused": 12}),
    Kind("answers", {"output": _ANSWERS}, {"answer trouble": 6}, answers=True),
    Kind("conflict", steps={"order changed": 14, "redrive": 3}),
    Kind("claims lost", steps={"flush": 3, "failover": 4}, windows=frozenset({"W3"})),
    Kind(
        "fallback",
        {"claims": {"on_redis_down": "fallback"}},
        {"store away": 10},
        windows=frozenset({"W5"}),
    ),
    Kind(
        "fail open",
        {"claims": {"on_redis_down": "fail_open"}},
        {"store away": 10},
        windows=frozenset({"W5"}),
    ),
    Kind("clocks", steps={"clock jump": 10}),
    Kind(
        "short lease",
        {"claims": {"lease": "1s"}, "target": {"timeout": "8s"}, "shutdown": {"drain": "3s"}},
        {"pause": 8, "store away": 6},
        {"slow": 30},
        slow_s=4.0,
    ),
    Kind("many lanes", {"retry": {"lanes": ["300ms", "1s", "3s", "8s"]}}, fates={"transient": 40}),
    Kind("limit", {"dead_letter": {"limit": 4, "limit_window": "10s"}}, fates={"refused": 25}),
    Kind("no order", {"order": "none"}),
    Kind(
        "versions",
        {"version_field": "amount_cents"},
        {"redrive": 25, "order": 50},
        {"poison": 15, "refused": 25},
        replay_order="skip-stale",
    ),
)


class Step(NamedTuple):
    """One thing that happens. ``seed`` decides what exactly, so that leaving out other steps changes nothing of it."""

    action: str
    seed: int


class Plan(NamedTuple):
    """A whole run, as values: the same plan runs the same, and some of its steps may be left out."""

    seed: int
    kind: Kind
    policies: dict[str, Any]
    partitions: int
    latency: tuple[float, ...]
    steps: tuple[Step, ...]


def kind_of(seed: int) -> Kind:
    """Each in its turn, so that any row of seeds has all of them."""
    return KINDS[seed % len(KINDS)]


def plan_of(seed: int) -> Plan:
    """What the seed decides."""
    rng = random.Random(seed)
    kind = kind_of(seed)
    policies = _policies(kind, rng)
    weights = {**STEPS, **kind.steps}
    names = rng.choices(list(weights), list(weights.values()), k=rng.randint(25, 45))
    latency = rng.choice(_LATENCIES)
    steps = tuple(Step(name, rng.getrandbits(32)) for name in names)
    return Plan(seed, kind, policies, rng.randint(1, 3), latency, steps)


_LATENCIES = (
    (0.0,),
    (0.0, 0.001, 0.005),
    (0.0, 0.0, 0.002, 0.05),
    (0.0, 0.0, 0.0, 0.0, 0.01, 1.5),
)
"""How long a call to the log or the store may take on its way there and on its way back; one is drawn each time."""


def _policies(kind: Kind, rng: random.Random) -> dict[str, Any]:
    base: dict[str, Any] = {
        "concurrency": rng.choice([1, 2, 4, 8]),
        "max_in_flight": rng.choice([10, 30]),
        "poll_records": rng.choice([3, 10]),
        "commit_interval": "200ms",
        "target": {"kind": "python", "handler": "embedded:handler", "timeout": "2s"},
        "claims": {"lease": "3s", "crash_limit": 50},
        "retry": {
            "in_place": rng.choice([1, 2, 3]),
            "base": "50ms",
            "max": "200ms",
            "budget_floor": 5,
            "lanes": ["1s", "4s"],
        },
        "breaker": {"window": 10, "open": "300ms", "max_open": "1s"},
        "shutdown": {"drain": "1s"},
    }
    for name, value in kind.policies.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return base
