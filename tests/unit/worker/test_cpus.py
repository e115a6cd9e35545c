"""How many processors a process may use, by what its control groups say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker_bridge.worker.cpus import quotas, usable_cpus


def system(root: Path, files: dict[str, str]) -> Path:
    """A file system root with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, [1.5]),
        (
            {
                "proc/self/cgroup": "0::/app.slice/bridge.service\n",
                "sys/fs/cgroup/app.slice/bridge.service/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/app.slice/cpu.max": "200000 100000\n",
            },
            [4.0, 2.0],
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/0f\n3:cpu,cpuacct:/docker/0f\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            [3.0],
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            [],
        ),
        ({"proc/self/cgroup": "nonsense\n0::/\n", "sys/fs/cgroup/cpu.max": "ten lots\n"}, []),
    ],
)
def test_every_group_around_the_process_counts(tmp_path: Path, files: dict[str, str], expected: list[float]) -> None:
    assert list(quotas(system(tmp_path, files))) == expected


def test_the_least_counts_and_it_is_at_least_one(tmp_path: Path) -> None:
    bound = len(os.sched_getaffinity(0))
    assert usable_cpus(tmp_path) == bound
    group = {"proc/self/cgroup": "0::/\n"}
    assert usable_cpus(system(tmp_path, {**group, "sys/fs/cgroup/cpu.max": "20000 100000\n"})) == 1
    assert usable_cpus(system(tmp_path, {**group, "sys/fs/cgroup/cpu.max": "1990000 1000000\n"})) == 1
    assert usable_cpus(system(tmp_path, {**group, "sys/fs/cgroup/cpu.max": "99900000 100000\n"})) == bound
