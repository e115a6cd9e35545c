"""POSTs to one URL over kept connections: reaching it, how many at once, how long.

```
post ─▶ a kept connection ──────────────▶ one exchange ─▶ kept again, or closed
    └─▶ none: name ─▶ addresses ─▶ TCP ─▶ TLS ─┘               one timer for all of them
```
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from socket import AI_NUMERICHOST, SOCK_STREAM, gaierror, getaddrinfo

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from broker_bridge.errors import ConfigError, TargetTimeoutError, TargetUnreachableError
from broker_bridge.worker.targets.http_connection import HttpAnswer, HttpConnection
from broker_bridge.worker.targets.link_local import is_link_local

_CONNECT_S = 10.0
"""A target that does not take the connection in so long, or in half of the timeout, cannot be reached."""
_NEXT_ADDRESS_S = 0.25
"""How long one address of a name is waited for before the next is tried beside it (RFC 8305)."""


class HttpClient:
    """One URL, at most ``connections`` requests at once, each answered within ``timeout_ms``."""

    def __init__(self, url: str, *, headers: Mapping[str, str], connections: int, timeout_ms: int) -> None:
        self._where = url
        self._headers = headers
        self._connections = connections
        self._timeout_ms = timeout_ms
        self._kept: deque[HttpConnection] = deque()
        self._busy: dict[HttpConnection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at_s = 0.0

    def start(self) -> None:
        """Make ready, without connecting. Raises ``ConfigError`` where the host is no name at all."""
        try:
            url = URL(self._where)
            self._host, self._port = str(url.raw_host), int(url.port or 0)
        except ValueError as error:
            raise ConfigError(f"cannot be called: {error}", where="[route.target] url") from error
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        fixed = {"host": str(url.host_port_subcomponent), "user-agent": "broker-bridge", "accept": "*/*"}
        # packed answers are not unpacked, so none are asked for
        lines = fixed | {"accept-encoding": "identity"} | {name.lower(): text for name, text in self._headers.items()}
        self._head = f"POST {url.raw_path_qs} HTTP/1.1\r\n" + "".join(f"{name}: {lines[name]}\r\n" for name in lines)
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(self._connections)

    async def post(self, headers: str, body: bytes, *, limit: int) -> HttpAnswer:
        """The answer, whatever its status. ``headers`` are lines, each with its CR and LF; ``limit`` is the longest
        body of a success.

        Raises ``TargetUnreachableError`` where the request never left, ``TargetTimeoutError``,
        ``TargetUnavailableError`` where the connection broke off or what came is not HTTP, ``OutputInvalidError``
        where the body is longer.
        """
        deadline_s = self._loop.time() + self._timeout_ms / 1000
        request = f"{self._head}{headers}content-length: {len(body)}\r\n\r\n".encode() + body
        if self._room.locked():
            await self._wait_for_room(deadline_s)
        else:
            await self._room.acquire()
        try:
            connection = self._take_kept() or await self._connect(deadline_s)
            try:
                self._watch(connection, deadline_s)
                found = await connection.ask(request, limit=limit)
            finally:
                del self._busy[connection]
                self._keep(connection)
        finally:
            self._room.release()
        if isinstance(found, HttpAnswer):
            return found
        raise found

    async def stop(self) -> None:
        """Close the connections, and wait until they are."""
        if self._timer is not None:
            self._timer.cancel()
        ending = [*self._kept, *self._busy]
        self._kept.clear()
        for connection in ending:
            connection.abort()
        if ending:
            await asyncio.wait([connection.lost for connection in ending])

    async def _wait_for_room(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._room.acquire()
        except TimeoutError as error:
            raise self._late() from error

    async def _connect(self, deadline_s: float) -> HttpConnection:
        patience_s = min(self._timeout_ms / 2_000, _CONNECT_S)
        try:
            async with asyncio.timeout_at(min(self._loop.time() + patience_s, deadline_s)):
                allowed = [found for found in await self._addresses() if not is_link_local(str(found[4][0]))]
                if not allowed:
                    raise OSError("the name stands for a link-local address, and those are never called")
                reached = await aiohappyeyeballs.start_connection(allowed, happy_eyeballs_delay=_NEXT_ADDRESS_S)
                _, connection = await self._loop.create_connection(
                    lambda: HttpConnection(self._where, self._loop),
                    sock=reached,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError as error:
            raise TargetUnreachableError(
                "nobody takes the connection", where=self._where, target_code="connect"
            ) from error
        except OSError as error:
            raise TargetUnreachableError(
                f"cannot connect: {error.strerror or error}", where=self._where, target_code="connect"
            ) from error
        return connection

    async def _addresses(self) -> Sequence[AddrInfoType]:
        try:
            return getaddrinfo(self._host, self._port, type=SOCK_STREAM, flags=AI_NUMERICHOST)  # needs no thread
        except gaierror:
            return await self._loop.getaddrinfo(self._host, self._port, type=SOCK_STREAM)

    def _take_kept(self) -> HttpConnection | None:
        """The one used last that still stands."""
        now_s = self._loop.time()
        while self._kept:
            connection = self._kept.pop()
            if connection.reusable and connection.keep_until_s > now_s:
                return connection
            connection.abort()
        return None

    def _keep(self, connection: HttpConnection) -> None:
        if not connection.reusable:
            connection.abort()
            return
        self._kept.append(connection)
        if self._kept[0].keep_until_s < self._loop.time():  # one a return is enough
            self._kept.popleft().abort()

    def _watch(self, connection: HttpConnection, deadline_s: float) -> None:
        """One timer for all: a timer a request costs more than looking through those under way once a timeout."""
        self._busy[connection] = deadline_s
        if self._timer is None or deadline_s < self._looks_at_s:
            self._look_at(deadline_s)

    def _look_at(self, moment_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at_s = moment_s
        self._timer = self._loop.call_at(moment_s, self._end_late)

    def _end_late(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for connection in [each for each, deadline_s in self._busy.items() if deadline_s <= now_s]:
            self._busy[connection] = float("inf")
            connection.fail(self._late())
        next_s = min(self._busy.values(), default=float("inf"))
        if next_s < float("inf"):
            self._look_at(next_s)

    def _late(self) -> TargetTimeoutError:
        return TargetTimeoutError(f"no answer within {self._timeout_ms} ms", where=self._where, target_code="timeout")
