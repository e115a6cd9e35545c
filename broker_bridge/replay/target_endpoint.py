"""Reading a target's list of effects from an HTTP endpoint: GET, answered with NDJSON as ``replay.target_log`` has it.

One answer, or several that name the next with ``Link: <…>; rel="next"`` (RFC 8288). The lines are read as they come; a
line has an upper size, silence a longest time, redirects are not followed, and the next page is one of the same server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from broker_bridge.config.types import masked_url
from broker_bridge.core.reconcile import TargetLine
from broker_bridge.errors import AuditError, UsageError
from broker_bridge.replay.target_log import LONGEST_LINE_BYTES, parse_line
from broker_bridge.worker.targets.link_local import is_link_local

CONNECT_S = 10.0
SILENCE_S = 30.0
MOST_PAGES = 100_000


def checked_url(text: str) -> URL:
    """The URL of a list. Raises ``UsageError``."""
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--target-url must be an http:// or https:// URL with a host, not {masked_url(text)!r}")
    if url.user is not None or url.password is not None:
        raise UsageError(
            "--target-url must not carry a user or password", remedy="give credentials with --target-authorization"
        )
    if is_link_local(url.host or ""):
        raise UsageError("link-local addresses are never called", where=place_of(url))
    return url


def place_of(url: URL) -> str:
    """The URL without what may be secret in it, for messages."""
    return str(url.with_query(None).with_fragment(None))


async def read_target_endpoint(url: URL, *, authorization: str | None = None) -> AsyncIterator[TargetLine]:
    """Every line of every page, numbered through. ``authorization`` is the value of that header.

    Raises ``AuditError`` where the endpoint does not answer, breaks off or refuses, ``UsageError`` for a line that is
    none.
    """
    headers = {"accept": "application/x-ndjson", "accept-encoding": "identity"}
    if authorization is not None:
        headers["authorization"] = authorization
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, connect=CONNECT_S, sock_read=SILENCE_S)
    connector = aiohttp.TCPConnector(resolver=Resolver(), limit=1)
    number, page, seen = 0, url, {url}
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=connector, auto_decompress=False
    ) as session:
        while True:
            following: URL | None = None
            try:
                async with session.get(page, allow_redirects=False) as answer:
                    _check(answer, place_of(page))
                    following = _next(answer, page)
                    async for line in _lines(answer, place_of(page), number):
                        number += 1
                        if line.strip():
                            yield parse_line(line, where=f"{place_of(page)}:{number}", number=number)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _away(error, place_of(page)) from error
            if following is None:
                return
            if following in seen or len(seen) >= MOST_PAGES:
                raise AuditError("its pages come round again, or are too many", where=place_of(following))
            seen.add(following)
            page = following


async def _lines(answer: aiohttp.ClientResponse, where: str, number: int) -> AsyncIterator[bytes]:
    """The lines of a whole answer; the last may lack its line end, for the answer itself says that it is whole."""
    left = b""
    async for chunk in answer.content.iter_any():
        *whole, left = (left + chunk).split(b"\n")
        for line in whole:
            number += 1
            _check_length(line, f"{where}:{number}")
            yield line
        _check_length(left, f"{where}:{number + 1}")
    if left:
        yield left


def _check_length(line: bytes, where: str) -> None:
    if len(line) > LONGEST_LINE_BYTES:
        raise UsageError(f"longer than {LONGEST_LINE_BYTES:,} bytes", where=where)


def _check(answer: aiohttp.ClientResponse, where: str) -> None:
    if answer.status != HTTPStatus.OK:
        moved = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
        raise AuditError(
            f"the target's list answers {answer.status}" + (", and redirects are not followed" if moved else ""),
            where=where,
            remedy="check --target-url" + ("" if moved else " and --target-authorization"),
        )
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise AuditError("the target's list comes packed, which was not asked for", where=where)


def _next(answer: aiohttp.ClientResponse, page: URL) -> URL | None:
    """The next page. Raises ``AuditError`` where it is of another server, which must not get the credentials."""
    link = answer.links.get("next")
    found = link.get("url") if link else None
    if found is None:
        return None
    following = page.join(URL(str(found)))
    if following.origin() != page.origin():
        raise AuditError("the next page is of another server", where=place_of(following))
    return following


def _away(error: Exception, where: str) -> AuditError:
    """In the words of whoever asked: neither side's own classes."""
    if isinstance(error, asyncio.TimeoutError):
        detail = f"the target's list was silent for {SILENCE_S:g} s, or took the connection too late"
    elif isinstance(error, aiohttp.ClientConnectorError):
        detail = f"the target's list cannot be reached: {error.os_error.strerror or error.os_error}"
    elif isinstance(error, aiohttp.ClientPayloadError):
        detail = "the target's list breaks off before its end"
    else:
        detail = f"the target's list cannot be read: {error or type(error).__name__}"
    return AuditError(detail, where=where, remedy="check that the target runs and that --target-url names its list")


class Resolver(AbstractResolver):
    """Names as the system has them, without the addresses that are never called."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """See ``AbstractResolver.resolve``. Raises ``OSError`` where nothing is left."""
        found = await self._inner.resolve(host, port, family)  # type: ignore[arg-type]
        allowed = [one for one in found if not is_link_local(str(one["host"]))]
        if not allowed:
            raise OSError(None, "the name stands for a link-local address, and those are never called")
        return allowed

    async def close(self) -> None:
        """See ``AbstractResolver.close``."""
        await self._inner.close()
