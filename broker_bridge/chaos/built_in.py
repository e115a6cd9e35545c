"""The built-in route: a contract, a handler of ours and short timeouts, for runs without a ``bridge.toml``."""

from __future__ import annotations

import json
from pathlib import Path

from broker_bridge.chaos.workload import SCHEMA, SUBJECT
from broker_bridge.contracts.directory import SchemaDirectory

CONFIG = """\
[bridge]
service = "chaos"
schemas = "schemas"

[kafka]
session_timeout = "6s"
rebalance_timeout = "10s"
delivery_timeout = "15s"

[[route]]
name = "orders"
topic = "orders"
concurrency = 8
poll_records = 100
commit_interval = "100ms"

[route.contract]
subject = "chaos.Order"

[route.target]
kind = "python"
handler = "broker_bridge.chaos.effects:apply"
timeout = "2s"

[route.retry]
in_place = 2
lanes = ["1s"]

[route.dead_letter]
message = true

[route.claims]
lease = "3s"

[route.shutdown]
drain = "3s"
"""


def write_built_in(folder: Path) -> Path:
    """Write configuration and contract there; returns the path of ``bridge.toml``."""
    subject = folder / "schemas" / SUBJECT
    subject.mkdir(parents=True, exist_ok=True)
    (subject / "v1.avsc").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (folder / "schemas" / "ids.jsonl").touch()
    SchemaDirectory(folder / "schemas", drafts=True).register(SUBJECT)
    path = folder / "bridge.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path
