"""Where contracts come from: a folder (``directory``) or a registry (``registry_source``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar
from uuid import UUID

from broker_bridge.contracts.contract import Contract
from broker_bridge.errors import SchemaPendingError

T = TypeVar("T")


class SchemaSource(Protocol):
    """What the codec needs. An answer never changes, so it may be kept.

    A registry's source may also raise RegistryError: it is away, or the schema is being fetched (SchemaPendingError).
    """

    def by_id(self, schema_id: int) -> Contract:
        """The contract of an id on the wire. Raises SchemaUnknownError."""

    def by_guid(self, guid: UUID) -> Contract:
        """The contract that a registry calls so. Raises SchemaUnknownError."""

    def by_fingerprint(self, fingerprint: bytes) -> Contract:
        """The contract with this fingerprint (eight bytes, as on the wire), where it is not among ``contracts`` yet.
        Raises SchemaUnknownError."""

    def get(self, subject: str, version: int | None = None) -> Contract:
        """One version of a subject, the latest without ``version``. Raises SchemaUnknownError."""

    def versions(self, subject: str) -> list[Contract]:
        """All versions of a subject, oldest first. Raises SchemaUnknownError."""

    def contracts(self) -> Iterable[Contract]:
        """Every registered contract that is known here, in the order of the ids."""


async def when_fetched(act: Callable[[], T]) -> T:
    """What ``act`` returns, which is called again whenever a schema that it lacked has been fetched. Raises what it
    raises, RegistryError included where the registry is away."""
    while True:
        try:
            return act()
        except SchemaPendingError as error:
            await asyncio.wrap_future(error.fetched)
