"""One Redis endpoint: scripts by their digest, bounded retries, and no command that a cancelled caller could tear.

Connections are used directly (send, then read) rather than through ``redis.asyncio.Redis``: a batch of 2 000 keys is
packed by hiredis in C, and WAIT must follow its script on the same connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.maint_notifications import MaintNotificationsConfig

from broker_bridge.core.claim import KEY_BYTES
from broker_bridge.errors import ClaimUnreadableError, ConfigError, StoreError

FIRST_BACKOFF_MS = 20
LONGEST_BACKOFF_MS = 1_000

Part = bytes | str | int
_pack: Callable[[tuple[Part, ...]], bytes] = cast(Any, hiredis.pack_command)  # its stub allows one part only


class Script:
    """A Lua script and the digest that Redis keeps it under."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.digest = hashlib.sha1(source, usedforsecurity=False).hexdigest()


class RedisLink:
    """A bounded pool of connections to one endpoint. Every failure is a ``StoreError`` that names ``where``.

    A call takes at most ``1 + retries`` tries of ``connect_timeout_ms + call_timeout_ms`` each. Tries are repeated only
    where the connection failed, so a command may run twice: scripts must answer a repetition as they did the first,
    or be run with ``repeat=False``.
    """

    def __init__(
        self,
        url: str,
        *,
        password: SecretStr | None,
        ca_file: str | None,
        connections: int,
        connect_timeout_ms: int,
        call_timeout_ms: int,
        retries: int,
        wait_replicas: int,
        wait_timeout_ms: int,
    ) -> None:
        self.where = masked(url)
        self._retries = retries
        self._wait_replicas = wait_replicas
        self._wait_timeout_ms = wait_timeout_ms
        self._running: set[asyncio.Task[Any]] = set()
        options: dict[str, object] = {"password": password.get_secret_value()} if password else {}
        if ca_file:
            options["ssl_ca_certs"] = ca_file
        try:
            self._pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
                url,
                max_connections=connections,
                timeout=call_timeout_ms / 1000,
                socket_timeout=(call_timeout_ms + (wait_timeout_ms if wait_replicas else 0)) / 1000,
                socket_connect_timeout=connect_timeout_ms / 1000,
                retry=Retry(NoBackoff(), 0),  # ours is explicit, below
                protocol=2,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
                **options,
            )
        except ValueError as error:
            raise ConfigError(
                "not a Redis url", where=self.where, remedy="write it as redis://host:6379/0, rediss:// for TLS"
            ) from error

    async def run(
        self, script: Script, keys: Sequence[bytes], *args: Part, wait: bool = True, repeat: bool = True
    ) -> Any:
        """Run ``script`` on ``keys``, loading it where Redis does not have it (any more), and await the replicas."""
        replicas = self._wait_replicas if wait else 0
        operands: tuple[Part, ...] = (len(keys), *keys, *args)
        replies = await self._script_call("EVALSHA", script.digest, operands, replicas, repeat)
        if isinstance(replies[0], NoScriptError):  # Redis was restarted, or its scripts were flushed
            replies = await self._script_call("EVAL", script.source, operands, replicas, repeat)
        answer = self._checked(replies[0], keys)
        if replicas and (acknowledged := self._checked(replies[1])) < replicas:
            raise StoreError(
                f"{acknowledged} of {replicas} replicas acknowledged the write in time; it may be lost",
                where=self.where,
                remedy="check the replicas, or lower wait_replicas",
            )
        return answer

    async def command(self, *parts: Part) -> Any:
        """One plain command."""
        (reply,) = await self._call([parts])
        return self._checked(reply)

    def place(self, key: bytes) -> str:
        """Where ``key`` is, for people: a claim's hash in hex, an epoch's name as it is."""
        if key.isascii() and (name := key.decode("ascii")).isprintable():
            return f"{self.where} key {name}"
        start, claimed = key[:-KEY_BYTES], key[-KEY_BYTES:]
        return f"{self.where} key {start.decode(errors='backslashreplace')}{claimed.hex()}"

    async def close(self) -> None:
        """Let running commands end (they are bounded), then disconnect."""
        if self._running:
            await asyncio.wait(self._running)
        await self._pool.disconnect()

    async def _script_call(
        self, how: str, script: Part, operands: tuple[Part, ...], replicas: int, repeat: bool
    ) -> list[Any]:
        commands: list[tuple[Part, ...]] = [(how, script, *operands)]
        if replicas:
            commands.append(("WAIT", replicas, self._wait_timeout_ms))
        return await self._call(commands, repeat=repeat)

    async def _call(self, commands: Sequence[tuple[Part, ...]], *, repeat: bool = True) -> list[Any]:
        """The replies to ``commands``, refusals among them as ``ResponseError`` values.

        Cancelling the caller does not cancel the command: a command torn between request and reply would leave its
        connection one answer behind. It goes on by itself, and its answer is dropped.
        """
        packed = b"".join(_pack(parts) for parts in commands)
        task = asyncio.get_running_loop().create_task(
            self._tried(packed, len(commands), self._retries if repeat else 0)
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _tried(self, packed: bytes, count: int, retries: int) -> list[Any]:
        backoff_ms = FIRST_BACKOFF_MS
        for tries_left in range(retries, -1, -1):
            try:
                return await self._exchange(packed, count)
            except (AuthenticationError, AuthorizationError, ResponseError) as error:
                raise self._failure(error) from error
            except (RedisError, OSError) as error:
                if not tries_left:
                    raise self._failure(error) from error
            await asyncio.sleep(backoff_ms / 1000)
            backoff_ms = min(2 * backoff_ms, LONGEST_BACKOFF_MS)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _exchange(self, packed: bytes, count: int) -> list[Any]:
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(packed, check_health=False)
            replies = [await _reply(connection) for _ in range(count)]
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await connection.disconnect()  # the master moved: the address may lead to the new one
                raise RedisError("this Redis is a read-only replica")
            return replies
        finally:
            await self._pool.release(connection)

    def _checked(self, reply: Any, keys: Sequence[bytes] = ()) -> Any:
        if not isinstance(reply, ResponseError):
            return reply
        text = str(reply)
        if keys and text.startswith("CLAIM "):
            _, index, what = text.split(" ", 2)
            key = keys[int(index) - 1]
            raise ClaimUnreadableError(what, where=self.place(key), claim_key=key[-KEY_BYTES:]) from reply
        if keys and text.startswith("WRONGTYPE"):
            raise ClaimUnreadableError(text, where=self.place(keys[0]), claim_key=keys[0][-KEY_BYTES:]) from reply
        raise self._failure(reply) from reply

    def _failure(self, error: BaseException) -> StoreError:
        return StoreError(f"{type(error).__name__}: {error}", where=self.where)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=True)
    except ResponseError as refusal:
        return refusal


def masked(url: str) -> str:
    """``url`` without user, password and options: what may be logged."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        return "the Redis url"  # whatever it is, it may have a secret anywhere
    _, _, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{place}{parts.path}"
