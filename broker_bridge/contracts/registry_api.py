"""A folder of schemas behind the REST API of Confluent's schema registry: a call in, its answer out.

Knows nothing of HTTP servers. Ids are for ever, and that is what differs from Confluent's: nothing can be deleted,
and an id stands for one version of one subject.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from broker_bridge.contracts import registry_values as api
from broker_bridge.contracts.compatibility import Mode, check
from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.registry_values import Refused, Reply, Request, refuse, version_number
from broker_bridge.contracts.schema_marks import guid_of
from broker_bridge.contracts.schema_tree import load_json
from broker_bridge.contracts.served_folder import ServedFolder
from broker_bridge.contracts.submitted_schema import require_subject, submitted_text
from broker_bridge.errors import (
    ContractError,
    FolderBusyError,
    IncompatibleError,
    NotFoundError,
    SchemaUnknownError,
    UsageError,
)

Answer = Callable[..., Any]


class RegistryApi:
    """Answers calls about one folder. May be asked by several threads; ``read_only`` refuses to change anything."""

    def __init__(self, folder: ServedFolder, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only

    def answer(self, request: Request) -> Reply:
        """The reply to any call, whatever is in it or wrong with the folder."""
        try:
            return Reply(self._answer(request))
        except Refused as refused:
            return refused.reply
        except RecursionError:
            return Refused(api.SCHEMA_INVALID, "the schema is nested too deeply").reply
        except FolderBusyError as error:
            return Refused(api.FOLDER_BUSY, str(error)).reply
        except UsageError as error:
            return Refused(api.NOT_PERMITTED, str(error)).reply
        except (ContractError, NotFoundError) as error:
            return Refused(api.FOLDER_BROKEN, f"the folder of schemas is broken: {error}").reply
        except OSError as error:
            reason = error.strerror or str(error)
            return Refused(api.FOLDER_BROKEN, f"the folder of schemas cannot be used: {reason}").reply

    def changes(self, request: Request) -> bool:
        """Whether the call may write, so that it has to wait for others that do."""
        return request.method in ("PUT", "DELETE") or (
            request.method == "POST" and request.path[:1] == ("subjects",) and len(request.path) > 2
        )

    def _answer(self, request: Request) -> Any:
        methods: set[str] = set()
        for method, pattern, answer in ROUTES:
            values = _match(pattern, request.path)
            if values is not None and method == request.method:
                return answer(self, request, *values)
            if values is not None:
                methods.add(method)
        if methods:
            refuse(api.METHOD_UNKNOWN, f"the call takes {', '.join(sorted(methods))}, not {request.method}")
        raise Refused(api.NO_SUCH_CALL, f"there is no call /{'/'.join(request.path)}")

    # --- what there is -------------------------------------------------------------------------------------

    def _root(self, _: Request) -> Any:
        return {}

    def _types(self, _: Request) -> Any:
        return ["AVRO"]

    def _contexts(self, _: Request) -> Any:
        return ["."]

    def _schemas(self, request: Request) -> Any:
        directory = self._folder.directory()
        found = []
        for subject in self._subjects(request):
            versions = directory.versions(subject)
            found += versions[-1:] if request.flag("latestOnly") else versions
        return [_described(contract) for contract in found]

    def _subjects(self, request: Request) -> list[str]:
        prefix = request.query.get("subjectPrefix", "")
        return [one for one in self._folder.directory().subjects() if one.startswith(prefix)]

    def _versions(self, _: Request, subject: str) -> Any:
        return [contract.version for contract in self._known(subject)]

    def _version(self, _: Request, subject: str, version: str) -> Any:
        return _described(self._one(subject, version))

    def _version_text(self, _: Request, subject: str, version: str) -> Any:
        return load_json(self._one(subject, version).text)

    def _referenced_by(self, _: Request, subject: str, version: str) -> Any:
        self._one(subject, version)
        return []  # what a schema refers to is written into it

    def _by_id(self, _: Request, schema_id: str) -> Any:
        contract = self._of_id(schema_id)
        return {"schema": contract.text.strip(), "guid": str(guid_of(contract))}

    def _by_guid(self, _: Request, guid: str) -> Any:
        return {"schema": self._of_guid(guid).text.strip(), "guid": guid}

    def _guid_ids(self, _: Request, guid: str) -> Any:
        return [{"context": ".", "id": self._of_guid(guid).schema_id}]

    def _id_text(self, _: Request, schema_id: str) -> Any:
        return load_json(self._of_id(schema_id).text)

    def _id_versions(self, request: Request, schema_id: str) -> Any:
        contract = self._of_id(schema_id)
        wanted = request.query.get("subject", contract.subject) == contract.subject
        return [{"subject": contract.subject, "version": contract.version}] if wanted else []

    def _id_subjects(self, request: Request, schema_id: str) -> Any:
        return [one["subject"] for one in self._id_versions(request, schema_id)]

    # --- registering, finding, checking --------------------------------------------------------------------

    def _register(self, request: Request, subject: str) -> Any:
        text = self._schema_of(request, subject)
        if self._read_only:
            known = self._folder.directory().find(subject, text)
            if known is None:
                refuse(api.NOT_PERMITTED, "the directory is served read-only: register with broker-bridge schemas")
            return _registered(known)
        try:
            return _registered(self._folder.submit(subject, text))
        except IncompatibleError as error:
            refuse(
                api.INCOMPATIBLE,
                f'Schema being registered is incompatible with an earlier schema for subject "{subject}", '
                f"details: {error.detail}",
            )

    def _find(self, request: Request, subject: str) -> Any:
        self._known(subject)
        found = self._folder.directory().find(subject, self._schema_of(request, subject))
        if found is None:
            refuse(api.SCHEMA_UNKNOWN, f"Schema not found: {subject} has no such version")
        return _described(found)

    def _check(self, request: Request, subject: str, version: str | None = None) -> Any:
        number = None if version is None else version_number(version)
        text = self._schema_of(request, subject)
        if version is None:
            earlier = self._or_none(subject)
        elif number is None:
            earlier = self._or_none(subject)[-1:]
        else:
            earlier = [self._one(subject, version)]
        new = parse_contract(text, subject=subject, version=len(earlier) + 1, where="the new schema")
        problems = check(new, earlier, self._folder.levels().of(subject))
        answer: dict[str, Any] = {"is_compatible": not problems}
        if request.flag("verbose"):
            answer["messages"] = [str(problem) for problem in problems[: api.MOST_MESSAGES]]
        return answer

    def _schema_of(self, request: Request, subject: str) -> str:
        return submitted_text(request, subject, self._folder.directory())

    # --- rules ---------------------------------------------------------------------------------------------

    def _level(self, request: Request, subject: str | None = None) -> Any:
        levels = self._folder.levels()
        if subject is not None and subject not in levels.subjects and not request.flag("defaultToGlobal"):
            refuse(api.LEVEL_UNSET, f"Subject {subject!r} does not have subject-level compatibility configured")
        return {"compatibilityLevel": (levels.default if subject is None else levels.of(subject)).value}

    def _set_level(self, request: Request, subject: str | None = None) -> Any:
        wanted = request.fields().get("compatibility")
        if not isinstance(wanted, str) or wanted.upper() not in Mode.__members__:
            refuse(api.LEVEL_INVALID, f"{wanted!r} is no compatibility level: {', '.join(Mode.__members__)}")
        if subject is not None:
            require_subject(subject)
        self._require_writable()
        level = Mode(wanted.upper())
        self._folder.change_levels(lambda levels: levels.with_level(subject, level))
        return {"compatibility": level.value}

    def _unset_level(self, request: Request, subject: str | None = None) -> Any:
        before = self._level(request, subject)
        self._require_writable()
        self._folder.change_levels(lambda levels: levels.without(subject))
        return before

    def _mode(self, request: Request, subject: str | None = None) -> Any:
        if subject is not None and not request.flag("defaultToGlobal"):
            refuse(api.MODE_UNSET, f"Subject {subject!r} does not have subject-level mode configured")
        return {"mode": "READONLY" if self._read_only else "READWRITE"}

    def _set_mode(self, *_: Any) -> Any:
        refuse(
            api.NOT_PERMITTED, "the mode is that of the command: broker-bridge schemas serve --read-only, or without"
        )

    def _delete(self, _: Request, subject: str, version: str | None = None) -> Any:
        if version is None:
            self._known(subject)
        else:
            self._one(subject, version)
        refuse(
            api.NOT_PERMITTED,
            "nothing is deleted here: records with this id may exist, and ids are for ever. "
            "A version that was never used goes with a revert of the commit that added it",
        )

    # --- looking up ----------------------------------------------------------------------------------------

    def _or_none(self, subject: str) -> list[Contract]:
        directory = self._folder.directory()
        return directory.versions(subject) if subject in directory.subjects() else []

    def _known(self, subject: str) -> list[Contract]:
        found = self._or_none(subject)
        if not found:
            refuse(api.SUBJECT_UNKNOWN, f"Subject {subject!r} not found")
        return found

    def _one(self, subject: str, version: str) -> Contract:
        number = version_number(version)
        versions = self._known(subject)
        if number is None:
            return versions[-1]
        if number > len(versions):
            refuse(api.VERSION_UNKNOWN, f"Version {number} not found: {subject} has 1 to {len(versions)}")
        return versions[number - 1]

    def _of_id(self, text: str) -> Contract:
        if text.isascii() and text.isdigit() and len(text) <= 10:
            with suppress(SchemaUnknownError):
                return self._folder.directory().by_id(int(text))
        raise Refused(api.SCHEMA_UNKNOWN, f"Schema {text} not found")

    def _of_guid(self, guid: str) -> Contract:
        for contract in self._folder.directory().contracts():
            if str(guid_of(contract)) == guid:
                return contract
        raise Refused(api.SCHEMA_UNKNOWN, f"Schema {guid} not found")

    def _require_writable(self) -> None:
        if self._read_only:
            refuse(api.NOT_PERMITTED, "the directory is served read-only")


ROUTES: Final[tuple[tuple[str, str, Answer], ...]] = (
    ("GET", "", RegistryApi._root),
    ("GET", "contexts", RegistryApi._contexts),
    ("GET", "subjects", RegistryApi._subjects),
    ("POST", "subjects/*", RegistryApi._find),
    ("DELETE", "subjects/*", RegistryApi._delete),
    ("GET", "subjects/*/versions", RegistryApi._versions),
    ("POST", "subjects/*/versions", RegistryApi._register),
    ("GET", "subjects/*/versions/*", RegistryApi._version),
    ("DELETE", "subjects/*/versions/*", RegistryApi._delete),
    ("GET", "subjects/*/versions/*/schema", RegistryApi._version_text),
    ("GET", "subjects/*/versions/*/referencedby", RegistryApi._referenced_by),
    ("GET", "schemas", RegistryApi._schemas),
    ("GET", "schemas/types", RegistryApi._types),
    ("GET", "schemas/ids/*", RegistryApi._by_id),
    ("GET", "schemas/ids/*/schema", RegistryApi._id_text),
    ("GET", "schemas/ids/*/versions", RegistryApi._id_versions),
    ("GET", "schemas/ids/*/subjects", RegistryApi._id_subjects),
    ("GET", "schemas/guids/*", RegistryApi._by_guid),
    ("GET", "schemas/guids/*/ids", RegistryApi._guid_ids),
    ("POST", "compatibility/subjects/*/versions", RegistryApi._check),
    ("POST", "compatibility/subjects/*/versions/*", RegistryApi._check),
    ("GET", "config", RegistryApi._level),
    ("PUT", "config", RegistryApi._set_level),
    ("DELETE", "config", RegistryApi._unset_level),
    ("GET", "config/*", RegistryApi._level),
    ("PUT", "config/*", RegistryApi._set_level),
    ("DELETE", "config/*", RegistryApi._unset_level),
    ("GET", "mode", RegistryApi._mode),
    ("PUT", "mode", RegistryApi._set_mode),
    ("GET", "mode/*", RegistryApi._mode),
    ("PUT", "mode/*", RegistryApi._set_mode),
)
"""``*`` stands for one segment. Every other call is answered with 404, as clients expect of calls a server is too old
for (confluent-kafka asks ``/associations/resources/-/{topic}`` first)."""


def _match(pattern: str, path: tuple[str, ...]) -> list[str] | None:
    """What stands for the stars of a pattern, None where it is not that path."""
    wanted = tuple(pattern.split("/")) if pattern else ()
    if len(wanted) != len(path) or any(want not in ("*", given) for want, given in zip(wanted, path, strict=True)):
        return None
    return [given for want, given in zip(wanted, path, strict=True) if want == "*"]


def _registered(contract: Contract) -> dict[str, Any]:
    return {"id": contract.schema_id, "guid": str(guid_of(contract))}


def _described(contract: Contract) -> dict[str, Any]:
    return {
        "subject": contract.subject,
        "version": contract.version,
        **_registered(contract),
        "schema": contract.text.strip(),
    }
