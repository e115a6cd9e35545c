"""A TCP relay that can be told to misbehave: slow, thin, cut, half-open, refusing, deaf in one direction.

For kernels without netem, and for faults that netem cannot make (losing answers only). It knows nothing of the
protocols that pass. One thread with an event loop of its own serves all its connections::

    with TcpProxy(port=16379, target=("127.0.0.1", 6379)) as proxy:
        proxy.behave(Behaviour(drop_answers=True))    # requests arrive, answers do not
        proxy.heal()

Bytes are never delivered after others were swallowed: a connection that lost some is reset by ``heal``, as a peer that
comes back after a partition would.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
Address = tuple[str, int]

_CHUNK_BYTES = 65_536
_CHUNKS_IN_FLIGHT = 64
_CALL_S = 10.0
_THIN_CHUNKS_PER_S = 50
"""With a bandwidth limit, in how many portions a second's bytes go."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the relay treats bytes and connections. The default is a plain relay.

    ``latency_ms`` is one way, plus up to ``jitter_ms`` at random; order is kept. ``bytes_per_s`` bounds each direction
    of each connection. ``refuse``: nobody listens. ``swallow``: connections are taken, bytes of either side vanish and
    nobody hears of an end (a half-open connection). ``drop_answers``: only what the target says vanishes.
    ``cut_after_bytes``: a connection is reset once so many bytes of requests have passed.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: int | None = None
    refuse: bool = False
    swallow: bool = False
    drop_answers: bool = False
    cut_after_bytes: int | None = None


PLAIN = Behaviour()


@dataclass
class Passed:
    """What went through since the start."""

    connections: int = 0
    resets: int = 0
    request_bytes: int = 0
    answer_bytes: int = 0
    swallowed_bytes: int = 0


class _Link:
    """One connection from a client to the target."""

    def __init__(self, proxy: TcpProxy, client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._target: asyncio.StreamWriter | None = None
        self.lost_bytes = False
        self._request_bytes = 0

    async def run(self, from_client: asyncio.StreamReader) -> None:
        try:
            from_target, self._target = await asyncio.open_connection(*self._proxy.target)
        except OSError:
            self.reset()
            return
        async with asyncio.TaskGroup() as group:
            for reader, writer, answers in ((from_client, self._target, False), (from_target, self._client, True)):
                queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_IN_FLIGHT)
                group.create_task(self._read(reader, queue))
                group.create_task(self._write(queue, writer, answers=answers))

    def close(self) -> None:
        """Free the sockets of a link that has ended, once what was written has gone out."""
        for writer in (self._client, self._target):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """End both sides at once, without a FIN."""
        self._proxy.passed.resets += 1
        for writer in (self._client, self._target):
            if writer is None:
                continue
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Apart from writing, so that latency delays bytes without thinning them."""
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await queue.put((self._due(), data))
        except OSError:
            self.reset()
        await queue.put((self._due(), b""))

    def _due(self) -> float:
        behaviour = self._proxy.behaviour
        jitter_ms = random.uniform(0, behaviour.jitter_ms) if behaviour.jitter_ms else 0.0  # noqa: S311 - no secret
        return asyncio.get_running_loop().time() + (behaviour.latency_ms + jitter_ms) / 1000

    async def _write(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        broken = False
        while True:
            due, data = await queue.get()
            wait_s = due - asyncio.get_running_loop().time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if not data:
                self._end(writer)
                return
            if broken or self._swallows(data, answers=answers):
                continue
            try:
                await self._send(writer, data, answers=answers)
            except OSError:
                broken = True
                self.reset()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self._proxy.behaviour.swallow:
            self.lost_bytes = True  # the FIN is lost as well
        elif writer.can_write_eof() and not writer.transport.is_closing():
            with contextlib.suppress(OSError):
                writer.write_eof()

    def _swallows(self, data: bytes, *, answers: bool) -> bool:
        behaviour = self._proxy.behaviour
        if self.lost_bytes or behaviour.swallow or (answers and behaviour.drop_answers):
            self.lost_bytes = True
            self._proxy.passed.swallowed_bytes += len(data)
            return True
        return False

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, *, answers: bool) -> None:
        passed, behaviour = self._proxy.passed, self._proxy.behaviour
        if not answers and behaviour.cut_after_bytes is not None:
            room = behaviour.cut_after_bytes - self._request_bytes
            if room < len(data):
                writer.write(data[: max(0, room)])
                await writer.drain()
                self.reset()
                return
        self._request_bytes += 0 if answers else len(data)
        passed.answer_bytes += len(data) if answers else 0
        passed.request_bytes += 0 if answers else len(data)
        step = len(data) if not behaviour.bytes_per_s else max(1, behaviour.bytes_per_s // _THIN_CHUNKS_PER_S)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            if behaviour.bytes_per_s:
                await asyncio.sleep(len(part) / behaviour.bytes_per_s)
            writer.write(part)
            await writer.drain()


class TcpProxy:
    """Relays ``port`` on loopback to ``target``. ``behave``, ``heal``, ``cut`` and ``retarget`` work at any time, from
    any thread."""

    def __init__(self, *, port: int = 0, target: Address = ("127.0.0.1", 0)) -> None:
        self.port = port
        self.target = target
        self.behaviour = PLAIN
        self.passed = Passed()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: dict[_Link, asyncio.Task[None]] = {}

    def start(self) -> Self:
        """Listen. Raises ``OSError`` where the port is taken."""
        self._thread.start()
        try:
            self._call(self._listen())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Reset what is open and stop listening. Idempotent."""
        if not self._thread.is_alive():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def behave(self, behaviour: Behaviour) -> None:
        """From now on, for open connections too (``refuse`` leaves those alone: ``cut`` ends them)."""
        self._call(self._behave(behaviour))

    def heal(self) -> None:
        """A plain relay again. Connections that lost bytes are reset."""
        self._call(self._behave(PLAIN))

    def cut(self) -> int:
        """Reset every open connection; says how many there were."""
        return self._call(self._cut(only_torn=False))

    def retarget(self, target: Address) -> None:
        """Lead new connections elsewhere, and reset the open ones: what a moved address does to its clients."""
        self.target = target
        self.cut()

    @property
    def open_links(self) -> int:
        """Connections at this moment."""
        return len(self._links)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed.connections += 1
        link = _Link(self, writer)
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        try:
            await link.run(reader)
        except asyncio.CancelledError:
            pass  # by ``stop``, and to its end: asyncio would log what leaves here
        finally:
            self._links.pop(link, None)
            link.close()

    async def _behave(self, behaviour: Behaviour) -> None:
        heals = (self.behaviour.swallow and not behaviour.swallow) or (
            self.behaviour.drop_answers and not behaviour.drop_answers
        )
        self.behaviour = behaviour
        if behaviour.refuse and self._server is not None:
            self._server.close()
            self._server = None
        elif not behaviour.refuse and self._server is None:
            await self._listen()
        if heals:
            await self._cut(only_torn=True)

    async def _cut(self, *, only_torn: bool) -> int:
        chosen = [link for link in self._links if link.lost_bytes or not only_torn]
        for link in chosen:
            link.reset()
        return len(chosen)

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._links.values())
        await self._cut(only_torn=False)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports take leave one step later
