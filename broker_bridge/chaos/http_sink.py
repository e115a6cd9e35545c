"""An HTTP target that stands in for a user's: it takes every message and keeps a log of effects."""

from __future__ import annotations

import asyncio
import threading
import zlib
from pathlib import Path

from aiohttp import web

from broker_bridge.chaos.observed_worker import Notebook
from broker_bridge.chaos.weather import Weather, WeatherFile

HANG_S = 3_600.0
_CALL_S = 10.0


class HttpSink:
    """Answers 204 on loopback, in a thread of its own, as the weather says."""

    def __init__(self, *, effects: Path, weather: WeatherFile) -> None:
        self._effects = Notebook(effects)
        self._weather = weather
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sink", daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where messages go."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_CALL_S)

    def stop(self) -> None:
        """Stop listening."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    async def _listen(self) -> None:
        app = web.Application()
        app.router.add_post("/{tail:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        key, weather = request.headers.get("Idempotency-Key", ""), self._weather.read()
        feels = zlib.crc32(key.encode()) % 1_000 < weather.share * 1_000
        mood = weather.mood if feels else "fine"
        await request.read()
        refusal = await self._before(mood, weather)
        if refusal is not None:
            return refusal
        attempt = int(request.headers.get("bridge-attempt", "1"))
        self._effects.write(
            key=key, origin=request.headers.get("bridge-origin", ""), attempt=attempt,
            token=int(request.headers.get("bridge-token", "0")),
            crashes=int(request.headers.get("bridge-crashes", "0")),
            replay_id=request.headers.get("bridge-replay-id"),
        )  # fmt: skip
        if mood == "fail_after_effect" and attempt == 1:
            return web.Response(status=500)
        return web.Response(status=204)

    async def _before(self, mood: str, weather: Weather) -> web.Response | None:
        if mood == "down":
            return web.Response(status=503)
        if mood == "errors":
            return web.Response(status=500)
        if mood == "refuse_for_a_while":
            return web.Response(status=429, headers={"Retry-After": str(max(1, round(weather.seconds)))})
        if mood in ("slow", "block_loop"):
            await asyncio.sleep(weather.seconds)
        elif mood == "hang":
            await asyncio.sleep(HANG_S)
        return None
