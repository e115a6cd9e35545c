"""Where the demo's things are: the project's folders, and what one run writes under ``.bridge/demo``."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(__file__).resolve().parent
SCHEMAS = ROOT / "schemas"
ORDERS_SOURCE = ROOT / "examples" / "orders"
PAYMENTS_SOURCE = ROOT / "examples" / "payments"


def broker_bridge_command() -> str:
    """The installed command, of the same environment as this interpreter where it has one."""
    beside = Path(sys.executable).with_name("broker-bridge")
    return str(beside) if beside.exists() else shutil.which("broker-bridge") or str(beside)


@dataclass(frozen=True)
class RunFolder:
    """What one run writes. ``prepare`` begins with an empty folder; nothing that a person put there is touched."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "bridge.toml"

    @property
    def stack(self) -> Path:
        return self.root / "stack"

    @property
    def manifest(self) -> Path:
        """What orders was told by Kafka, a line for each acknowledged record."""
        return self.root / "orders.manifest.ndjson"

    @property
    def effects(self) -> Path:
        """Payments' own log."""
        return self.root / "payments.effects.ndjson"

    @property
    def plan(self) -> Path:
        return self.root / "card-declined.plan"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def worker_logs(self) -> list[Path]:
        return sorted(self.root.glob("worker-*.log"))

    def prepare(self) -> None:
        """Remove what earlier runs wrote, by name. The stack's own folder is wiped by the stack."""
        self.root.mkdir(parents=True, exist_ok=True)
        for pattern in ("*.log", "*.out", "*.ndjson", "*.plan", "*.progress", "*.toml", "report.json"):
            for found in self.root.glob(pattern):
                with contextlib.suppress(IsADirectoryError):
                    found.unlink()
