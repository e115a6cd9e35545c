"""From a folder of schemas to a registry. Ids are the registry's to give, so what has one already must get the same."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import groupby

from broker_bridge.contracts.compatibility import Mode, check, describe
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.registry_client import RegistryClient
from broker_bridge.contracts.registry_plan import Action, Plan, Step, differs, guid_in, readable, reason
from broker_bridge.errors import ContractError, SchemaUnknownError

Told = Callable[[Step], None]
"""Called with each step that is done, with the id it came to."""


class Push:
    """Plans and does it. ``subjects`` limits it to those; with ``renumber`` the folder takes the registry's ids where
    they differ, which makes values under its own ids unreadable: for schemas that no value was written under."""

    def __init__(
        self,
        client: RegistryClient,
        folder: SchemaDirectory,
        *,
        subjects: Collection[str] = (),
        renumber: bool = False,
    ) -> None:
        self._client = client
        self._folder = folder
        self._subjects = subjects
        self._renumber = renumber

    async def plan(self) -> Plan:
        """What would be done. Raises SchemaUnknownError where the folder has no such subject, RegistryError."""
        live = set(await self._client.subjects())
        gone = set(await self._client.subjects(deleted=True)) - live
        own = self._own()
        missing = sorted(set(self._subjects) - {one.subject for one in own})
        if missing:
            raise SchemaUnknownError(f"the folder has no subject {missing[0]!r}", where=str(self._folder.path))
        steps: dict[tuple[str, int], Step] = {}
        by_subject = sorted(own, key=lambda one: (one.subject, one.version))
        for subject, versions in groupby(by_subject, key=lambda one: one.subject):
            for step in await self._of_subject(list(versions), is_live=subject in live, is_gone=subject in gone):
                steps[step.subject, step.version] = step
        # by id, so that a registry that counts up gives the same ones; drafts last
        order = {(one.subject, one.version): number for number, one in enumerate(own)}
        return Plan(sorted(steps.values(), key=lambda one: order.get((one.subject, one.version), len(order))))

    async def run(self, plan: Plan, told: Told) -> None:
        """Do it, step by step; what is done stays done. Raises IncompatibleError where the registry refuses a version,
        ContractError where it gave another id than the folder has, RegistryError."""
        for step in plan.changes:
            schema_id, own = step.schema_id, step.contract
            assert own is not None
            if step.action is Action.REGISTER:
                schema_id = await self._client.register(own.subject, own.text)
            assert schema_id is not None
            if not own.schema_id:
                own = replace(own, guid=guid_in(await self._client.schema(schema_id)))
            self._enter(own, schema_id)
            told(Step(step.action, step.subject, step.version, schema_id))

    def _own(self) -> list[Contract]:
        """The folder's contracts by id, then its drafts by version."""
        drafts = sorted(self._folder.drafts, key=lambda one: (one.subject, one.version))
        return [
            one for one in (*self._folder.contracts(), *drafts) if not self._subjects or one.subject in self._subjects
        ]

    async def _of_subject(self, own: list[Contract], *, is_live: bool, is_gone: bool) -> list[Step]:
        subject = own[0].subject
        if is_gone:
            detail = "the subject was deleted at the registry: registering it would bring it back"
            return [Step(Action.CONFLICT, subject, own[0].version, own[0].schema_id or None, detail)]
        there = await self._client.versions(subject) if is_live else []
        steps: list[Step] = []
        next_version = max(there, default=0) + 1
        for contract in own:
            if contract.version in there:
                steps.append(await self._compared(contract))
            elif contract.version == next_version:
                steps.append(
                    await self._new(contract, is_next=is_live and contract.version == max(there, default=0) + 1)
                )
                next_version += 1
            else:
                detail = f"the registry's next version is {next_version}: earlier ones were deleted, or are not here"
                steps.append(Step(Action.CONFLICT, subject, contract.version, contract.schema_id or None, detail))
        known = {contract.version for contract in own}
        steps += [
            Step(Action.ELSEWHERE, subject, version, detail="pull it") for version in there if version not in known
        ]
        return steps

    async def _compared(self, own: Contract) -> Step:
        """A version that both have."""
        place = (own.subject, own.version)
        try:
            found = await readable(self._client, await self._client.version(*place))
        except ContractError as error:
            return Step(Action.CONFLICT, *place, own.schema_id or None, reason(error))
        if other := differs(own, found):
            return Step(Action.CONFLICT, *place, own.schema_id or None, f"the registry has {other} as this version")
        if own.schema_id == found.schema_id:
            return Step(Action.NOTHING, *place, own.schema_id)
        if taken := self._holder(found.schema_id, own):
            return Step(Action.CONFLICT, *place, found.schema_id, f"the registry's id for it is that of {taken} here")
        if not own.schema_id:
            return Step(Action.ENTER, *place, found.schema_id, "registered already", own)
        if self._renumber:
            return Step(Action.RENUMBER, *place, found.schema_id, f"has id {own.schema_id} here", own)
        return Step(Action.CONFLICT, *place, own.schema_id, f"the registry has it under id {found.schema_id}")

    async def _new(self, own: Contract, *, is_next: bool) -> Step:
        """A version that the registry does not have. Only one that is next can be checked beforehand."""
        place = (own.subject, own.version)
        if own.schema_id and not self._renumber and await self._is_taken(own):
            detail = f"id {own.schema_id} stands for another schema at the registry"
            return Step(Action.CONFLICT, *place, own.schema_id, detail)
        if is_next and (reasons := await self._client.incompatibilities(own.subject, own.text)) is not None:
            detail = f"the registry finds it incompatible: {'; '.join(reasons) or self._guess(own)}"
            return Step(Action.CONFLICT, *place, own.schema_id or None, detail)
        wanted = None if self._renumber else own.schema_id or None
        return Step(Action.REGISTER, *place, wanted, "" if wanted else "the registry gives the id", own)

    def _guess(self, own: Contract) -> str:
        """Why a version may be incompatible, where the registry does not say: what stands against most modes."""
        before = [one for one in self._own() if one.subject == own.subject and one.version == own.version - 1]
        problems = check(own, before, Mode.FULL)
        return f"it gives no reason; of our own check: {describe(problems[:3])}" if problems else "it gives no reason"

    async def _is_taken(self, own: Contract) -> bool:
        """Whether its id stands for another schema at the registry."""
        try:
            return bool(differs(own, await readable(self._client, await self._client.schema(own.schema_id))))
        except SchemaUnknownError:
            return False
        except ContractError:
            return True

    def _holder(self, schema_id: int, own: Contract) -> str:
        for one in self._folder.contracts():
            if one.schema_id == schema_id and one.ref != own.ref:
                return f"{one.subject} version {one.version}"
        return ""

    def _enter(self, own: Contract, schema_id: int) -> None:
        """Bring the folder's id in line with what the registry gave."""
        if not own.schema_id:
            self._folder.adopt(own, schema_id)
        elif own.schema_id != schema_id and self._renumber:
            self._folder.renumber(own, schema_id)
        elif own.schema_id != schema_id:
            raise ContractError(
                f"the registry gave id {schema_id} to version {own.version} of {own.subject}, which has id "
                f"{own.schema_id} here: values under {own.schema_id} cannot be read through the registry",
                where=own.where,
                remedy="if none was ever written: broker-bridge schemas push --renumber",
            )
