"""For a user's own tests: the whole bridge in memory, and time that passes by itself."""

from broker_bridge.testing.in_memory import InMemoryBridge, RunningWorker
from broker_bridge.testing.virtual_time import DeadlockError, LoopClock, VirtualTimeLoop, run_virtual

__all__ = ["DeadlockError", "InMemoryBridge", "LoopClock", "RunningWorker", "VirtualTimeLoop", "run_virtual"]
