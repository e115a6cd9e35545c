"""Moments between two steps of the engine at which a worker can be made to die, and what it held when it did.

::

         before-claim   after-claim    after-effect                     after-complete
              │ mid-claim │                 │                                 │
    read ──── claim ────────── effect ───────── send ── acknowledged ── complete ───── commit
                                                              │
                                            after-retry-ack, after-dead-letter-ack
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

MOMENT_VARIABLE = "CHAOS_MOMENT"
"""The folder where workers find what to aim at, and leave word of having hit it."""


class Moment(enum.StrEnum):
    """When to die."""

    BEFORE_CLAIM = "before-claim"
    MID_CLAIM = "mid-claim"
    """Redis has applied the first of the scripts that a large batch takes; the second was never sent, and the answer to
    the first is never seen."""
    AFTER_CLAIM = "after-claim"
    AFTER_EFFECT = "after-effect"
    AFTER_RETRY_ACK = "after-retry-ack"
    AFTER_DEAD_LETTER_ACK = "after-dead-letter-ack"
    AFTER_COMPLETE = "after-complete"
    DURING_DRAIN = "during-drain"
    """Partitions are being given up: what was not begun is given back, or all that had begun has ended; nothing is
    committed yet."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Which moment, and which time that a worker comes to it."""

    moment: Moment
    occurrence: int = 1


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A worker died at the moment. Messages are told by their claim keys, in hex.

    ``keys``: those it was about. ``untouched``: those of the same batch whose claim had not been asked for.
    ``begun``: handed to the target and not settled, whatever the target had made of them by then: only these may have
    an effect more.
    """

    moment: Moment
    worker: int
    at_ms: float
    keys: tuple[str, ...]
    untouched: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()


class Crossroads:
    """The two small files by which the harness and its workers speak: written whole, never changed."""

    def __init__(self, folder: Path) -> None:
        self._aim = folder / "aim.json"
        self._strike = folder / "strike.json"

    def take_aim(self, aim: Aim) -> None:
        """From now on, the first worker that comes to the moment dies; one only."""
        scratch = self._aim.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(aim)), encoding="utf-8")
        scratch.replace(self._aim)

    def aim(self) -> Aim | None:
        """What to aim at; None as long as nobody said, and once it was hit."""
        if self._strike.exists() or not self._aim.exists():
            return None
        found = json.loads(self._aim.read_text(encoding="utf-8"))
        return Aim(moment=Moment(found["moment"]), occurrence=found["occurrence"])

    def leave_word(self, strike: Strike) -> bool:
        """Say that it is hit; False where another worker was first. In the kernel when this returns."""
        try:
            file = os.open(self._strike, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        os.write(file, json.dumps(asdict(strike)).encode() + b"\n")
        os.close(file)
        return True

    def strike(self) -> Strike | None:
        """How it was hit; None where it was not, or is being."""
        if not self._strike.exists() or not (text := self._strike.read_text(encoding="utf-8")).endswith("\n"):
            return None
        found = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("keys", "untouched", "begun")}
        return Strike(moment=Moment(found["moment"]), worker=found["worker"], at_ms=found["at_ms"], **lists)


def in_hex(keys: Iterable[bytes]) -> tuple[str, ...]:
    """Claim keys as they are written down."""
    return tuple(sorted(key.hex() for key in keys))
