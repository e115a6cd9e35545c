"""Relay processes as installed, and what they put into a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from worker_process import COMMAND, WAIT_S, eventually

from broker_bridge import Record
from broker_bridge.transport.base import TopicSpec
from broker_bridge.transport.kafka import KafkaSettings, KafkaTransport

LEASE_MS = 1_500


@dataclass
class RelayRig:
    """Relays of one database into one Kafka. ``close`` ends those that still run."""

    folder: Path
    kafka: str
    url: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        text = f'[bridge]\nservice = "relay"\n[kafka]\nbootstrap = "{self.kafka}"\ndelivery_timeout = "6s"\n'
        (self.folder / "bridge.toml").write_text(text)
        self.transport = KafkaTransport(KafkaSettings(bootstrap=self.kafka))

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """A relay; its log is ``relay-<n>.log``."""
        arguments = ["outbox", "relay", "--lease-ms", str(LEASE_MS), "--batch-rows", "50", "--poll-ms", "20", *options]
        with (self.folder / f"relay-{len(self.started)}.log").open("wb") as log:
            made = subprocess.Popen(
                [str(COMMAND), *arguments], cwd=self.folder, stdout=log, stderr=log, env=self._environment()
            )
        self.started.append(made)
        return made

    def command(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Run ``broker-bridge outbox …`` to its end."""
        done = subprocess.run(
            [str(COMMAND), "outbox", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            env=self._environment(),
        )
        assert done.returncode == expect, f"exit {done.returncode}: {done.stdout[-500:]} {done.stderr[-2_000:]}"
        assert "Traceback" not in done.stderr
        return done

    def status(self, expect: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command("status", "--json", expect=expect).stdout)
        return found

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "BROKER_BRIDGE_OUTBOX_DATABASE": self.url}

    def running(self) -> list[subprocess.Popen[bytes]]:
        return [relay for relay in self.started if relay.poll() is None]

    def is_up(self, relay: subprocess.Popen[bytes]) -> bool:
        """Whether it has said that it relays."""
        return "outbox_started" in (self.folder / f"relay-{self.started.index(relay)}.log").read_text()

    def log_lines(self) -> Iterator[dict[str, Any]]:
        for number in range(len(self.started)):
            for line in (self.folder / f"relay-{number}.log").read_text().splitlines():
                if line.startswith('{"timestamp"'):
                    yield json.loads(line)

    async def make_topic(self, name: str, **settings: str) -> None:
        admin = self.transport.admin()
        await admin.start()
        named = {key.replace("_", "."): value for key, value in settings.items()}
        await admin.ensure([TopicSpec(name, 4, settings=named)])
        await admin.stop()

    async def read(self, topic: str) -> list[Record]:
        """Every record of the topic, partition by partition."""
        reader = self.transport.reader()
        await reader.start()
        offsets = await reader.offsets([topic])
        starts = {tp: span[0] for tp, span in offsets.items()}
        ends = {tp: span[1] for tp, span in offsets.items()}
        found = [record async for batch in reader.read(starts, ends) for record in batch]
        await reader.stop()
        return found

    async def rows(self) -> int:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            found = await (await connection.execute("SELECT count(*) FROM bridge_outbox")).fetchone()
        assert found is not None
        return int(found[0])

    async def is_empty(self) -> bool:
        return await self.rows() == 0

    def end_well(self) -> None:
        """SIGTERM to all, once they are up; each must end with status 0."""
        for relay in self.running():
            eventually(lambda relay=relay: self.is_up(relay))
            relay.send_signal(signal.SIGTERM)
            assert relay.wait(30) == 0

    def close(self) -> None:
        for relay in self.started:
            if relay.poll() is None:
                relay.send_signal(signal.SIGCONT)
                relay.kill()
            relay.wait(WAIT_S)
