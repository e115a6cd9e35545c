"""The built-in target: a handler that has one effect for each message, a line in a file, and does as messages say.

``deed`` in the value decides: ``ok``; ``poison`` is refused for good, ``verbose`` too and at length; ``transient``
fails once, ``stubborn`` twice, and then works; ``deadly`` kills the worker each time it is tried; ``hangs`` never
answers. The weather comes on top of that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

from broker_bridge.chaos.observed_worker import Notebook
from broker_bridge.chaos.weather import Weather, WeatherFile
from broker_bridge.consumer import Context, handler
from broker_bridge.errors import RejectedError, RetryLaterError, TargetUnavailableError, TargetUnreachableError
from broker_bridge.message import Message

BUILT_IN_HANDLER = "broker_bridge.chaos.effects:apply"
EFFECTS_VARIABLE = "CHAOS_EFFECTS"
WEATHER_VARIABLE = "CHAOS_WEATHER"
WORK_VARIABLE = "CHAOS_WORK_MS"
FAILURES = {"transient": 1, "stubborn": 2}
FOR_EVER_S = 3_600.0
LONG_STORY = 400

_blocked_once: set[int] = set()


class _Place:
    """Opened at the first message, by the process that handles it."""

    notebook: Notebook | None = None
    weather: WeatherFile | None = None
    work_s = 0.0


def _open() -> tuple[Notebook, WeatherFile]:
    if _Place.notebook is None or _Place.weather is None:
        _Place.notebook = Notebook(Path(os.environ[EFFECTS_VARIABLE]))
        _Place.weather = WeatherFile(Path(os.environ[WEATHER_VARIABLE]))
        _Place.work_s = float(os.environ.get(WORK_VARIABLE, "5")) / 1000
    return _Place.notebook, _Place.weather


@handler
async def apply(message: Message[dict[str, Any]], context: Context) -> None:
    """Handle one message."""
    notebook, sky = _open()
    deed, weather = message.value["deed"], sky.read()
    feels = zlib.crc32(message.idempotency_key.encode()) % 1_000 < weather.share * 1_000
    await _before(deed, context, weather if feels else Weather())
    await asyncio.sleep(_Place.work_s)
    notebook.write(
        key=message.idempotency_key, origin=str(message.origin), token=context.token, attempt=context.attempt,
        crashes=context.crashes, replay_id=message.replay_id, worker=os.getpid(),
    )  # fmt: skip
    if feels and weather.mood == "fail_after_effect" and context.attempt == 1:
        raise TargetUnavailableError("failed after its effect", target_code="http_500")


async def _before(deed: str, context: Context, weather: Weather) -> None:
    """What goes wrong before the effect."""
    if deed in ("poison", "verbose"):
        raise RejectedError("refused for good" + ", and why" * LONG_STORY * (deed == "verbose"), target_code=deed)
    if context.attempt <= FAILURES.get(deed, 0):
        raise ValueError("not this time")
    if deed == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "hangs":
        await asyncio.sleep(FOR_EVER_S)
    if weather.mood == "down":
        raise TargetUnreachableError("connection refused", target_code="connection_refused")
    if weather.mood == "errors":
        raise TargetUnavailableError("an error for everybody", target_code="http_500")
    if weather.mood == "refuse_for_a_while":
        raise RetryLaterError("busy", target_code="http_429", retry_after_ms=int(weather.seconds * 1000))
    if weather.mood in ("slow", "hang"):
        await asyncio.sleep(weather.seconds if weather.mood == "slow" else FOR_EVER_S)
    if weather.mood == "block_loop" and os.getpid() not in _blocked_once:
        _blocked_once.add(os.getpid())
        time.sleep(weather.seconds)  # noqa: ASYNC251 - the fault itself: a handler that blocks its worker
