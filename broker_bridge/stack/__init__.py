"""A real Kafka and a real Redis on loopback, for the demo, tests and benchmarks."""

from broker_bridge.stack.local import LocalStack
from broker_bridge.stack.spec import ServerStatus, StackSpec, StackStatus

__all__ = ["LocalStack", "ServerStatus", "StackSpec", "StackStatus"]
