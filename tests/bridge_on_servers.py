"""The route of ``replay_world`` on a real Kafka and Redis, by a real ``bridge.toml``."""

from __future__ import annotations

from pathlib import Path

from replay_world import World

from broker_bridge.bootstrap import open_store, open_transport
from broker_bridge.clock import SystemClock
from broker_bridge.config import load_config
from broker_bridge.replay.route import ReplayRoute

SCHEMAS = Path(__file__).parent.parent / "schemas"


def write_config(folder: Path, *, bootstrap: str, redis_url: str, prefix: str) -> Path:
    """A ``bridge.toml`` whose topics and group start with ``prefix``."""
    path = folder / "bridge.toml"
    path.write_text(
        f"""
[bridge]
service = "payments-bridge"
schemas = "{SCHEMAS}"

[kafka]
bootstrap = "{bootstrap}"

[redis]
url = "{redis_url}"

[operations]
topic = "{prefix}-operations"

[[route]]
name = "payments"
group = "{prefix}-payments"
topic = "{prefix}-orders.placed"
contract = {{ subject = "shop.OrderPlaced", version = 2 }}
target = {{ kind = "http", url = "http://127.0.0.1:9/payments" }}
output = {{ topic = "{prefix}-payments.captured", subject = "shop.PaymentCaptured" }}
retry = {{ lanes = ["2s"] }}
dead_letter = {{ max_hops = 3 }}
"""
    )
    return path


async def open_world(config_path: Path) -> World:
    """A worker played by hand on the servers that the configuration names."""
    config = load_config(config_path, {})
    route = ReplayRoute.of(config.routes[0])
    return await World(open_transport(config), open_store(config), SystemClock(), route).start()
