"""An HTTP endpoint of a Go, Rust or any other service as a target.

The body is the decoded value as JSON, the event's attributes are ``ce-*`` headers (CloudEvents HTTP binding, binary
mode), and the idempotency key goes along, so that the service can recognise a repeat.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic_core import to_json

from broker_bridge.clock import Clock
from broker_bridge.config.route import HttpTarget
from broker_bridge.consumer import Context
from broker_bridge.errors import (
    ConfigError,
    DeliveryError,
    OutputInvalidError,
    RejectedError,
    RetryLaterError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnreachableError,
)
from broker_bridge.message import Message
from broker_bridge.worker.targets.base import Form

_LATER = frozenset({409, 425, 429})
_NOT_THIS_MESSAGE = frozenset({401, 403, 407})
"""Refusals of the caller rather than of the message: every message would get them, so none may die of them."""
_LONGEST_WAIT_MS = 3_600_000
_CONNECT_S = 10.0
"""A target that does not take the connection in so long, or in half of the timeout, cannot be reached."""
_PROBLEM_BYTES = 65_536
"""As much of a failure's body is read."""
_CE_LITERAL = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What stands for itself in a CloudEvents attribute beside letters and digits: printable ASCII without space, ``"``
and ``%`` (CloudEvents HTTP binding, 3.1.3.2)."""
_CE_HEADERS = (
    ("ce-id", "event_id"),
    ("ce-source", "event_source"),
    ("ce-type", "event_type"),
    ("ce-time", "event_time"),
    ("ce-subject", "event_subject"),
)


class HttpEndpointTarget:
    """POSTs each message to one URL over kept-alive connections."""

    form: Form = "json"

    def __init__(self, config: HttpTarget, *, concurrency: int, clock: Clock) -> None:
        self._config = config
        self._concurrency = concurrency
        self._clock = clock
        self._url = config.url
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool. Raises ``ConfigError`` where the host is not one that may be called."""
        host = urlsplit(self._url).hostname or ""
        if self._config.allow_hosts and host not in self._config.allow_hosts:
            raise ConfigError(
                f"host {host} is not in allow_hosts",
                where="[route.target] url",
                remedy="add it to allow_hosts or fix url",
            )
        if _is_metadata_address(host):
            raise ConfigError("link-local addresses are never called", where="[route.target] url")
        timeout_s = self._config.timeout_ms / 1000
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s / 2, _CONNECT_S)),
            # without an accept-encoding of our own aiohttp asks for gzip, which then stays packed
            headers={"content-type": "application/json", "accept-encoding": "identity"}
            | {name.lower(): value for name, value in self._config.headers.items()},
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def deliver(self, message: Message[Any], context: Context) -> object:
        """One POST. 2xx answers with JSON or nothing; everything else raises what it means for the message."""
        assert self._session is not None
        try:
            async with self._session.post(
                self._url, data=to_json(message.value), headers=request_headers(message, context), allow_redirects=False
            ) as response:
                if 200 <= response.status < 300:
                    return _answer(await self._body(response), response.status)
                body = await self._problem_body(response)
                raise error_of(response.status, response.headers.get("retry-after"), body, self._clock.now_ms())
        except aiohttp.ConnectionTimeoutError as error:
            raise TargetUnreachableError(
                "nobody takes the connection", where=self._url, target_code="connect"
            ) from error
        except TimeoutError as error:
            raise TargetTimeoutError(
                f"no answer within {self._config.timeout_ms} ms", where=self._url, target_code="timeout"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise TargetUnreachableError(
                f"cannot connect: {error.os_error.strerror or error.os_error}", where=self._url, target_code="connect"
            ) from error
        except aiohttp.ClientError as error:
            raise TargetUnavailableError(
                f"connection broke off: {type(error).__name__}", where=self._url, target_code="connection"
            ) from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._config.max_response_bytes
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > limit:
                response.close()
                raise OutputInvalidError(
                    f"the answer is larger than {limit} bytes",
                    where=self._url,
                    remedy="answer less, or raise [route.target] max_response_bytes",
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _problem_body(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of a failure as far as it is looked at: however long it is, the status says what it means."""
        found = b""
        async for chunk in response.content.iter_any():
            found += chunk
            if len(found) > _PROBLEM_BYTES:
                response.close()
                break
        return found

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def request_headers(message: Message[Any], context: Context) -> dict[str, str]:
    """The headers of one delivery: event attributes, trace, idempotency key, and what the bridge knows of earlier
    tries."""
    found = {
        "ce-specversion": "1.0",
        "Idempotency-Key": message.idempotency_key,
        "bridge-attempt": str(context.attempt),
        "bridge-crashes": str(context.crashes),
        "bridge-token": str(context.token),
        "bridge-origin": str(message.origin),
    }
    if message.traceparent:
        found["traceparent"] = message.traceparent
    if message.replay_id:
        found["bridge-replay-id"] = message.replay_id
    safe = {name: _header_safe(value) for name, value in found.items()}
    for name, attribute in _CE_HEADERS:
        value = getattr(message, attribute)
        if value is not None:
            safe[name] = quote(value, safe=_CE_LITERAL)
    return safe


def error_of(status: int, retry_after: str | None, body: bytes, now_ms: int) -> DeliveryError:
    """What an answer outside 2xx means.

    ======================== =========================================================================
    409, 425, 429            later; no attempt is spent
    503 with Retry-After     later; no attempt is spent
    401, 403, 407, 408, 5xx  the target is not available to anybody; may be an outage
    3xx, other 4xx           final: this message is refused
    ======================== =========================================================================
    """
    code, detail = problem_of(status, body)
    later_ms = retry_after_ms(retry_after, now_ms)
    if status in _LATER or (status == 503 and later_ms is not None):
        return RetryLaterError(detail, target_code=code, retry_after_ms=later_ms)
    if status == 408:
        return TargetTimeoutError(detail, target_code=code)
    if status >= 500 or status in _NOT_THIS_MESSAGE:
        return TargetUnavailableError(detail, target_code=code, retry_after_ms=later_ms)
    return RejectedError(detail, target_code=code)


def problem_of(status: int, body: bytes) -> tuple[str, str]:
    """The ``code`` and ``detail`` of problem details (RFC 9457), ``http_<status>`` where the body is none."""
    code, detail = f"http_{status}", f"HTTP {status}"
    try:
        found = json.loads(body[:_PROBLEM_BYTES])
    except (ValueError, RecursionError):
        return code, detail
    if not isinstance(found, dict):
        return code, detail
    own, title = found.get("code"), found.get("detail") or found.get("title")
    return (own if isinstance(own, str) and own else code), f"{detail}: {title}" if isinstance(title, str) else detail


def retry_after_ms(value: str | None, now_ms: int) -> int | None:
    """``Retry-After`` (RFC 9110: seconds or a date) in milliseconds from now, at most an hour; None where it says
    nothing."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        wait = int(value[-9:]) * 1000 if len(value.lstrip("0")) < 10 else _LONGEST_WAIT_MS
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError):
            return None
        # HTTP knows no other time zone; the asctime form does not name it
        wait = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000) - now_ms
    return min(max(wait, 0), _LONGEST_WAIT_MS)


def _answer(body: bytes, status: int) -> object:
    if status == 204 or not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise OutputInvalidError(
            f"the answer is not JSON: {error}", remedy="answer JSON, or 204 without a body"
        ) from error


def _header_safe(value: str) -> str:
    """Text as a header value: control characters and what is not Latin-1 are percent-encoded (CR and LF cannot
    pass)."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if c.isascii() and c.isprintable() else "".join(f"%{b:02X}" for b in c.encode()) for c in value)


def _is_metadata_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166 is 169.254.169.254 as well
        except OSError:
            return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local
