"""Schemas kept in the repository: ``<subject>/v<N>.avsc`` and ``ids.jsonl``, which says what each id on the wire means.

Everything is checked when the directory is loaded, so that a broken contract stops a start, not a message. An id is
for ever:
lines are only ever added, and the next id is one above the highest that was ever given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from broker_bridge.contracts.compatibility import Mode, check, describe
from broker_bridge.contracts.contract import Contract, parse_contract, read_text, version_files
from broker_bridge.contracts.folder_files import locked, replace_text
from broker_bridge.contracts.framing import MAX_SCHEMA_ID
from broker_bridge.contracts.ids_file import IDS_FILE, IdLine, content_of, read_ids, with_line, without_line
from broker_bridge.contracts.same_schema import sameness
from broker_bridge.errors import ContractError, IncompatibleError, NotFoundError, SchemaUnknownError, UsageError


class SchemaDirectory:
    """The contracts of one folder, loaded and checked once.

    ``drafts=True`` (what ``register`` and the CLI use) allows files that have no id yet; they are in ``drafts`` and
    ``get`` does not return them. Raises NotFoundError where the folder or ``ids.jsonl`` is missing and
    ContractError, with file and line, at the first thing
    that is wrong.
    """

    drafts: list[Contract]
    _by_id: dict[int, Contract]
    _versions: dict[str, list[Contract]]
    _content: dict[int, str | None]

    def __init__(self, path: str | Path, *, drafts: bool = False) -> None:
        self.path = Path(path)
        try:
            self._load(drafts)
        except ContractError:
            if drafts:
                raise
            # Another process may just be between a version's file and its id: look again when nobody writes.
            with locked(self.path):
                self._load(drafts)

    def by_id(self, schema_id: int) -> Contract:
        """The contract of an id on the wire. Raises SchemaUnknownError."""
        found = self._by_id.get(schema_id)
        if found is None:
            raise SchemaUnknownError(f"no schema has id {schema_id}", where=str(self.path / IDS_FILE))
        return found

    def by_guid(self, guid: UUID) -> Contract:
        """The contract of a GUID that a registry gave it. Raises SchemaUnknownError."""
        for contract in self._by_id.values():
            if contract.guid == guid:
                return contract
        raise SchemaUnknownError(f"no schema has GUID {guid}", where=str(self.path / IDS_FILE))

    def by_fingerprint(self, fingerprint: bytes) -> Contract:
        """Raises SchemaUnknownError: all there are is among ``contracts``."""
        raise SchemaUnknownError(f"no schema has fingerprint 0x{fingerprint[::-1].hex()}", where=str(self.path))

    def get(self, subject: str, version: int | None = None) -> Contract:
        """One version of a subject, the latest without ``version``. Raises SchemaUnknownError."""
        versions = self._versions.get(subject)
        if not versions:
            known = ", ".join(self._versions) or "none"
            raise SchemaUnknownError(f"no subject is called {subject!r}; known are: {known}", where=str(self.path))
        if version is None:
            return versions[-1]
        if not 1 <= version <= len(versions):
            raise SchemaUnknownError(
                f"{subject} has versions 1 to {len(versions)}, not {version}", where=str(self.path)
            )
        return versions[version - 1]

    def subjects(self) -> list[str]:
        """Registered subjects, by name."""
        return list(self._versions)

    def versions(self, subject: str) -> list[Contract]:
        """All versions of a subject, oldest first. Raises SchemaUnknownError."""
        return self._versions[self.get(subject).subject]

    def contracts(self) -> Iterator[Contract]:
        """Every registered contract, in the order of the ids."""
        for schema_id in sorted(self._by_id):
            yield self._by_id[schema_id]

    def register(self, subject: str, version: int | None = None, *, mode: Mode = Mode.BACKWARD) -> Contract:
        """Give the next id to ``<subject>/v<version>.avsc`` (the next version without an id, by default).

        Asking again for what is registered returns it. Two processes may register at once: the ids file is read again
        and replaced under a lock. Raises NotFoundError (no such file), ContractError (another version comes first, or
        the file was edited since it was registered), IncompatibleError (with ``mode``, against the versions before it).
        """
        with locked(self.path):
            fresh = SchemaDirectory(self.path, drafts=True)
            known = fresh._versions.get(subject, [])
            wanted = version if version is not None else len(known) + 1
            if 1 <= wanted <= len(known):
                contract = known[wanted - 1]
                fresh.require_unedited(contract)
            else:
                draft = fresh._draft(subject, wanted, len(known))
                _require_compatible(draft, known, mode)
                contract = fresh._append(draft)
        self._by_id, self._versions = fresh._by_id, fresh._versions
        self._by_id[contract.schema_id] = contract
        if contract not in self._versions.setdefault(subject, []):
            self._versions[subject].append(contract)
        self.drafts = [one for one in self.drafts if one.ref.subject != subject or one.version != contract.version]
        return contract

    def require_unedited(self, contract: Contract) -> None:
        """Raise ContractError where the file of a registered contract says other things than when it was registered.

        Its bytes are read alike, or the folder would not load; but a default, an alias, a doc or a property differs.
        """
        registered = self._content.get(contract.schema_id)
        if registered is not None and registered != content_of(contract.text):
            raise ContractError(
                f"the schema was edited after it was registered as id {contract.schema_id}: a default, an alias, a doc "
                "or another property is not as it was",
                where=contract.where,
                remedy=f"restore the file (git log -p), and put the change into v{contract.version + 1}.avsc",
            )

    def adopt(self, contract: Contract, schema_id: int) -> Contract:
        """Enter a version under the id that a registry gave it; its file is written where there is none yet.

        Asking again changes nothing. Raises ContractError, and writes nothing, where the id or the version stands for
        something else, or the version before it has no id.
        """
        with locked(self.path):
            fresh = SchemaDirectory(self.path, drafts=True)
            subject, version = contract.subject, contract.version
            known = fresh._versions.get(subject, [])
            holder = fresh._by_id.get(schema_id)
            is_there = version <= len(known) and holder is known[version - 1]
            if holder is not None and is_there and sameness(holder.text) == sameness(contract.text):
                return holder
            if holder is not None:
                raise ContractError(
                    f"id {schema_id} is that of {holder.subject} version {holder.version}, not of {subject} {version}",
                    where=str(self.path / IDS_FILE),
                )
            if version != len(known) + 1:
                raise ContractError(
                    f"{subject} has {len(known)} versions with an id, so {version} is not the next",
                    where=str(self.path),
                )
            fresh._enter(replace(fresh._written(contract), guid=contract.guid), schema_id)
            self._reload()
        return self.by_id(schema_id)

    def renumber(self, contract: Contract, schema_id: int) -> None:
        """Give a registered version another id. Values under the old one cannot be read any more: for versions under
        which none was ever written. Raises ContractError where the id is taken."""
        with locked(self.path):
            fresh = SchemaDirectory(self.path, drafts=True)
            if schema_id in fresh._by_id:
                raise ContractError(f"id {schema_id} is taken", where=str(self.path / IDS_FILE))
            path = self.path / IDS_FILE
            replace_text(path, with_line(without_line(read_text(path), contract), contract, schema_id))
            self._reload()

    def _reload(self) -> None:
        fresh = SchemaDirectory(self.path, drafts=True)
        self._by_id, self._versions = fresh._by_id, fresh._versions
        self._content, self.drafts = fresh._content, fresh.drafts

    def find(self, subject: str, text: str) -> Contract | None:
        """The latest version of a subject that is the schema ``text``, None where there is none."""
        wanted = sameness(text)
        same = (one for one in reversed(self._versions.get(subject, [])) if sameness(one.text) == wanted)
        return next(same, None)

    def submit(self, subject: str, text: str, *, mode: Mode) -> Contract:
        """Register a schema that is no file yet: as ``<subject>/v<N>.avsc``, N one above the latest, with the next id.

        What the subject has already, in this or other words (``same_schema``), is returned as it is. Takes the same
        lock as ``register``. Raises ContractError (no valid schema), IncompatibleError, and UsageError where an
        unregistered file is in the way; nothing is written then.
        """
        with locked(self.path):
            fresh = SchemaDirectory(self.path, drafts=True)
            draft = parse_contract(text, subject=subject, version=len(fresh._versions.get(subject, ())) + 1)
            contract = fresh.find(subject, text)
            if contract is None:
                _require_compatible(draft, fresh._versions.get(subject, []), mode)
                contract = fresh._append(fresh._written(draft))
                fresh._by_id[contract.schema_id] = contract
                fresh._versions.setdefault(subject, []).append(contract)
        self._by_id, self._versions, self.drafts = fresh._by_id, fresh._versions, fresh.drafts
        return contract

    def _written(self, draft: Contract) -> Contract:
        """The file of a draft. One that is there already without an id, and says the same, is taken as it is."""
        file = self.path / draft.subject / f"v{draft.version}.avsc"
        for one in self.drafts:
            if one.where == str(file) and sameness(one.text) == sameness(draft.text):
                return one
        if file.exists():
            raise UsageError(
                "another schema is in this file, without an id",
                where=str(file),
                remedy="register it, or move it away",
            )
        file.parent.mkdir(exist_ok=True)
        replace_text(file, draft.text)
        return replace(draft, where=str(file))

    def _draft(self, subject: str, version: int, latest: int) -> Contract:
        for draft in self.drafts:
            if draft.subject == subject and draft.version == version:
                if version != latest + 1:
                    raise ContractError(
                        f"version {latest + 1} has no id yet", remedy="register versions in order", where=draft.where
                    )
                return draft
        raise NotFoundError(
            f"there is no schema file for version {version} of {subject}",
            where=str(self.path / subject / f"v{version}.avsc"),
            remedy="write the schema there first",
        )

    def _append(self, draft: Contract) -> Contract:
        schema_id = max(self._by_id, default=0) + 1
        if schema_id > MAX_SCHEMA_ID:
            raise ContractError("all schema ids are used", where=str(self.path / IDS_FILE))
        return self._enter(draft, schema_id)

    def _enter(self, draft: Contract, schema_id: int) -> Contract:
        path = self.path / IDS_FILE
        replace_text(path, with_line(read_text(path), draft, schema_id))
        return replace(draft, ref=replace(draft.ref, schema_id=schema_id))

    def _load(self, drafts: bool) -> None:
        if not self.path.is_dir():
            raise NotFoundError(
                "there is no such folder of schemas",
                where=str(self.path),
                remedy="name the folder that holds ids.jsonl",
            )
        self.drafts, self._by_id, self._versions = [], {}, {}
        lines = read_ids(self.path / IDS_FILE)
        self._content = {line.schema_id: line.content for line in lines}
        pending = {(line.subject, line.version): line for line in lines}
        for folder in sorted(one for one in self.path.iterdir() if one.is_dir()):
            for version, file in version_files(folder):
                self._add(file, folder.name, version, pending.pop((folder.name, version), None), drafts)
        for line in pending.values():
            raise ContractError(
                f"id {line.schema_id} stands for {line.subject} version {line.version}, which has no file",
                where=line.where,
                remedy=f"restore {self.path / line.subject / f'v{line.version}.avsc'}; values with this id may exist",
            )
        for subject in self._versions:
            self._check_gaps(subject)

    def _add(self, file: Path, subject: str, version: int, line: IdLine | None, drafts: bool) -> None:
        text = read_text(file)
        if line is None:
            if not drafts:
                raise ContractError(
                    "the schema has no id",
                    where=str(file),
                    remedy=f"run: broker-bridge schemas register {subject} --dir {self.path}",
                )
            self.drafts.append(parse_contract(text, subject=subject, version=version, where=str(file)))
            return
        contract = parse_contract(
            text, subject=subject, version=version, schema_id=line.schema_id, guid=line.guid, where=str(file)
        )
        if contract.sha256 != line.sha256:
            raise ContractError(
                f"the schema was edited after it was registered as id {line.schema_id}: its canonical form hashes to "
                f"{contract.sha256[:12]}…, {line.where} says {line.sha256[:12]}…",
                where=str(file),
                remedy="restore the file and put the change into a new version",
            )
        self._by_id[line.schema_id] = contract
        self._versions.setdefault(subject, []).append(contract)

    def _check_gaps(self, subject: str) -> None:
        for expected, contract in enumerate(self._versions[subject], start=1):
            if contract.version != expected:
                raise ContractError(
                    f"{subject} has version {contract.version} but no registered version {expected}",
                    where=contract.where,
                    remedy=f"restore v{expected}.avsc and its line of {IDS_FILE}; values with its id may exist",
                )


def _require_compatible(draft: Contract, earlier: list[Contract], mode: Mode) -> None:
    problems = check(draft, earlier, mode)
    if problems:
        raise IncompatibleError(
            f"{draft.subject} version {draft.version} is not {mode.value} compatible: {describe(problems)}",
            where=draft.where,
            remedy="give new fields a default, keep types, or agree on another --mode",
        )
