"""What the payments stand-in did: one line an effect, written before the answer, and the decisions that follow."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

Answer = tuple[str, dict[str, Any] | str]
"""``applied`` or ``repeat`` with the payment, ``refused`` or ``fenced`` with the problem's code."""


class Delivery(NamedTuple):
    """What the headers of a request say."""

    key: str
    ce_id: str
    attempt: int
    crashes: int
    token: int
    replay_id: str | None
    origin: str


class Ledger:
    """The log and what is known from it. One process holds the file; half a line at its end is cut off."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.lines = 0
        self.applied = 0
        self._captured: dict[str, dict[str, Any]] = {}
        self._tokens: dict[str, int] = {}
        whole = path.read_bytes()
        kept = whole.rfind(b"\n") + 1
        os.ftruncate(self._file, kept)
        for line in whole[:kept].splitlines():
            self._learn(json.loads(line))

    def close(self) -> None:
        """Let another process have the file."""
        os.close(self._file)

    def deliver(self, delivery: Delivery, order: dict[str, Any], *, accept_declined: bool) -> Answer:
        """Decide, write the line, and only then answer."""
        kind, code = self._decide(delivery, order, accept_declined)
        entry: dict[str, Any] = {"seq": self.lines + 1, "kind": kind}
        if code:
            entry["code"] = code
        entry |= {"key": delivery.key, "ce_id": delivery.ce_id}
        entry |= {name: order[name] for name in ("order_id", "customer_id", "amount_cents", "currency")}
        entry |= {"attempt": delivery.attempt, "crashes": delivery.crashes, "token": delivery.token}
        entry |= {"replay_id": delivery.replay_id, "origin": delivery.origin, "at_ms": time.time_ns() // 1_000_000}
        os.write(self._file, json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        self._learn(entry)
        return kind, code or self._captured[delivery.key]

    def _decide(self, delivery: Delivery, order: dict[str, Any], accept_declined: bool) -> tuple[str, str]:
        if delivery.token < self._tokens.get(delivery.key, 0):
            return "fenced", "stale_token"
        captured = self._captured.get(delivery.key)
        if captured is not None:
            same = all(
                captured[name] == order[name] for name in ("order_id", "customer_id", "amount_cents", "currency")
            )
            return ("repeat", "") if same else ("refused", "key_conflict")
        if order["note"] == "card-declined" and not accept_declined:
            return "refused", "card_declined"
        return "applied", ""

    def _learn(self, entry: dict[str, Any]) -> None:
        self.lines = entry["seq"]
        key = entry["key"]
        self._tokens[key] = max(entry["token"], self._tokens.get(key, 0))
        if entry["kind"] == "applied":
            self.applied += 1
            self._captured.setdefault(key, payment(entry))


def payment(entry: dict[str, Any]) -> dict[str, Any]:
    """The answer follows from the logged line alone, so that a repeat gets the same one."""
    return {
        "payment_id": f"p-{entry['order_id']}",
        "order_id": entry["order_id"],
        "customer_id": entry["customer_id"],
        "amount_cents": entry["amount_cents"],
        "currency": entry["currency"],
        "sequence": entry["seq"],
        "captured_at": entry["at_ms"],
    }
