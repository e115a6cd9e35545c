"""From a registry to a folder of schemas: files and ids, the registry's own."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_plan import Action, Plan, Step, differs, readable, reason
from broker_bridge.contracts.registry_push import Told
from broker_bridge.contracts.same_schema import sameness
from broker_bridge.contracts.schema_tree import load_json
from broker_bridge.contracts.submitted_schema import SUBJECT
from broker_bridge.errors import ContractError, SchemaUnknownError


class Pull:
    """Plans and does it. ``subjects`` limits it to those. Nothing that is in the folder is changed or removed."""

    def __init__(
        self, client: RegistryClient, folder: SchemaDirectory | None, *, subjects: Collection[str] = ()
    ) -> None:
        self._client = client
        self._subjects = subjects
        own = () if folder is None else (*folder.contracts(), *folder.drafts)
        self._own = {(one.subject, one.version): one for one in own}
        self._holders = {one.schema_id: f"{one.subject} version {one.version}" for one in own if one.schema_id}

    async def plan(self) -> Plan:
        """What would be done. Raises SchemaUnknownError where the registry has no such subject, RegistryError."""
        there = sorted(await self._client.subjects())
        missing = sorted(set(self._subjects) - set(there))
        if missing:
            raise SchemaUnknownError(f"the registry has no subject {missing[0]!r}", where=self._client.where)
        steps: list[Step] = []
        for subject in there:
            if not self._subjects or subject in self._subjects:
                steps += await self._of_subject(subject)
        return Plan(steps)

    async def run(self, plan: Plan, folder: SchemaDirectory, told: Told) -> None:
        """Do it, step by step; what is done stays done. Raises ContractError where the folder changed meanwhile."""
        for step in plan.changes:
            assert step.schema_id is not None
            assert step.contract is not None
            folder.adopt(step.contract, step.schema_id)
            told(Step(step.action, step.subject, step.version, step.schema_id))

    async def _of_subject(self, subject: str) -> list[Step]:
        if SUBJECT.fullmatch(subject) is None:
            return [Step(Action.CONFLICT, subject, 1, None, "no folder can be called so: pull the others by name")]
        steps: list[Step] = []
        versions = await self._client.versions(subject, deleted=True)
        for expected, version in enumerate(versions, start=1):
            if version != expected:
                detail = f"version {expected} was deleted for good, and a folder has no gaps"
                return [*steps, Step(Action.CONFLICT, subject, version, None, detail)]
            steps.append(await self._of_version(subject, version))
            if steps[-1].action is Action.CONFLICT:
                return steps
        return steps

    async def _of_version(self, subject: str, version: int) -> Step:
        place = (subject, version)
        try:
            found = await readable(self._client, await self._client.version(*place, deleted=True))
        except ContractError as error:
            return Step(Action.CONFLICT, *place, None, reason(error))
        if (found.subject, found.version) != place:
            return Step(Action.CONFLICT, *place, None, f"the registry answers with {found.subject} {found.version}")
        held = self._holders.setdefault(found.schema_id, f"{subject} version {version}")
        own = self._own.get(place)
        if own is not None and (other := differs(own, found)):
            return Step(Action.CONFLICT, *place, own.schema_id or None, f"the registry has {other} as this version")
        if own is not None and own.schema_id and own.schema_id != found.schema_id:
            detail = f"the registry has it under id {found.schema_id}"
            return Step(Action.CONFLICT, *place, own.schema_id, detail)
        if held != f"{subject} version {version}":
            detail = f"its id is that of {held}, and a folder has one place for an id: pull subjects by name"
            return Step(Action.CONFLICT, *place, found.schema_id, detail)
        if own is None:
            return Step(Action.WRITE, *place, found.schema_id, contract=replace(found, text=_file_text(found)))
        if not own.schema_id:
            return Step(Action.ENTER, *place, found.schema_id, "the file is here already", found)
        return Step(Action.NOTHING, *place, own.schema_id)


def _file_text(found: Contract) -> str:
    """The schema as a person reads it, where that says the same."""
    written = json.dumps(load_json(found.text), indent=2, ensure_ascii=False) + "\n"
    return written if sameness(written) == sameness(found.text) else found.text
