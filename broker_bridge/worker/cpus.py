"""How many processors this process may use: what it is bound to, and what its control groups allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """At least 1. A share of a processor does not count: a process would be throttled on it."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([bound, *quotas(root)])))


def quotas(root: Path = ROOT) -> Iterator[float]:
    """Processors that each control group around this process allows, where it sets a limit. A container sees its own
    group as the top, other processes see the path to theirs; every group on the path holds."""
    for controllers, path in _groups(root):
        if controllers == "":
            yield from _limits(root / "sys/fs/cgroup", path, _limit_of_version_2)
        elif "cpu" in controllers.split(","):
            yield from _limits(root / "sys/fs/cgroup/cpu", path, _limit_of_version_1)


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """The lines of /proc/self/cgroup: controllers (none in version 2) and path."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers, path


def _limits(top: Path, path: str, limit_of: Callable[[Path], float | None]) -> Iterator[float]:
    """The limits of the groups from ``path`` up to ``top``."""
    inner = top / path.lstrip("/")
    for folder in (inner, *inner.parents):
        if folder.is_relative_to(top) and (limit := limit_of(folder)) is not None:
            yield limit


def _limit_of_version_2(folder: Path) -> float | None:
    """``cpu.max`` is ``max 100000`` or ``150000 100000``: microseconds of processor in each period."""
    return _share(*(_read(folder / "cpu.max").split() or ["max", ""]))


def _limit_of_version_1(folder: Path) -> float | None:
    return _share(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _share(quota: str, period: str) -> float | None:
    """None where there is no limit (``max``, -1) or no such file."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
