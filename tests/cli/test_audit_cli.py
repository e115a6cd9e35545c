"""``audit`` as an operator uses it: both sides, mistakes, and a watch that is scraped and ended; real servers."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bridge_on_servers import SCHEMAS, open_world, write_config
from replay_world import World

COMMAND = str(Path(sys.executable).with_name("broker-bridge"))
DEADLINE_S = 60
ORDER = bytes.fromhex(json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())["hex"])
Audit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
async def world(kafka_bootstrap: str, redis_url: str, unique: str, tmp_path: Path):
    opened = await open_world(write_config(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique))
    yield opened
    await opened.stop()


def bridge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, cwd=folder, timeout=DEADLINE_S, env=environment()
    )


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = bridge(tmp_path, "audit", *arguments)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}


@contextmanager
def serving(text: str) -> Iterator[str]:
    """An endpoint with this list."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/effects"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_both_sides_by_url_and_by_topic(world: World, audit: Audit) -> None:
    for record in await world.produce(2):
        await world.complete(record, output=True)
    await world.commit_all()
    topic = world.route.output_topic or ""
    by_topic = json.loads(audit("--target-topic", topic, "--json").stdout)
    assert (by_topic["balanced"], by_topic["target"]["applied"]) == (True, 2)
    lines = [f'{{"key":"/shop/orders#o-{n}"}}\n' for n in range(2)]
    with serving("".join(lines)) as url:
        assert "2 keys applied" in audit("--target-url", url).stdout
    with serving(lines[0] + lines[0]) as url:
        found = json.loads(audit("--target-url", url, "--json", code=1).stdout)
        assert (found["target"]["missing"], found["target"]["unexplained"]) == (1, 1)
        assert found["objections"] == ["the target's list disagrees"]
    with serving(lines[0] + '{"key":"cut') as url:
        assert f"{url}:2" in audit("--target-url", url, code=2).stderr
    assert "cannot be reached" in audit("--target-url", "http://127.0.0.1:1/x", code=4).stderr
    audit("--target-topic", "nowhere", code=3)


async def test_the_unaccounted_come_with_the_command_that_mends_them(
    world: World, audit: Audit, tmp_path: Path
) -> None:
    await world.produce(1, value=ORDER)
    await world.commit_all()
    found = json.loads(audit("--json", code=1).stdout)
    (lost,) = found["unaccounted_records"]
    assert lost["position"] == f"{world.route.topic}/0/0"
    assert lost["command"] == (
        "broker-bridge replay plan --source topic --partition 0 --from-offset 0 --to-offset 1 "
        "--allow-expired --why 'unaccounted by the audit'"
    )
    assert lost["command"] in audit(code=1).stdout
    planned = bridge(tmp_path, *shlex.split(lost["command"])[1:], "--json")
    assert json.loads(planned.stdout)["prediction"]["to_replay"] == 1, planned.stderr


def test_options_that_make_no_sense_are_refused_before_anything_is_asked(audit: Audit, tmp_path: Path) -> None:
    """Nobody listens where this configuration points: each of these is told without trying."""
    write_config(tmp_path, bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0", prefix="x")
    (tmp_path / "log").write_text("")
    for wrong, said in {
        ("--target-url", "ftp://x/y"): "http:// or https://",
        ("--target-url", "http://ada:pw@x/y"): "user or password",
        ("--target-url", "http://169.254.169.254/"): "link-local",
        ("--target-url", "http://x/", "--target-topic", "t"): "one list",
        ("--target-log", "log", "--target-topic", "t"): "one list",
        ("--target-id-header", "x"): "--target-topic",
        ("--late-after", "1s"): "target's list",
        ("--late-after", "soon", "--target-topic", "t"): "--late-after",
        ("--every", "1s"): "--watch",
        ("--listen", "127.0.0.1:0"): "--watch",
        ("--watch", "--every", "1ms"): "--every",
        ("--watch", "--window", "ever"): "--window",
        ("--watch", "--expect-drained"): "--watch",
        ("--watch", "--since", "1h"): "--watch",
    }.items():
        assert said in audit(*wrong, code=2).stderr, wrong
    audit("--target-log", "none", code=3)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextmanager
def a_watch(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command, watching; what it says on stderr is in the file ``errors``."""
    command = [COMMAND, "audit", "--watch", "--every", "200ms", "--listen", "127.0.0.1:0", *options]
    with (
        (folder / "errors").open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder, env=environment()
        ) as process,
    ):
        killer = threading.Timer(DEADLINE_S, process.kill)
        killer.start()
        try:
            yield process
        finally:
            killer.cancel()
            process.kill()


def site_of(folder: Path) -> str:
    """Where the watch said it listens."""
    lines = map(json.loads, (folder / "errors").read_text().splitlines())
    return str(next(line["url"] for line in lines if line["event"] == "health_listening"))


async def test_a_watch_is_scraped_and_ends_at_sigterm(world: World, tmp_path: Path) -> None:
    done, lost = await world.produce(2)
    await world.complete(done)
    await world.commit_all()
    with a_watch(tmp_path, "--json") as process:
        assert process.stdout is not None
        rounds = map(json.loads, process.stdout)
        first, second = next(rounds), next(rounds)
        assert (first["standing"], second["standing"]) == ("suspect", "unbalanced")
        assert (second["completed"], second["unaccounted"]) == (1, 1)
        url = site_of(tmp_path)
        status, text = get(f"{url}/health/ready")
        assert (status, "1 unaccounted" in text) == (503, True)
        assert 'broker_bridge_audit_balanced{route="payments"} 0.0' in get(f"{url}/metrics")[1]
        await world.complete(lost)
        assert next(one for one in rounds if one["standing"] == "balanced")["completed"] == 2
        assert get(f"{url}/health/ready")[0] == 200
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait() == 0
    assert "Traceback" not in (tmp_path / "errors").read_text()


async def test_a_watch_says_for_people_what_each_round_found_and_ends_at_ctrl_c(world: World, tmp_path: Path) -> None:
    (record,) = await world.produce(1)
    await world.complete(record)
    await world.commit_all()
    with a_watch(tmp_path, "--window", "all") as process:
        assert process.stdout is not None
        assert "balanced: The books balance: 1 produced = 1 completed." in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 0
