"""What bringing a folder of schemas and a registry in step would do, decided before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.registry_client import RegisteredSchema, RegistryClient
from broker_bridge.contracts.registry_references import self_contained
from broker_bridge.contracts.same_schema import sameness
from broker_bridge.errors import ContractError


class Action(StrEnum):
    """What is to be done with one version of one subject."""

    NOTHING = "in step"
    ELSEWHERE = "only there"
    REGISTER = "register"
    ENTER = "enter id"
    RENUMBER = "renumber"
    WRITE = "write file"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Step:
    """One version of one subject. ``schema_id`` is the id it has, or is to have; None where the registry will choose.

    ``detail`` says why, where that is not plain. ``contract`` is the schema, where the step needs it.
    """

    action: Action
    subject: str
    version: int
    schema_id: int | None = None
    detail: str = ""
    contract: Contract | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, in the order in which they are to be done."""

    steps: Sequence[Step]

    @property
    def conflicts(self) -> list[Step]:
        """What stands in the way. Nothing is done while there is one."""
        return [step for step in self.steps if step.action is Action.CONFLICT]

    @property
    def changes(self) -> list[Step]:
        """What is to be done."""
        idle = (Action.NOTHING, Action.ELSEWHERE, Action.CONFLICT)
        return [step for step in self.steps if step.action not in idle]


async def readable(client: RegistryClient, found: RegisteredSchema) -> Contract:
    """A registered schema as a contract. Raises ContractError where a folder cannot hold it."""
    text = await self_contained(client, found)
    where = f"{found.subject} version {found.version} at {client.where}"
    return parse_contract(
        text,
        subject=found.subject,
        version=found.version,
        schema_id=found.schema_id,
        guid=guid_in(found),
        where=where,
    )


def guid_in(found: RegisteredSchema) -> UUID | None:
    """What the registry calls a schema, where it has GUIDs."""
    return UUID(found.guid) if found.guid else None


def differs(one: Contract, other: Contract) -> str:
    """How two schemas differ, in a few words; empty where they say the same."""
    if one.sha256 != other.sha256:
        return "another schema"
    if sameness(one.text) != sameness(other.text):
        return "a schema with other defaults, aliases, docs or properties"
    return ""


def reason(error: ContractError) -> str:
    """An error as the detail of a conflict."""
    return f"{error.detail} ({error.remedy})" if error.remedy else error.detail
