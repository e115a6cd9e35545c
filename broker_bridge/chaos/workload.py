"""What is sent: the built-in orders with keys of every sort, or a user's own records, or values drawn from a schema."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from broker_bridge.chaos.random_values import random_value
from broker_bridge.contracts.contract import Contract
from broker_bridge.errors import NotFoundError, UsageError

KEYS = 40
HOT_SHARE = 0.15
DUPLICATE_SHARE = 0.03
RECENT = 200
MIX_IN_EVERY = 20
SOUND = ("ok", "transient", "stubborn")
"""Deeds that end well within their attempts."""

SHARES = (("transient", 0.02), ("stubborn", 0.01))
GARBAGE = (b"", b"\0", b"no frame at all", b"\0\x7f\xff\xff\xff unknown schema id", b"\0\0\0\0\1\xff\xff\xff\xff")
"""Bytes that do not decode: empty, cut short, foreign, of a schema nobody registered, damaged."""

SUBJECT = "chaos.Order"
SCHEMA = {
    "type": "record", "name": "Order", "namespace": "chaos",
    "fields": [
        {"name": "number", "type": "long"},
        {"name": "customer", "type": "string"},
        {"name": "deed", "type": "string"},
    ],
}  # fmt: skip


class Item(NamedTuple):
    """One event to be sent. Sending the same id again makes a duplicate. ``raw`` is sent as it is, in place of an
    encoded ``value``."""

    event_id: str
    record_key: str
    value: Any
    kind: str
    raw: bytes | None = None


class Workload(Protocol):
    """An endless supply."""

    def next(self) -> Item:
        """The next event."""


class Orders:
    """Built-in orders: many customers and a hot one, some duplicates, poison, transient failures, all by one seed.

    ``mix_in`` has further deeds sent soon, each exactly once; it may be called from another thread.
    """

    def __init__(self, seed: int, *, poison: float = 0.01) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - reproducible, guards nothing
        self._shares = (("poison", poison), ("garbage", poison / 2), *SHARES)
        self._extra: deque[str] = deque()
        self._number = 0
        self._recent: list[Item] = []

    def mix_in(self, *deeds: str) -> None:
        """Send these among the next events."""
        self._extra.extend(deeds)

    def next(self) -> Item:
        """See ``Workload``."""
        if self._recent and self._rng.random() < DUPLICATE_SHARE:
            return self._rng.choice(self._recent)
        self._number += 1
        deed = self._extra.popleft() if self._extra and self._number % MIX_IN_EVERY == 0 else self._deed()
        customer = "hot" if self._rng.random() < HOT_SHARE else f"c{self._rng.randrange(KEYS)}"
        value = {"number": self._number, "customer": customer, "deed": deed}
        raw = self._rng.choice(GARBAGE) if deed == "garbage" else None
        item = Item(f"o-{self._number:06d}", customer, value, deed, raw)
        if deed in SOUND:
            self._recent = [*self._recent[-RECENT:], item]
        return item

    def _deed(self) -> str:
        chance = self._rng.random()
        for deed, share in self._shares:
            if chance < share:
                return deed
            chance -= share
        return "ok"


class Drawn:
    """Random values of a contract, under keys of their own: what a route's handlers see are valid values, not sensible
    ones."""

    def __init__(self, seed: int, contract: Contract) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - reproducible, guards nothing
        self._contract = contract
        self._number = 0

    def next(self) -> Item:
        """See ``Workload``."""
        self._number += 1
        key = "hot" if self._rng.random() < HOT_SHARE else f"k{self._rng.randrange(KEYS)}"
        return Item(f"chaos-{self._number:06d}", key, random_value(self._contract.tree, self._rng), "drawn")


class Given:
    """The lines of a user's file, over and over, each time under new ids. A line is a value in JSON, or
    ``{"key": …, "value": …}``."""

    def __init__(self, path: Path) -> None:
        self._lines = list(_lines(path))
        if not self._lines:
            raise UsageError("holds no records", where=str(path))
        self._number = 0

    def next(self) -> Item:
        """See ``Workload``."""
        key, value = self._lines[self._number % len(self._lines)]
        self._number += 1
        return Item(f"chaos-{self._number:06d}", key or f"k{self._number % KEYS}", value, "given")


def _lines(path: Path) -> Iterator[tuple[str | None, Any]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=str(path)) from error
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except ValueError as error:
            raise UsageError("not a line of JSON", where=f"{path}:{number}") from error
        if isinstance(found, dict) and set(found) == {"key", "value"}:
            yield str(found["key"]), found["value"]
        else:
            yield None, found
