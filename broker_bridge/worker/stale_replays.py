"""Replays that must not put an older state over a newer one (invariant I13, ``core.newest_version``)."""

from __future__ import annotations

from collections.abc import Iterable

from broker_bridge import headers as h
from broker_bridge.contracts.contract import Contract
from broker_bridge.core.identity import version_key
from broker_bridge.core.newest_version import MAX_VERSION, MIN_VERSION, ReplayOrder
from broker_bridge.errors import ConfigError, StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.pipeline import Pipeline

STALE = "stale"
"""Why a message is skipped: a newer version of its record key was completed."""
_SKIP_STALE = ReplayOrder.SKIP_STALE.value.encode()


def version_in(value: object, field: str) -> int | None:
    """The version that a decoded value carries; None where it has none that an Avro long could hold."""
    found = value.get(field) if isinstance(value, dict) else None
    if type(found) is not int or not MIN_VERSION <= found <= MAX_VERSION:
        return None
    return found


def check_version_field(contract: Contract, name: str) -> None:
    """Raise ``ConfigError`` where the contract has no such field that holds plain whole numbers (null beside them is
    fine: without a version a value is never stale)."""
    field = next((field for field in contract.tree.fields if field.name == name), None)
    branches = [] if field is None else field.type.branches or [field.type]
    kinds = {"null" if branch.kind == "null" else branch.logical or branch.kind for branch in branches}
    if not kinds & {"int", "long"} or kinds - {"int", "long", "null"}:
        found = "has no such field" if field is None else f"has it as {' or '.join(sorted(kinds))}"
        raise ConfigError(
            f"version_field {name!r} must be an int or long of the contract, and {contract.subject} {found}",
            where="[route.contract] version_field",
            remedy="name the field that grows with every change of what the record key stands for, or leave it out",
        )


class StaleReplays:
    """Asks for the newest completed version when the turn of a replayed message has come."""

    def __init__(self, pipeline: Pipeline, store: IdempotencyStore) -> None:
        self._p = pipeline
        self._store = store
        contract = pipeline.route.contract
        self.keeps_versions = contract is not None and contract.version_field is not None

    def concerns(self, delivery: Delivery) -> bool:
        """Whether this one is to be turned away where it is behind: only a lane of the group may say so."""
        return (
            self.keeps_versions
            and not delivery.from_source
            and delivery.record.key is not None
            and delivery.named.get(h.ORDER) == _SKIP_STALE
        )

    async def ask(self, delivery: Delivery) -> bool:
        """Note the newest version on the delivery. False where the store is away: then nobody can tell."""
        key = delivery.record.key
        assert key is not None
        route = self._p.route
        try:
            (delivery.newest,) = await self._store.versions(route.group, [version_key(key, namespace=route.topic)])
        except StoreError:
            self._p.metrics.store_error(route.name)
            return False
        here = self._p.unsettled_versions.get(key)
        if here is not None:
            delivery.newest = here if delivery.newest is None else max(here, delivery.newest)
        return True

    def completed(self, delivery: Delivery) -> None:
        """The target took it: from here on its version counts, though the store gets it only with its batch. The next
        message of its key may start before that."""
        key, version = delivery.record.key, delivery.version
        if key is not None and version is not None:
            self._p.unsettled_versions[key] = max(version, self._p.unsettled_versions.get(key, version))

    def written(self, deliveries: Iterable[Delivery]) -> None:
        """The store has the versions of these."""
        unsettled = self._p.unsettled_versions
        for delivery in deliveries:
            key, version = delivery.record.key, delivery.version
            if key is not None and version is not None and unsettled.get(key, version + 1) <= version:
                del unsettled[key]
