"""`broker-bridge schemas push` and `pull` as a person or a pipeline runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCHEMAS = Path(__file__).parents[2] / "schemas"
COMMAND = Path(sys.executable).with_name("broker-bridge")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with a copy of the project's schemas."""
    shutil.copytree(SCHEMAS, tmp_path / "schemas")
    return tmp_path


def run(home: Path, *arguments: str, status: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(COMMAND), "schemas", *arguments],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environ},
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def ids(folder: Path) -> list[str]:
    return (folder / "ids.jsonl").read_text(encoding="utf-8").splitlines()


def answer(home: Path, *arguments: str, status: int = 0) -> Any:
    return json.loads(run(home, *arguments, "--json", status=status).stdout)


def test_push_then_pull(home: Path, schema_server: str) -> None:
    (home / "bridge.toml").write_text(f'[registry]\nurl = "{schema_server}"\n', encoding="utf-8")
    shown = run(home, "push", "--dry-run").stdout
    assert "3 to do" in shown
    assert answer(home, "push", "--dry-run")["done"] == []
    assert "add --yes" in run(home, "push", status=2).stderr
    assert "add --dry-run, or --yes" in run(home, "push", "--json", status=2).stderr
    pushed = answer(home, "push", "--yes")
    places = [(one["action"], one["subject"], one["version"], one["id"]) for one in pushed["done"]]
    assert places == [
        ("register", "shop.OrderPlaced", 1, 1),
        ("register", "shop.OrderPlaced", 2, 2),
        ("register", "shop.PaymentCaptured", 1, 3),
    ]
    assert run(home, "push").stdout.endswith("in step: nothing to do\n")
    pulled = answer(home, "pull", "shop.OrderPlaced", "--dir", "new/schemas", "--yes")
    assert [one["action"] for one in pulled["done"]] == ["write file", "write file"]
    assert answer(home, "check", "--dir", "new/schemas")["checked"] == 2
    ours, theirs = ([json.loads(one) for one in ids(home / folder)] for folder in ("schemas", "new/schemas"))
    assert ours[:2] == [{key: value for key, value in line.items() if key != "guid"} for line in theirs]


def test_conflicts_change_nothing(home: Path, schema_server: str) -> None:
    run(home, "push", "--registry", schema_server, "--yes")
    schema = json.loads((home / "schemas/shop.PaymentCaptured/v1.avsc").read_text(encoding="utf-8"))
    schema["fields"].append({"name": "tip", "type": "long"})
    (home / "schemas/shop.PaymentCaptured/v2.avsc").write_text(json.dumps(schema), encoding="utf-8")
    found = answer(home, "push", "--registry", schema_server, "--yes", status=1)
    assert (found["ok"], found["conflicts"], found["done"]) == (False, 1, [])
    (conflict,) = [one for one in found["plan"] if one["action"] == "conflict"]
    assert "tip" in conflict["detail"]
    assert "1 in conflict: nothing was changed" in run(home, "push", "--registry", schema_server, status=1).stdout
    assert len(ids(home / "schemas")) == 3


def test_which_registry(home: Path, schema_server: str) -> None:
    assert "no such file" in run(home, "push", "--yes", status=2).stderr
    (home / "bridge.toml").write_text("[bridge]\n", encoding="utf-8")
    assert "no registry is named" in run(home, "pull", "--yes", status=2).stderr
    run(home, "push", "--dry-run", BROKER_BRIDGE_REGISTRY__URL=schema_server)
    away = run(home, "push", "--yes", "--registry", "http://127.0.0.1:9", status=4, BROKER_BRIDGE_REGISTRY__RETRIES="0")
    assert "registry_unavailable" in away.stderr
    beyond = run(home, "pull", "--yes", "--registry", "http://registry.example", status=5)
    assert "unencrypted" in beyond.stderr
    assert "has no subject" in run(home, "pull", "n.Nope", "--registry", schema_server, "--yes", status=3).stderr
    secret = run(home, "push", "--registry", "http://ann:canary@127.0.0.1:9", "--yes", status=2)
    assert "canary" not in secret.stderr
    assert "must have no credentials" in secret.stderr
