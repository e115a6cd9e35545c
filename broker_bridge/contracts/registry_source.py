"""Contracts of a schema registry, fetched when first asked for, and kept: what an id stands for never changes.

Nothing here blocks an event loop: there, what is not known yet is fetched by a thread of its own, and the caller is
told so by SchemaPendingError. Where no loop would be blocked, and while ``waits`` is set, the call waits instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.registry_cache import SchemaCache
from broker_bridge.contracts.registry_client import RegisteredSchema, RegistryClient
from broker_bridge.contracts.registry_references import self_contained
from broker_bridge.contracts.same_schema import sameness
from broker_bridge.contracts.schema_marks import fingerprint_of
from broker_bridge.errors import BridgeError, ContractError, RegistryError, SchemaPendingError, SchemaUnknownError
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger

MOST_KNOWN: Final = 10_000
MOST_UNKNOWN: Final = 1_000
"""Schemas, and refusals, that are remembered; then the oldest is forgotten."""
MOST_FETCHES: Final = 4
"""At once, whatever ids values claim to have."""
REST_S: Final = 1.0
"""How long the registry is left alone after it failed."""
_OLD_VERSIONS: Final = 100
V = TypeVar("V")
log = get_logger(__name__)


class Wanted(NamedTuple):
    """What is asked for: an id on the wire, a version of a subject (None: the latest), a GUID, or a fingerprint (hex,
    as it is on the wire)."""

    schema_id: int = 0
    subject: str = ""
    version: int | None = None
    guid: str = ""
    fingerprint: str = ""

    def __str__(self) -> str:
        if self.schema_id:
            return f"schema id {self.schema_id}"
        if self.guid:
            return f"GUID {self.guid}"
        if self.fingerprint:
            return f"fingerprint 0x{bytes.fromhex(self.fingerprint)[::-1].hex()}"
        return f"{'the latest version' if self.version is None else f'version {self.version}'} of {self.subject}"


class RegistrySource:
    """Contracts of one registry. Ids are the registry's, always.

    ``folder``, where there is one, has the schemas that this service writes and reads as: of a subject in it, ``get``
    gives the folder's schema under the id that the registry has for that text. Versions must have the same number in
    both. Other subjects come from the registry. ``get`` without a version asks once; who wants a later one starts
    anew. ``cache`` keeps all that on disk.
    """

    def __init__(
        self,
        client: RegistryClient,
        *,
        cache: SchemaCache | None = None,
        folder: SchemaDirectory | None = None,
        auto_register: bool = False,
        unknown_ttl_s: float = 30.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waits = True
        self._client = client
        self._cache = cache
        self._folder = folder
        self._auto_register = auto_register
        self._unknown_ttl_s = unknown_ttl_s
        self._now_s = now_s
        self._known: dict[Wanted, Contract] = {}
        self._unknown: dict[Wanted, tuple[float, BridgeError]] = {}
        self._subjects: set[str] = set()
        self._under_way: dict[Wanted, Future[None]] = {}
        self._lost: RegistryError | None = None
        self._rest_until_s = 0.0
        self._lock = threading.Lock()

    def by_id(self, schema_id: int) -> Contract:
        """The contract of an id on the wire. Raises SchemaUnknownError where the registry says that there is none,
        ContractError where it cannot be read as a contract, RegistryError where nobody can say now."""
        return self._find(Wanted(schema_id))

    def by_guid(self, guid: UUID) -> Contract:
        """The contract that the registry calls so. Raises as ``by_id``."""
        return self._find(Wanted(guid=str(guid)))

    def by_fingerprint(self, fingerprint: bytes) -> Contract:
        """The contract with this fingerprint (eight bytes, as they are on the wire), of the subjects that were asked
        for by name: a registry cannot be asked for one. Raises as ``by_id``."""
        return self._find(Wanted(fingerprint=fingerprint.hex()))

    def get(self, subject: str, version: int | None = None) -> Contract:
        """One version of a subject, the latest without ``version``. Raises as ``by_id``; also where a schema of the
        folder is not registered, unless it is to be."""
        self._subjects.add(subject)
        return self._find(Wanted(0, subject, version))

    def versions(self, subject: str) -> list[Contract]:
        """All versions of a subject, oldest first. Raises as ``by_id``, also where one of them was deleted."""
        latest = self.get(subject)
        return [*(self.get(subject, version) for version in range(1, latest.version)), latest]

    def contracts(self) -> Iterable[Contract]:
        """Every contract that was fetched so far, in the order of the ids."""
        known = list(self._known.values())  # at one stroke: a fetch may add to it meanwhile
        return sorted({id(one): one for one in known}.values(), key=lambda one: one.schema_id)

    def recall(self, contract: Contract) -> None:
        """Fetch the versions before ``contract``, so that values written under them are read while the registry is
        away. What cannot be had now is left for later."""
        for version in range(contract.version - 1, max(0, contract.version - 1 - _OLD_VERSIONS), -1):
            try:
                self._find(Wanted(0, contract.subject, version))
            except RegistryError:
                return
            except ContractError:  # deleted, or of no use
                continue

    def _find(self, wanted: Wanted) -> Contract:
        while True:
            found = self._known.get(wanted)
            if found is not None:
                return found
            self._raise_refusal(wanted)
            pending = self._under_way.get(wanted)
            if pending is None:
                kept = self._kept(wanted)
                if kept is not None:
                    return self._remember(wanted, kept)
                if self._lost is not None and self._now_s() < self._rest_until_s:
                    raise _again(self._lost)
                pending = self._begin(wanted)
            if not self.waits and _in_event_loop():
                raise SchemaPendingError(f"{wanted} is being fetched", fetched=pending, where=self._client.where)
            pending.result()

    def _raise_refusal(self, wanted: Wanted) -> None:
        until_s, refusal = self._unknown.get(wanted, (0.0, None))
        if refusal is not None and self._now_s() < until_s:
            raise _again(refusal)

    def _begin(self, wanted: Wanted) -> Future[None]:
        """Fetch it. Where as many are under way as may be, the answer is when the first of them is done."""
        with self._lock:
            if wanted in self._under_way or len(self._under_way) >= MOST_FETCHES:
                return self._under_way.get(wanted) or next(iter(self._under_way.values()))
            done = self._under_way[wanted] = Future()
        done.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it
        threading.Thread(target=self._fetch, args=(wanted, done), name=f"fetch {wanted}", daemon=True).start()
        return done

    def _fetch(self, wanted: Wanted, done: Future[None]) -> None:
        try:
            self._remember(wanted, asyncio.run(self._load(wanted)))
        except RegistryError as error:
            self._away(error)
            self._use_last(wanted)
        except BridgeError as error:
            _bounded(self._unknown, MOST_UNKNOWN)[wanted] = (self._now_s() + self._unknown_ttl_s, error)
            self._back()
        except Exception as error:  # noqa: BLE001 - whoever waits is to hear of it
            self._away(RegistryError(f"fetching {wanted} raised {error!r}", where=self._client.where))
        else:
            self._back()
        finally:
            with self._lock:
                del self._under_way[wanted]
            done.set_result(None)

    def _use_last(self, wanted: Wanted) -> None:
        """What was the latest version when the registry last answered, where that is what is wanted."""
        kept = self._cache.read(str(wanted)) if self._cache is not None and wanted.subject else None
        if kept is not None:
            with suppress(ContractError):
                self._remember(wanted, kept)

    def _away(self, error: RegistryError) -> None:
        if self._lost is None:
            log.warning(names.REGISTRY_LOST, url=self._client.where, code=error.code, error=str(error))
        self._lost, self._rest_until_s = error, self._now_s() + REST_S

    def _back(self) -> None:
        if self._lost is not None:
            log.info(names.REGISTRY_FOUND, url=self._client.where)
        self._lost = None

    def _remember(self, wanted: Wanted, schema: RegisteredSchema) -> Contract:
        """The contract, the same object for all that ask for the same schema under the same id."""
        subject = schema.subject if "-" in schema.subject else ""  # others must be the record's name, or are not kept
        where = f"{self._client.where}/schemas/ids/{schema.schema_id}"
        made = parse_contract(
            schema.text,
            subject=subject,
            version=schema.version,
            schema_id=schema.schema_id,
            guid=UUID(schema.guid) if schema.guid else None,
            where=where,
        )
        twin = self._known.get(Wanted(schema.schema_id))
        if twin is not None and twin.ref == made.ref and sameness(twin.text) == sameness(made.text):
            made = twin
        _bounded(self._known, MOST_KNOWN)[wanted] = made
        self._known.setdefault(Wanted(schema.schema_id), made)
        self._unknown.pop(wanted, None)
        return made

    def _kept(self, wanted: Wanted) -> RegisteredSchema | None:
        own = self._own(wanted)
        is_fixed = wanted.version is not None or not wanted.subject
        if self._cache is None or (own is None and not is_fixed):
            return None
        return self._cache.read(str(wanted) if own is None else _place_of(own))

    def _keep(self, key: str, schema: RegisteredSchema) -> None:
        if self._cache is not None:
            self._cache.write(key, schema)

    def _own(self, wanted: Wanted) -> Contract | None:
        """The folder's schema, where it has one."""
        if self._folder is None or not wanted.subject:
            return None
        found = {
            one.version: one
            for one in (*self._folder.contracts(), *self._folder.drafts)
            if one.subject == wanted.subject
        }
        return found.get(max(found, default=0) if wanted.version is None else wanted.version)

    async def _load(self, wanted: Wanted) -> RegisteredSchema:
        own = self._own(wanted)
        if own is not None:
            return await self._load_own(own)
        if wanted.schema_id:
            return await self._load_id(wanted)
        if wanted.guid:
            return await self._load_guid(wanted)
        if wanted.fingerprint:
            return await self._load_fingerprint(wanted)
        found = await self._client.version(wanted.subject, wanted.version)
        schema = replace(found, text=await self_contained(self._client, found), references=())
        for key in (str(wanted), str(Wanted(found.schema_id)), str(Wanted(0, wanted.subject, found.version))):
            self._keep(key, schema)
        return schema

    async def _load_id(self, wanted: Wanted) -> RegisteredSchema:
        found = await self._client.schema(wanted.schema_id)
        text = await self_contained(self._client, found)
        places = await self._client.places(wanted.schema_id)
        if not places:
            raise SchemaUnknownError(f"{wanted} is registered under no subject any more", where=self._client.where)
        record = parse_contract(text).subject
        subject, version = min(places, key=lambda one: (one[0] not in self._subjects, one[0] != record, one))
        schema = RegisteredSchema(wanted.schema_id, text, subject, version, guid=found.guid)
        self._keep(str(wanted), schema)
        return schema

    async def _load_guid(self, wanted: Wanted) -> RegisteredSchema:
        ids = await self._client.ids_of_guid(UUID(wanted.guid))
        if not ids:
            raise SchemaUnknownError(f"no schema has {wanted}", where=self._client.where)
        schema = replace(await self._load_id(Wanted(ids[0])), guid=wanted.guid)
        self._keep(str(wanted), schema)
        return schema

    async def _load_fingerprint(self, wanted: Wanted) -> RegisteredSchema:
        for subject in sorted(self._subjects):
            for version in await self._client.versions(subject):
                place = Wanted(0, subject, version)
                if place in self._known:
                    continue
                with suppress(ContractError):  # of no use, so it is not the one
                    schema = await self._load(place)
                    if fingerprint_of(self._remember(place, schema)).hex() == wanted.fingerprint:
                        self._keep(str(wanted), schema)
                        return schema
        raise SchemaUnknownError(f"no schema has {wanted}", where=self._client.where)

    async def _load_own(self, own: Contract) -> RegisteredSchema:
        try:
            found = await self._client.lookup(own.subject, own.text)
        except SchemaUnknownError as error:
            if not self._auto_register:
                remedy = "run: broker-bridge schemas push; or set auto_register = true under [registry]"
                detail = f"version {own.version} of {own.subject} is not registered at {self._client.where}"
                raise SchemaUnknownError(detail, where=own.where, remedy=remedy) from error
            found = await self._register(own)
        if found.version != own.version:
            raise _misnumbered(own, found.version)
        schema = RegisteredSchema(found.schema_id, own.text, own.subject, found.version, guid=found.guid)
        self._keep(_place_of(own), schema)
        return schema

    async def _register(self, own: Contract) -> RegisteredSchema:
        try:
            there = await self._client.versions(own.subject)
        except SchemaUnknownError:
            there = []
        if own.version != max(there, default=0) + 1:
            raise _misnumbered(own, max(there, default=0) + 1)
        schema_id = await self._client.register(own.subject, own.text)
        log.info(names.SCHEMA_REGISTERED, subject=own.subject, version=own.version, schema_id=schema_id)
        return await self._client.lookup(own.subject, own.text)


def _misnumbered(own: Contract, number: int) -> ContractError:
    return ContractError(
        f"it is version {own.version} of {own.subject} here, and would be or is version {number} at the registry",
        where=own.where,
        remedy="bring both in step: broker-bridge schemas push, or pull",
    )


def _place_of(own: Contract) -> str:
    """The key of a schema of the folder: it is its text that is looked up."""
    return f"{hashlib.sha256(sameness(own.text).encode()).hexdigest()} of {own.subject}"


def _again(error: BridgeError) -> BridgeError:
    """The error as a new one: one that is raised again and again would gather tracebacks."""
    return type(error)(error.detail, remedy=error.remedy, where=error.where)


def _bounded(kept: dict[Wanted, V], most: int) -> dict[Wanted, V]:
    """``kept`` with room for one more."""
    while len(kept) >= most:
        kept.pop(next(iter(kept)), None)
    return kept


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
