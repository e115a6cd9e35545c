"""The demo as a program: it holds, and however it ends, no process is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHIN_S = 240.0
GONE_WITHIN_S = 20.0


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the run's folder; every program of a run does, its guard included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(folder).encode() in word for word in words) and int(path.parent.name) != os.getpid():
            found.append(f"{path.parent.name}: {b' '.join(words).decode(errors='replace')}")
    return found


def wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    wait_for(lambda: processes_of(tmp_path) == [], GONE_WITHIN_S)  # a guard leaves a moment after its server
    left = processes_of(tmp_path)
    for one in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(one.partition(":")[0]), signal.SIGKILL)
    assert left == []


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "examples" / "demo"), "--stand-ins", "--folder", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def is_streaming(folder: Path) -> bool:
    manifest = folder / "orders.manifest.ndjson"
    return manifest.exists() and manifest.stat().st_size > 50_000


def test_the_whole_story_holds_with_stand_ins(folder: Path) -> None:
    demo = start(folder, "--count", "3000", "--rate", "300")
    out, err = demo.communicate(timeout=WITHIN_S)
    assert (demo.returncode, err) == (0, ""), out
    assert "Everything holds" in out
    report = json.loads((folder / "report.json").read_text())
    assert report["holds"] is True
    assert [check["name"] for check in report["checks"] if not check["holds"]] == []
    assert [fault["ended_s"] is not None for fault in report["faults"]] == [True] * 4
    counts = {check["name"]: check["counts"] for check in report["checks"]}
    assert counts["accounts"] == {"produced": 3_030, "completed": 2_994, "dead": 6, "dropped": 30}
    assert wait_for(lambda: processes_of(folder) == [], GONE_WITHIN_S)


@pytest.mark.parametrize(
    ("signum", "status"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak),
        (signal.SIGKILL, -9),
    ],
)
def test_a_demo_that_is_ended_in_the_middle_leaves_no_process(folder: Path, signum: int, status: int) -> None:
    demo = start(folder, "--count", "20000")
    try:
        assert wait_for(lambda: is_streaming(folder) or demo.poll() is not None, WITHIN_S)
        assert len(processes_of(folder)) > 6
        demo.send_signal(signum)
        demo.communicate(timeout=GONE_WITHIN_S)
    finally:
        demo.kill()
    assert demo.returncode == status
    assert wait_for(lambda: processes_of(folder) == [], GONE_WITHIN_S)


@pytest.mark.soak
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_while_its_servers_boot_leaves_no_process(folder: Path, signum: int) -> None:
    demo = start(folder)
    try:
        assert wait_for(lambda: (folder / "stack" / "stack.json").exists() or demo.poll() is not None, WITHIN_S)
        demo.send_signal(signum)
        demo.communicate(timeout=GONE_WITHIN_S)
    finally:
        demo.kill()
    assert wait_for(lambda: processes_of(folder) == [], GONE_WITHIN_S)


@pytest.mark.soak
def test_a_demo_that_nobody_reads_any_more_leaves_no_process(folder: Path) -> None:
    demo = start(folder)
    assert demo.stdout is not None
    assert demo.stderr is not None
    try:
        assert wait_for(lambda: is_streaming(folder) or demo.poll() is not None, WITHIN_S)
        demo.stdout.close()
        assert demo.wait(WITHIN_S) == 141
        assert demo.stderr.read() == ""
    finally:
        demo.kill()
        demo.stderr.close()
    assert wait_for(lambda: processes_of(folder) == [], GONE_WITHIN_S)


def test_a_second_demo_in_the_same_folder_is_refused(folder: Path) -> None:
    first = start(folder)
    try:
        assert wait_for((folder / ".lock").exists, WITHIN_S)
        second = start(folder)
        _, err = second.communicate(timeout=GONE_WITHIN_S)
        assert second.returncode == 2
        assert "another demo runs" in err
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=GONE_WITHIN_S)
