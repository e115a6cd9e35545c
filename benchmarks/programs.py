"""The Go and Rust parts, built by their own toolchains, which build only what has changed; and broker_bridge with its
hot path as C."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
GO = ROOT / "benchmarks" / "go"
PAYMENTS = ROOT / "examples" / "payments"
BUILD_WITHIN_S = 900.0
LISTENING = re.compile(r"listening on (http://\S+),")


class BuildError(Exception):
    """A toolchain did not build its part."""


@cache
def go_peer() -> Path:
    """The hand-written Go loops."""
    result = GO / "peer"
    _build(["go", "build", "-o", str(result), "."], GO, {"CGO_ENABLED": "0"})
    return result


@cache
def payments() -> Path:
    """The Rust service of the examples, with optimisation."""
    command = ["cargo", "build", "--quiet", "--release", "--bin", "payments", "--target-dir", "target"]
    _build(command, PAYMENTS, {})
    return PAYMENTS / "target" / "release" / "payments"


@cache
def compiled_bridge() -> Path:
    """A folder to be put in front of Python's path: the package as ``make compiled`` builds it. Built of a copy, for a
    build leaves its parts beside the sources, where every later start would find them."""
    result = Path(tempfile.mkdtemp(prefix="bridge-compiled-"))
    atexit.register(shutil.rmtree, result, ignore_errors=True)
    source, pip = result / "source", [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source.mkdir()
    for name in ("broker_bridge", "docs/runbooks", "pyproject.toml", "README.md", "LICENSE"):
        whole = ROOT / name
        shutil.copytree(whole, source / name) if whole.is_dir() else shutil.copy(whole, source / name)
    _build(
        [*pip, "install", "--no-deps", "--target", str(result / "lib"), str(source)],
        ROOT,
        {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "1", "PIP_CONSTRAINT": str(ROOT / "constraints.txt")},
    )
    return result / "lib"


def _build(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_WITHIN_S,
    )
    if ended.returncode:
        raise BuildError(f"{' '.join(command)} in {folder}:\n{ended.stderr[-3000:]}")


@contextlib.contextmanager
def payments_at_work(log: Path) -> Iterator[str]:
    """The service on a free port with an effect log of its own; the answer is its URL."""
    command = [str(payments()), "serve", "--listen", "127.0.0.1:0", "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = LISTENING.search(line)
        if found is None:
            raise BuildError(f"payments did not start: {line!r}")
        yield found[1] + "/payments"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def effects(log: Path) -> list[str]:
    """The orders whose money was taken, once for each time it was."""
    with log.open(encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    return [entry["order_id"] for entry in entries if entry["kind"] == "applied"]
