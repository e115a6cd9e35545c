"""``python fetch_kafka.py``: brings what the local stack needs into its cache, while the services are being built."""

from __future__ import annotations

import sys

from broker_bridge.errors import BridgeError
from broker_bridge.stack.kafka.jars import cached_jars, prepare_jars
from broker_bridge.stack.prerequisites import find_tools


def say(text: str) -> None:
    """Into the log of this program."""
    print(text, flush=True)


def main() -> int:
    """Install what is missing, where that is possible, and fetch Kafka's jars."""
    try:
        tools = find_tools(need_maven=cached_jars() is None, install=True, progress=say)
        prepare_jars(tools.mvn, progress=say)
    except BridgeError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
