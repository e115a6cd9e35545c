"""``dlq``, ``replay`` and ``audit`` as an operator uses them: the installed command, real servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bridge_on_servers import SCHEMAS, open_world, write_config
from replay_world import World

from broker_bridge import headers as h

GOLDEN = json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())
ORDER = bytes.fromhex(GOLDEN["hex"])
COMMAND = [str(Path(sys.executable).with_name("broker-bridge"))]
DEADLINE_S = 60
HELP = ["dlq", "dlq groups", "dlq list", "dlq show", "replay", "replay plan", "replay run", "replay status", "audit"]


@pytest.fixture
async def world(kafka_bootstrap: str, redis_url: str, unique: str, tmp_path: Path):
    opened = await open_world(write_config(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique))
    yield opened
    await opened.stop()


@pytest.fixture
def bridge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S, env=environment()
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}


async def dead_orders(world: World, count: int) -> None:
    for record in await world.produce(count, value=ORDER):
        await world.die(record)
    await world.commit_all()


async def test_the_whole_round(world: World, bridge, tmp_path: Path) -> None:
    done, *dead = await world.produce(4, value=ORDER)
    await world.complete(done, output=True)
    for record in dead:
        await world.die(record)
    (poison,) = await world.produce(1, partition=1, value=b"\x00\xff no Avro \x1b[31m")
    await world.die(poison, "avro_malformed", "")
    await world.commit_all()

    text = bridge("dlq", "groups").stdout
    assert "target_rejected (card_expired)" in text
    assert "broker-bridge replay plan --fingerprint" in text
    groups = json.loads(bridge("dlq", "groups", "--json").stdout)
    assert [(one["code"], one["count"], one["waiting"]) for one in groups["groups"]] == [
        ("target_rejected", 3, 3),
        ("avro_malformed", 1, 1),
    ]
    bridge("dlq", "groups", "--expect-none", code=1)

    listed = json.loads(bridge("dlq", "list", "--code", "target_rejected", "--limit", "2", "--json").stdout)
    assert listed["more"] is True
    assert [one["state"] for one in listed["letters"]] == ["waiting", "waiting"]
    assert "customer-1" not in bridge("dlq", "list").stdout, "keys are shown as hashes"

    shown = bridge("dlq", "show", "0/0").stdout
    for part in ('"order_id": "o-000001"', '"channel": "web"', "customer-1", "no <b>thanks</b>", "Target refused"):
        assert part in shown, part
    details = json.loads(bridge("dlq", "show", "0/0", "--json").stdout)
    assert details["problem"]["code"] == "target_rejected"
    assert details["value"]["amount_cents"] == 1299
    raw = bridge("dlq", "show", listed["letters"][0]["position"]).stdout
    assert raw.splitlines()[0] == shown.splitlines()[0]
    poisoned = bridge("dlq", "show", "1/0")
    assert "not decoded" in poisoned.stdout
    assert "\x1b" not in poisoned.stdout

    planned = json.loads(bridge("replay", "plan", "--why", "cards work", "--out", "a.plan", "--json").stdout)
    assert (planned["prediction"]["to_replay"], planned["prediction"]["undecodable"]) == (3, 1)
    preview = bridge("replay", "run", "a.plan").stdout
    assert "would be sent" in preview
    assert await world.read_all(world.route.redrive_topic) == []
    assert "Nothing was sent" in preview
    bridge("replay", "status", "a.plan", code=1)
    bridge("replay", "run", "a.plan", "--execute", code=2)
    assert "has 3 items, not 4" in bridge("replay", "run", "a.plan", "--execute", "--confirm-count", "4", code=2).stderr
    assert await world.read_all(world.route.redrive_topic) == []

    sent = json.loads(bridge("replay", "run", "a.plan", "--execute", "--confirm-count", "3", "--json").stdout)
    assert (sent["id"], sent["sent"]) == (planned["id"], 3)
    assert json.loads(bridge("replay", "run", "a.plan", "--execute", "--yes", "--json").stdout)["sent"] == 0
    bridge("replay", "status", "a.plan", "--wait", "--timeout", "1s", code=1)
    assert "Not all is settled yet" in bridge("replay", "verify", "a.plan", code=1).stdout
    assert await world.work_redrive() == (3, 0, 0)
    status = json.loads(bridge("replay", "status", "a.plan", "--wait", "--json").stdout)
    assert (status["good"], status["counts"]) == (True, {"completed": 3})
    verified_and_recorded(bridge, planned["id"], status["runs"])

    assert "Nothing to replay" in bridge("replay", "plan", "--why", "again", code=1).stdout
    assert not any(name.startswith("replay-") for name in os.listdir(tmp_path))
    books = json.loads(bridge("audit", "--expect-drained", "--json").stdout)
    assert (books["produced"], books["completed"], books["dead"], books["balanced"]) == (5, 4, 1, True)
    assert "The books balance: 5 produced = 4 completed + 1 dead." in bridge("audit").stdout
    without = json.loads(bridge("audit", "--outputs", "--json", code=1).stdout)
    assert without["outputs"]["missing"] == 3


def verified_and_recorded(bridge, plan_id: str, runs_told: list[dict[str, Any]]) -> None:
    assert "Everything came as the plan predicted." in bridge("replay", "verify", "a.plan", "--wait").stdout
    verified = json.loads(bridge("replay", "verify", "a.plan", "--json").stdout)
    assert (verified["verdict"], verified["items"]) == (
        "as_predicted",
        [{"predicted": "completed", "actual": "completed", "count": 3}],
    )
    runs = [(run["action"], run["details"].get("outcome"), run["counts"].get("sent")) for run in runs_told]
    ran = [("replay_started", None, None), ("replay_ended", "done", 3), ("replay_started", None, None)]
    assert [run for run in runs if run[0] in ("replay_started", "replay_ended")] == [*ran, ("replay_ended", "done", 0)]
    told = json.loads(bridge("history", "--plan", plan_id, "--json").stdout)["operations"]
    assert [one["details"]["verdict"] for one in told if one["action"] == "replay_verified"][-1] == "as_predicted"


async def test_audit_against_the_targets_log(world: World, bridge, tmp_path: Path) -> None:
    records = await world.produce(3, key="customer-7")
    for record in records:
        await world.complete(record)
    await world.commit_all()
    lines = [{"key": f"/shop/orders#o-{n}", "kind": "applied", "origin": str(records[n].position)} for n in range(3)]

    def log_of(*entries: dict[str, object]) -> str:
        (tmp_path / "target.ndjson").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return str(tmp_path / "target.ndjson")

    assert "3 keys applied" in bridge("audit", "--target-log", log_of(*lines)).stdout
    for name, broken in {
        "missing": lines[:2],
        "unexplained": [*lines, lines[1]],
        "disordered": [lines[1], lines[0], lines[2]],
        "extra": [*lines, {"key": "nobody"}],
    }.items():
        result = json.loads(bridge("audit", "--target-log", log_of(*broken), "--json", code=1).stdout)
        assert result["target"][name] == 1, name
        assert result["balanced"] is False
    announced = [*lines, {**lines[1], "kind": "repeat", "attempt": 2}]
    assert json.loads(bridge("audit", "--target-log", log_of(*announced), "--json").stdout)["target"]["repeats"] == 1
    (tmp_path / "target.ndjson").write_text('{"key":"k"}\n{"kind":"applied"}\n')
    assert "target.ndjson:2" in bridge("audit", "--target-log", "target.ndjson", code=2).stderr
    bridge("audit", "--target-log", "no.ndjson", code=3)


async def test_unbalanced_books_name_the_record(world: World, bridge) -> None:
    await world.produce(1)
    await world.commit_all()
    text = bridge("audit", code=1).stdout
    assert f"unaccounted {world.route.topic}/0/0" in text
    assert "The books do NOT balance" in text


async def wait_for_copies(world: World, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while sum(end for _, end in (await world.reader.offsets([world.route.redrive_topic])).values()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
async def test_a_run_that_was_ended_goes_on_where_it_was(
    world: World, bridge, tmp_path: Path, how: signal.Signals, code: int
) -> None:
    """Row 45, I17."""
    await dead_orders(world, 60)
    bridge("replay", "plan", "--why", "x", "--out", "a.plan")
    arguments = ["replay", "run", "a.plan", "--execute", "--confirm-count", "60", "--canary", "none"]
    process = subprocess.Popen(  # noqa: ASYNC220  nothing else runs in this loop
        [*COMMAND, *arguments, "--rate", "10"],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        await wait_for_copies(world, 20, process)
        assert "another run" in bridge(*arguments, code=5).stderr, "of the same file, on the same machine: at once"
        process.send_signal(how)
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == code, err
    if how is not signal.SIGKILL:
        assert "the same command goes on from here" in out
    before = len(await world.read_all(world.route.redrive_topic))
    assert 20 <= before < 60
    again = json.loads(bridge(*arguments, "--json").stdout)
    assert (again["sent"], again["headings"]["sent_before"]) == (60 - before, before)
    copies = await world.read_all(world.route.redrive_topic)
    letters = Counter(h.text_of(copy.headers, h.DEAD_LETTER) for copy in copies)
    assert len(letters) == 60
    told = json.loads(bridge("history", "--action", "replay_ended", "--json").stdout)["operations"]
    ended = [one["details"]["outcome"] for one in told if one["plan_id"] == again["id"]]
    assert ended == (["done"] if how is signal.SIGKILL else ["stopped", "done"])
    assert set(letters.values()) == {1}


async def test_a_damaged_plan_is_refused_by_name(world: World, bridge, tmp_path: Path) -> None:
    await dead_orders(world, 2)
    bridge("replay", "plan", "--why", "x", "--out", "a.plan")
    whole = (tmp_path / "a.plan").read_bytes()
    (tmp_path / "cut.plan").write_bytes(whole[:-40])
    (tmp_path / "edited.plan").write_bytes(whole.replace(b'"why":"x"', b'"why":"y"'))
    (tmp_path / "elsewhere.plan").write_bytes(re.sub(rb'"destination":"[^"]+"', b'"destination":"other"', whole))
    for name, says in {"cut": "cut off", "edited": "was changed", "elsewhere": "was changed"}.items():
        for command in (["run", "--execute", "--yes"], ["status"]):
            done = bridge("replay", command[0], f"{name}.plan", *command[1:], code=2)
            assert f"{name}.plan" in done.stderr
            assert says in done.stderr
    bridge("replay", "run", "no.plan", code=3)
    bridge("replay", "plan", "--why", "x", "--out", "a.plan", code=2)
    assert (tmp_path / "a.plan").read_bytes() == whole


async def test_wrong_input_is_a_sentence(world: World, bridge) -> None:
    assert "routes are: payments" in bridge("dlq", "groups", "--route", "nope", code=3).stderr
    assert "partition/offset" in bridge("dlq", "show", "first", code=2).stderr
    assert "no dead letter at this place" in bridge("dlq", "show", "0/99", code=3).stderr
    assert "is not a time" in bridge("dlq", "list", "--since", "yesterday", code=2).stderr
    assert "No dead letters" in bridge("dlq", "groups").stdout
    bridge("dlq", "list", "--state", "lost", code=2)
    bridge("replay", "plan", code=2)
    assert "needs a reason" in bridge("replay", "plan", "--why", " ", code=2).stderr
    bridge("replay", "status", "no.plan", "--wait", "--timeout", "soon", code=2)
    bridge("audit", "--partition", "9", code=3)
    bridge("dlq", "groups", "--config", "no.toml", code=2)


def test_servers_away_is_a_sentence(bridge, tmp_path: Path) -> None:
    write_config(tmp_path, bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0", prefix="x")
    for command in (["dlq", "groups"], ["replay", "plan", "--why", "x"], ["audit"]):
        done = bridge(*command, code=4)
        assert "127.0.0.1:1" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [*HELP, "replay verify", "replay pause", "replay resume"],
)
def test_help_has_an_example_and_imports_no_client(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND, *command.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(),
    )
    assert done.returncode == 0
    assert "Example:" in done.stdout
    if " " in command or command == "audit":
        assert "Exit status:" in done.stdout
    for heavy in ("aiokafka", "redis", "fastavro", "pydantic"):
        assert not re.search(rf"\| +{heavy}\b", done.stderr), heavy
