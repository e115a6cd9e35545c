"""One word for all that happened in a run: equal for equal histories."""

from __future__ import annotations

import hashlib

from runs import silence
from shop_world import simulate

from broker_bridge.headers import TRACE, TRACEPARENT
from broker_bridge.message import Record


def digest(seed: int) -> str:
    """Of that seed's run. Sets come in any order; trace ids and the probes of an absent store are always random."""
    silence()
    shop = simulate(seed)
    ours = {item.key for item in shop.checker.first}
    lines = [
        f"{at} {type(event).__name__} {[_plain(part) for part in event]}"
        for at, event in shop.history
        if getattr(event, "key", None) is None or event.key in ours
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, frozenset | dict):
        return sorted(map(repr, value.items() if isinstance(value, dict) else value))
    if isinstance(value, Record):
        headers = [header for header in value.headers if header[0] not in (TRACEPARENT, TRACE)]
        return value.position, value.value, headers
    return value
