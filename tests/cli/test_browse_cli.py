"""``dlq groups|list|show`` where letters are chosen by an expression, and where another system wrote them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bridge_on_servers import SCHEMAS, open_world, write_config

from broker_bridge.message import OutgoingRecord
from broker_bridge.transport.base import TopicSpec

ORDER = bytes.fromhex(json.loads((SCHEMAS / "golden" / "order-placed-v1.json").read_text())["hex"])
COMMAND = [str(Path(sys.executable).with_name("broker-bridge"))]
NAMING = "org.apache.kafka.connect.errors.DataException"


def bridge(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}
    command = arguments if arguments[0] == "replay" else ("dlq", *arguments)
    done = subprocess.run([*COMMAND, *command], capture_output=True, text=True, cwd=folder, timeout=60, env=environment)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


async def test_letters_are_chosen_by_what_they_say(
    kafka_bootstrap: str, redis_url: str, unique: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, bootstrap=kafka_bootstrap, redis_url=redis_url, prefix=unique)
    world = await open_world(config)
    try:
        for record in [*await world.produce(2, value=ORDER), *await world.produce(1, value=b"\x00\xff no Avro")]:
            await world.die(record)
        expression = 'amount_cents > 1000 and currency == "EUR" and placed_at > d"2026-01-01" and note == null'
        done = bridge(tmp_path, "list", "--where", expression)
        assert done.stdout.count("target_rejected") == 2
        assert "1 letters could not be decoded and so were not compared" in done.stderr
        result = json.loads(bridge(tmp_path, "groups", "--where", "amount_cents > 99999999", "--json").stdout)
        assert (result["groups"], result["not_compared"]["undecodable"]) == ([], 1)
        only = json.loads(bridge(tmp_path, "list", "--header", "ce_id=o-1", "--letter-to", "2", "--json").stdout)
        assert [one["position"].rpartition("/")[2] for one in only["letters"]] == ["1"]
        wrong = bridge(tmp_path, "groups", "--where", "amount_cents = 3", code=2).stderr
        assert "--where, character 14: '=' is not part of the language; equal is ==" in wrong

        admin = world.transport.admin()
        await admin.start()
        await admin.ensure([TopicSpec(f"{unique}-connect", 1)])
        await admin.stop()
        told = {"topic": world.route.topic, "partition": 0, "offset": 1, "exception.class.name": NAMING}
        headers = [(f"__connect.errors.{name}", str(value).encode()) for name, value in told.items()]
        headers.append(("__connect.errors.exception.stacktrace", b"at a.B(C.java)"))
        await world.write([OutgoingRecord(f"{unique}-connect", ORDER, b"k", headers, 0)])
        other = ("--topic", f"{unique}-connect")
        assert f"foreign_failure ({NAMING})" in bridge(tmp_path, "groups", *other).stdout
        shown = bridge(tmp_path, "show", "0/0", *other).stdout
        assert "Failed in Kafka Connect" in shown
        assert "C.java" not in shown
        assert "died" in shown, "the history of the message knows our own letter"
        assert "C.java" in bridge(tmp_path, "show", "0/0", *other, "--stacktrace").stdout

        # and home again, through the route's own lane: a message that the group never took
        (fresh,) = await world.produce(1, partition=1, value=ORDER)
        await world.commit_all()
        told |= {"partition": 1, "offset": fresh.offset}
        headers = [*fresh.headers, *((f"__connect.errors.{name}", str(value).encode()) for name, value in told.items())]
        now_ms = world.clock.now_ms()
        await world.write([OutgoingRecord(f"{unique}-connect", ORDER, fresh.key, headers, 0, now_ms)])
        other = (*other, "--partition", "1")
        planned = bridge(tmp_path, "replay", "plan", *other, "--why", "connect is fixed", "--out", "a.plan", "--json")
        assert json.loads(planned.stdout)["prediction"]["to_replay"] == 1
        bridge(tmp_path, "replay", "run", "a.plan", "--execute", "--yes")
        (copy,) = await world.read_all(world.route.redrive_topic)
        assert (copy.partition, copy.key, copy.value) == (1, fresh.key, ORDER)
        assert [header for header in copy.headers if not header[0].startswith("bridge-")] == list(fresh.headers)
        assert await world.complete(copy)
        assert "resolved" in bridge(tmp_path, "list", *other).stdout
    finally:
        await world.stop()
