"""Redis under a clock that is moved while it runs: what it says the time is, and when keys run out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from broker_bridge.chaos.shifted_clock import ShiftedClock
from broker_bridge.errors import StackError
from broker_bridge.stack.ports import free_port
from broker_bridge.stack.prerequisites import existing
from broker_bridge.stack.processes import this_process
from broker_bridge.stack.redis_server import RedisServer, call
from broker_bridge.stack.server import Surroundings


def test_redis_goes_by_the_clock_that_is_moved_under_it(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    program = clock.wrapped(existing("redis-server"))
    surroundings = Surroundings(tied_to=this_process(), boot_deadline_s=30.0, on_change=lambda: None)
    redis = RedisServer(port=free_port(), folder=tmp_path / "redis", locate=lambda: program, surroundings=surroundings)
    redis.start()
    try:

        def wrong_by_s() -> float:
            return int(call(redis.port, "TIME").split()[2]) - time.time()

        assert abs(wrong_by_s()) < 60
        assert call(redis.port, "SET claim held PX 600000").startswith(b"+OK")
        clock.move(3_600)
        assert abs(wrong_by_s() - 3_600) < 60
        assert call(redis.port, "EXISTS claim").startswith(b":0"), "ten minutes have passed"
        clock.move(-3_600)
        assert abs(wrong_by_s() + 3_600) < 60
    finally:
        redis.stop()


def test_without_a_compiler_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="the clock was not compiled"):
        ShiftedClock(tmp_path).wrapped(Path("/usr/bin/redis-server"))
