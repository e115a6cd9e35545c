"""Calls of the Confluent schema registry's REST API, each answered within bounds of time, size and number of tries.

The media type, paths and error codes are those of Confluent's API reference, v7, which Apicurio, Karapace and
``broker-bridge schemas serve`` speak too. An instance keeps no connection and may be used from any thread and event
loop: schemas do not change, so calls are few.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeGuard
from urllib.parse import quote
from uuid import UUID

import aiohttp
from yarl import URL

from broker_bridge.config.model import RegistrySection
from broker_bridge.contracts.framing import MAX_SCHEMA_ID
from broker_bridge.core.retry import backoff_ms
from broker_bridge.errors import (
    ConfigError,
    ContractError,
    IncompatibleError,
    RegistryError,
    RegistryRefusedError,
    SchemaUnknownError,
)
from broker_bridge.text import printable

MAX_ANSWER_BYTES: Final = 4_194_304
"""A larger answer is broken off. Schemas have kilobytes; a list of 100 000 subjects has about as much as this."""
_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_BACKOFF_BASE_MS: Final = 100
_BACKOFF_MAX_MS: Final = 2_000
_LONGEST_RETRY_AFTER_MS: Final = 5_000
_MAY_PASS: Final = frozenset({408, 425, 429})
_REFUSED: Final = frozenset({401, 403, 407})
_UNKNOWN: Final = frozenset({40401, 40402, 40403})
"""Error codes for an unknown subject, version or schema. A 404 without one of them comes from something else, and must
not be taken for "there is no such schema": a message would die of a proxy."""
_SHOWN_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Reference:
    """A named type that a schema uses and another subject defines."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """What the registry says of a schema. ``subject`` is empty and ``version`` 0 where it was asked for by its id;
    ``guid`` is empty where the registry has none (Confluent's before 8, Apicurio)."""

    schema_id: int
    text: str
    subject: str = ""
    version: int = 0
    kind: str = "AVRO"
    references: tuple[Reference, ...] = ()
    guid: str = ""


class _MayPassError(Exception):
    """A failure that may pass by itself; ``after_ms`` is the registry's own wish when to come again."""

    def __init__(self, detail: str, *, where: str, after_ms: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.where = where
        self.after_ms = after_ms


class RegistryClient:
    """Asks the registry that ``[registry]`` names. Raises ``ConfigError`` where its certificates cannot be used.

    Every call raises RegistryError where the registry is away or fails, after ``retries`` more tries, in turn at each
    of the URLs, and RegistryRefusedError where it takes no credentials, redirects, or is no registry.
    """

    def __init__(self, section: RegistrySection) -> None:
        self._section = section
        self._urls = section.urls
        self._tries = max(section.retries + 1, len(self._urls))
        self._jitter = random.Random(secrets.randbits(64))  # noqa: S311 - no secret
        self._headers = {"accept": f"{_MEDIA_TYPE}, application/json", "accept-encoding": "identity"}
        if section.token is not None:
            self._headers["authorization"] = f"Bearer {section.token.get_secret_value()}"
        elif section.username is not None and section.password is not None:
            login = aiohttp.encode_basic_auth(section.username, section.password.get_secret_value())
            self._headers["authorization"] = login
        _ = self._tls  # a bad certificate is told at start

    @property
    def where(self) -> str:
        """The registry's place, as errors name it."""
        return self._urls[0]

    async def schema(self, schema_id: int) -> RegisteredSchema:
        """The schema with this id. Raises SchemaUnknownError."""
        found = await self._call("GET", f"/schemas/ids/{schema_id}")
        return self._schema(found, schema_id=schema_id)

    async def ids_of_guid(self, guid: UUID) -> list[int]:
        """The ids of the schema with this GUID. Raises SchemaUnknownError, also where the registry has no such call: a
        value with a GUID that nobody knows must not pass for an outage."""
        try:
            found = await self._call("GET", f"/schemas/guids/{guid}/ids")
        except RegistryRefusedError as error:
            if "answers 404" not in error.detail:
                raise
            raise SchemaUnknownError(
                f"no schema has GUID {guid}: the registry has no GUIDs", where=self.where
            ) from error
        return [self._id(one) for one in self._list(found, dict)]

    async def places(self, schema_id: int) -> list[tuple[str, int]]:
        """Subjects and versions that have the schema with this id, deleted ones too. Raises SchemaUnknownError."""
        found = await self._call("GET", f"/schemas/ids/{schema_id}/versions?deleted=true")
        places = [(one.get("subject"), one.get("version")) for one in self._list(found, dict)]
        return [(subject, version) for subject, version in places if isinstance(subject, str) and _is_int(version)]

    async def version(self, subject: str, version: int | None = None, *, deleted: bool = False) -> RegisteredSchema:
        """One version of a subject, the latest without ``version``. Raises SchemaUnknownError."""
        query = "?deleted=true" if deleted else ""
        found = await self._call("GET", f"/subjects/{_quoted(subject)}/versions/{version or 'latest'}{query}")
        return self._schema(found)

    async def subjects(self, *, deleted: bool = False) -> list[str]:
        """All subjects; with ``deleted`` also those that were deleted, but not for good."""
        return self._list(await self._call("GET", f"/subjects{'?deleted=true' if deleted else ''}"), str)

    async def versions(self, subject: str, *, deleted: bool = False) -> list[int]:
        """Versions of a subject, lowest first. Raises SchemaUnknownError."""
        query = "?deleted=true" if deleted else ""
        return sorted(self._list(await self._call("GET", f"/subjects/{_quoted(subject)}/versions{query}"), int))

    async def lookup(self, subject: str, text: str) -> RegisteredSchema:
        """The version of a subject that is this schema. Raises SchemaUnknownError."""
        return self._schema(await self._call("POST", f"/subjects/{_quoted(subject)}", {"schema": text}))

    async def register(self, subject: str, text: str) -> int:
        """The id of the schema, registered under the subject if it is not yet. Repeating it changes nothing.

        Raises IncompatibleError with what the registry says, and ContractError where it finds the schema invalid.
        """
        found = await self._call("POST", f"/subjects/{_quoted(subject)}/versions", {"schema": text})
        return self._id(found)

    async def incompatibilities(self, subject: str, text: str) -> list[str] | None:
        """Why the schema may not follow the latest version of its subject; None where it may. Some registries give no
        reasons."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/latest?verbose=true"
        found = await self._call("POST", path, {"schema": text})
        if not isinstance(found, dict) or not isinstance(found.get("is_compatible"), bool):
            raise self._garbage("no is_compatible")
        if found["is_compatible"]:
            return None
        messages = found.get("messages")
        return [_shown(str(one)) for one in messages] if isinstance(messages, list) else []

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        timeout = aiohttp.ClientTimeout(total=self._section.timeout_ms / 1000)
        connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        ) as session:
            tried = 0
            while True:
                url = self._urls[tried % len(self._urls)]
                tried += 1
                try:
                    return await self._once(session, method, url, path, body)
                except _MayPassError as error:
                    if tried >= self._tries:
                        often = f" ({tried} tries)" if tried > 1 else ""
                        raise RegistryError(error.detail + often, where=error.where) from error
                    await asyncio.sleep(self._wait_s(tried, error.after_ms))

    def _wait_s(self, tried: int, after_ms: int) -> float:
        chance = self._jitter.random()
        wait_ms = backoff_ms(tried, base_ms=_BACKOFF_BASE_MS, max_ms=_BACKOFF_MAX_MS, jitter=0.5, chance=chance)
        return max(wait_ms, min(after_ms, _LONGEST_RETRY_AFTER_MS)) / 1000

    async def _once(
        self, session: aiohttp.ClientSession, method: str, url: str, path: str, body: Mapping[str, Any] | None
    ) -> Any:
        headers = {"content-type": _MEDIA_TYPE} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        try:
            async with session.request(
                method, URL(url + path, encoded=True), data=data, headers=headers, allow_redirects=False
            ) as response:
                return _judged(response, await _read(response, url), url)
        except aiohttp.ClientConnectorCertificateError as error:
            detail = f"its certificate is not trusted: {error.certificate_error}"
            raise RegistryRefusedError(detail, where=url) from error
        except TimeoutError as error:
            raise _MayPassError(f"no answer within {self._section.timeout_ms} ms", where=url) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise _MayPassError(f"cannot connect: {reason}", where=url) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _MayPassError(f"the connection broke off: {type(error).__name__}", where=url) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext | bool:
        section = self._section
        if not any(url.startswith("https://") for url in self._urls):
            return True
        try:
            context = ssl.create_default_context(cafile=None if section.ca_file is None else str(section.ca_file))
            if section.cert_file is not None:
                context.load_cert_chain(section.cert_file, section.key_file, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            files = [file for file in (section.ca_file, section.cert_file, section.key_file) if file is not None]
            raise ConfigError(
                f"the certificates cannot be used: {error}",
                where="[registry]",
                remedy=f"PEM files are needed, keys without a password: {', '.join(map(str, files))}",
            ) from error
        return context

    def _schema(self, found: Any, schema_id: int | None = None) -> RegisteredSchema:
        if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
            raise self._garbage("no schema")
        references = found.get("references") or []
        if not isinstance(references, list):
            raise self._garbage("references that are no list")
        subject, version = found.get("subject", ""), found.get("version", 0)
        if not isinstance(subject, str) or not _is_int(version):
            raise self._garbage("no subject or version")
        return RegisteredSchema(
            schema_id=self._id(found) if schema_id is None else schema_id,
            text=found["schema"],
            subject=subject,
            version=version,
            kind=str(found.get("schemaType") or "AVRO"),
            references=tuple(self._reference(one) for one in references),
            guid=self._guid(found.get("guid")),
        )

    def _guid(self, found: Any) -> str:
        try:
            return str(UUID(found)) if found else ""
        except (ValueError, AttributeError, TypeError):
            raise self._garbage("a GUID that is none") from None

    def _reference(self, found: Any) -> Reference:
        name, subject, version = (found.get(key) if isinstance(found, dict) else None for key in Reference.__slots__)
        if not isinstance(name, str) or not isinstance(subject, str) or not _is_int(version):
            raise self._garbage("a reference without name, subject or version")
        return Reference(name, subject, version)

    def _id(self, found: Any) -> int:
        schema_id = found.get("id") if isinstance(found, dict) else None
        if not _is_int(schema_id) or not 1 <= schema_id <= MAX_SCHEMA_ID:
            raise self._garbage("no id")
        return schema_id

    def _list(self, found: Any, kind: type) -> list[Any]:
        if not isinstance(found, list) or not all(type(one) is kind for one in found):
            raise self._garbage("no list")
        return found

    def _garbage(self, what: str) -> RegistryError:
        return RegistryError(
            f"the answer has {what}", where=self.where, remedy="check that [registry] url is that of a schema registry"
        )


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # OpenSSL would ask for it on the terminal


def _is_int(value: object) -> TypeGuard[int]:
    return type(value) is int


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _shown(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


async def _read(response: aiohttp.ClientResponse, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise RegistryRefusedError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", where=url)
    return bytes(body)


def _judged(response: aiohttp.ClientResponse, body: bytes, url: str) -> Any:
    """The answer as JSON, or the error that it is."""
    status = response.status
    if 300 <= status < 400:
        place = _shown(response.headers.get("location", "nowhere"))
        raise RegistryRefusedError(
            f"redirects to {place}, and redirects are not followed: credentials would go along",
            where=url,
            remedy="set [registry] url to where the registry is",
        )
    if status in _REFUSED:
        raise RegistryRefusedError(f"answers {status}: the credentials are missing, wrong, or not enough", where=url)
    if status in _MAY_PASS or status >= 500:
        after = response.headers.get("retry-after", "")
        after_ms = int(after) * 1000 if after.isascii() and after.isdigit() and len(after) < 6 else 0
        raise _MayPassError(f"answers {status}", where=url, after_ms=after_ms)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if 200 <= status < 300:
        if found is None:
            raise _MayPassError("the answer is not JSON, so what answers is no registry, or a proxy of one", where=url)
        return found
    raise _refusal(status, found if isinstance(found, dict) else {}, url)


def _refusal(status: int, found: dict[str, Any], url: str) -> Exception:
    code, said = found.get("error_code"), _shown(str(found.get("message", "")))
    if code in _UNKNOWN:
        return SchemaUnknownError(f"the registry has none such: {said}", where=url)
    if status == 409:
        return IncompatibleError(f"the registry finds it incompatible: {said}", where=url)
    if status == 422:
        return ContractError(f"the registry finds it invalid: {said}", where=url)
    remedy = "check the path of [registry] url (Apicurio's ends with /apis/ccompat/v7)" if status == 404 else ""
    detail = f"answers {status}" + (f", error code {code}: {said}" if code is not None else ", not as a registry does")
    return RegistryRefusedError(detail, where=url, remedy=remedy)
