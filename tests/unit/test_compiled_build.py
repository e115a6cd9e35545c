"""The build with a compiled hot path: what it names is there, and the simulation is played on it (`make soak`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from benchmarks.programs import compiled_bridge  # noqa: E402 - the path comes first

HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]


def test_every_module_that_is_to_be_compiled_is_there() -> None:
    """The hook passes over names that it does not find."""
    named = HOOK["mypyc"]["include"]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name.lstrip("/")).is_file()] == []
    assert named == sorted(named)


def test_it_is_built_only_when_asked_for() -> None:
    assert HOOK["mypyc"]["enable-by-default"] is False


@pytest.mark.soak
def test_the_simulation_holds_on_the_compiled_engine(tmp_path: Path) -> None:
    """Without the sources in reach, so that nothing else can have been played."""
    for folder in ("tests", "schemas", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    environment = {**os.environ, "PYTHONPATH": str(compiled_bridge())}
    where = "import broker_bridge.worker.slots as slots; print(slots.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).suffix == ".so"
    played = subprocess.run(
        [sys.executable, "tests/simulation", "--seeds", "0:1300"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert played.returncode == 0, played.stdout[-3000:] + played.stderr[-3000:]
    assert " 0 seeds with a violation" in played.stdout
