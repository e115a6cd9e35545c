"""From a failing run to the shortest one that fails alike, and the part of its story that matters.

Steps are left out, half of them at a time, then fewer, as long as the same invariant still breaks (delta debugging).
What a step does is decided by its own seed, so leaving out others does not change it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from shop_world import ShopWorld, play
from worlds import Plan, Step

from broker_bridge import headers as h
from broker_bridge.message import Record
from broker_bridge.testing.history import Committed, Crashed, Event, Fault, Lost, StoreAnswered, StoreSilent, Written


class Shrunk(NamedTuple):
    """``plan`` still breaks ``invariant``; ``shop`` is its run."""

    plan: Plan
    invariant: str
    shop: ShopWorld


def invariant_of(text: str) -> str:
    """Which invariant a violation is of."""
    return text.split()[0].rstrip(":")


def shrink(plan: Plan, *, within_s: float = 20.0) -> Shrunk:
    """The shortest plan found in that time. Raises ``ValueError`` where ``plan`` breaks nothing."""
    shop = play(plan)
    if not shop.found:
        raise ValueError(f"the plan of seed {plan.seed} breaks nothing")
    invariant = invariant_of(shop.found[0])
    best = Shrunk(plan, invariant, shop)
    deadline = time.monotonic() + within_s
    size = len(plan.steps) // 2
    while size and time.monotonic() < deadline:
        shorter = _without_some(best, size, deadline)
        size = min(size, len(shorter.plan.steps)) if shorter is not best else size // 2
        best = shorter
    return best


def _without_some(best: Shrunk, size: int, deadline: float) -> Shrunk:
    """Try to leave out each run of ``size`` steps in turn."""
    at = 0
    while at < len(best.plan.steps) and time.monotonic() < deadline:
        plan = best.plan._replace(steps=_left(best.plan.steps, at, size))
        shop = play(plan)
        if shop.found and invariant_of(shop.found[0]) == best.invariant:
            best = Shrunk(plan, best.invariant, shop)
        else:
            at += size
    return best


def _left(steps: tuple[Step, ...], at: int, size: int) -> tuple[Step, ...]:
    return steps[:at] + steps[at + size :]


def story(shrunk: Shrunk) -> str:
    """What to tell of a failing seed: what broke, the steps that are left, and the events of the message concerned."""
    plan, shop = shrunk.plan, shrunk.shop
    lines = [
        f"seed {plan.seed}, a world of kind {plan.kind.name!r}, breaks {shrunk.invariant}:",
        *(f"    {text}" for text in shop.found[:3]),
        f"by {len(plan.steps)} steps: {', '.join(step.action for step in plan.steps)}",
        f"policies: {plan.policies}, {plan.partitions} partitions, calls take one of {plan.latency} s",
        "the message concerned:",
    ]
    return "\n".join([*lines, *_events(shop)])


def _events(shop: ShopWorld) -> Iterator[str]:
    first_ms = shop.history.events[0][0] if shop.history.events else 0
    for at_ms, event in shop.history:
        if _matters(shop, event):
            yield f"    {at_ms - first_ms:>7} ms  {_told(event)}"


def _matters(shop: ShopWorld, event: Event) -> bool:
    if isinstance(event, (Fault, Crashed, Lost, StoreSilent, StoreAnswered)):
        return True
    if isinstance(event, Written):
        item = shop.checker.item_at.get(event.record.position)
        return item is not None and item.key == shop.checker.suspect
    if isinstance(event, Committed):
        return shop.checker.suspect is None
    return getattr(event, "key", None) == shop.checker.suspect and shop.checker.suspect is not None


def _told(event: Event) -> str:
    name = type(event).__name__
    if isinstance(event, Written):
        return f"{name} {_record(event.record)}"
    if isinstance(event, Lost):
        return f"{name} {len(event.keys)} claims"
    if isinstance(event, Committed):
        return f"{name} {event.worker} " + ", ".join(f"{t}/{p} {o}" for (t, p), o in sorted(event.offsets.items()))
    kept = {part: value for part, value in event._asdict().items() if not isinstance(value, bytes)}
    return f"{name} " + " ".join(f"{part}={getattr(value, 'name', value)}" for part, value in kept.items())


def _record(record: Record) -> str:
    told = (h.ATTEMPT, h.DUE_MS, h.PARKED, h.HELD, h.ERROR_CODE, h.REPLAY_ID)
    return f"{record.position} " + " ".join(
        f"{name.removeprefix('bridge-')}={(value or b'').decode()}" for name, value in record.headers if name in told
    )
