"""What the figures were made on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("aiokafka", "redis", "hiredis", "uvloop", "aiohttp", "fastavro", "confluent-kafka", "faststream")


def facts(versions: dict[str, str]) -> dict[str, str]:
    """Words and values, in the order they are shown; ``versions`` are those of the servers."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    found = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "broker_bridge": f"{_version('broker-bridge')}, commit {_commit()}",
        "processor": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "load at the start": f"{load} (1, 5, 15 minutes)",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
        "Kafka": f"{versions.get('kafka', '?')}, one broker on this machine",
        "Redis": f"{versions.get('redis', '?')}, on this machine",
        "Go": _first_line("go", "version"),
        "Rust": _first_line("rustc", "--version"),
    }
    return {name: value for name, value in found.items() if value}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """Which one is measured, and whether files differ from it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty= and changes not committed"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=Path(__file__).parent,
    )
    return asked.stdout.strip() or "unknown"


def _first_line(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        return ""
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=30)
    return ended.stdout.splitlines()[0].removeprefix("go version ") if ended.stdout else ""
