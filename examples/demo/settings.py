"""What one run of the demo is asked to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mix:
    """What is in the stream besides plain orders. ``duplicates`` is the share of events that are sent twice."""

    duplicates: float
    poison_bytes: int
    poison_schema_id: int
    rejected: int

    @classmethod
    def of(cls, count: int) -> Mix:
        """The same shares whatever the size: of 20 000 events 20 + 20 are poison and 40 are refused by payments."""
        some = max(1, count // 1_000)
        return cls(duplicates=0.01, poison_bytes=some, poison_schema_id=some, rejected=2 * some)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of the command line. ``rate`` is in events a second."""

    count: int = 20_000
    rate: float = 950.0
    seed: int = 7
    stand_ins: bool = False
    keep: bool = False
    faults: bool = True
    as_json: bool = False

    @property
    def mix(self) -> Mix:
        return Mix.of(self.count)
