"""Edit and replay: what is changed in every value of a plan before it is sent, the same when it is planned and when it
runs.

A value is decoded under the current contract (as it was written where that fails: then the edit may be the cure), the
JSON Patch is applied (RFC 6902, by ``jsonpatch``), and the result is written under the current contract in the wire
form of the original. What the contract does not know is refused, not dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonpatch
import jsonpointer

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import payload_fingerprint
from broker_bridge.errors import ContractError, NotFoundError, UsageError, ValueInvalidError
from broker_bridge.replay.letter_contract import LetterContract

LARGEST_PATCH: Final = 1 << 20
"""Bytes of a patch file."""
MOST_CHANGES: Final = 50
"""Changes of one letter that its diff tells."""
LONGEST_VALUE: Final = 200
"""Characters of a value in a diff."""


_NEEDED: Final = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from"}


class Change(NamedTuple):
    """One place of a value that the edit changed, as JSON texts; None where it was, or is, not there."""

    path: str
    before: str | None
    after: str | None


class Edited(NamedTuple):
    """A letter as it is sent, and what is other than before."""

    letter: DeadLetter
    changes: tuple[Change, ...]


class LetterEdit:
    """A patch to apply to letters. ``patch`` empty only writes them under the current contract."""

    def __init__(self, patch: Sequence[Mapping[str, Any]], contract: LetterContract) -> None:
        self._patch = parsed_patch(patch)
        self._contract = contract

    @classmethod
    def of(cls, edit: Mapping[str, Any] | None, contract: LetterContract | None) -> LetterEdit | None:
        """The edit of a plan's header, None where it has none. Raises ``UsageError``."""
        if edit is None:
            return None
        if contract is None or not contract.can_write:
            raise UsageError(
                "values cannot be edited: the route has no contract to write them under",
                remedy='name one: [route.contract] subject = "…"',
            )
        return cls(edit.get("patch", []), contract)

    def apply(self, letter: DeadLetter) -> Edited:
        """The letter with its value changed; the very same where nothing is. Raises ``ContractError`` where it cannot
        be read, the patch does not apply, or what comes of it does not follow the contract."""
        value = letter.value
        if value is None:
            if self._patch.patch:
                raise ValueInvalidError("a tombstone has no value to edit")
            return Edited(letter, ())
        contract = self._contract
        before = contract.as_written(value, letter.headers)
        try:
            current = contract.read(value, letter.headers).value
        except ContractError:
            current = before
        after = self._patched(current)
        written, headers = contract.write(after, like=value, headers=letter.headers)
        found = contract.as_written(written, headers)
        if unknown := next(_unknown(after, found, ""), None):
            raise ValueInvalidError(
                f"the contract has no {unknown}", remedy="broker-bridge schemas list tells which version is current"
            )
        if written == value:
            return Edited(letter, ())
        original = letter.edited_from or payload_fingerprint(value).hex()
        edited = replace(letter, value=written, headers=headers, edited_from=original)
        return Edited(edited, tuple(_changes(before, found)))

    def _patched(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            found = self._patch.apply(value)
        except jsonpatch.JsonPatchTestFailed as error:
            raise ValueInvalidError("a test of the patch does not hold") from error
        except jsonpatch.JsonPatchException as error:
            raise ValueInvalidError(f"the patch does not apply: {_short(str(error))}") from error
        except jsonpointer.JsonPointerException as error:  # its text holds the whole value
            raise ValueInvalidError("the patch does not apply: the value has no such place") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ValueInvalidError("the patch does not apply: the value has another form there") from error
        if not isinstance(found, dict):
            raise ValueInvalidError("the patch leaves no record")
        return found


def parsed_patch(patch: object) -> jsonpatch.JsonPatch:
    """A JSON Patch. Raises ``UsageError``."""
    remedy = 'write a list of operations: [{"op": "replace", "path": "/currency", "value": "EUR"}]'
    if not isinstance(patch, list):
        raise UsageError("the patch is not a list of operations", remedy=remedy)
    for number, one in enumerate(patch):
        if not isinstance(one, dict) or not isinstance(one.get("op"), str) or not isinstance(one.get("path"), str):
            raise UsageError(f"operation {number} of the patch has no op and path", remedy=remedy)
        needed = _NEEDED.get(one["op"])
        if needed is not None and needed not in one:
            raise UsageError(f"operation {number} of the patch ({one['op']}) has no {needed}", remedy=remedy)
    try:
        return jsonpatch.JsonPatch(patch)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"this is not a JSON Patch (RFC 6902): {_short(str(error))}", remedy=remedy) from error


def read_patch(path: Path) -> list[dict[str, Any]]:
    """A patch file, checked. Raises ``NotFoundError`` or ``UsageError``, which name it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError("there is no such patch file", where=str(path)) from error
    except OSError as error:
        raise UsageError(f"the patch cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > LARGEST_PATCH:
        raise UsageError(f"the patch has {len(raw)} bytes, the limit is {LARGEST_PATCH}", where=str(path))
    try:
        patch = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the patch is not JSON: {error}", where=str(path)) from error
    try:
        parsed_patch(patch)
    except UsageError as error:
        raise UsageError(error.detail, where=str(path), remedy=error.remedy) from error
    found: list[dict[str, Any]] = patch
    return found


def set_operation(given: str) -> dict[str, Any]:
    """The operation for ``field=value``: ``a.b`` is a field of a field; a value that is no JSON is a text. Raises
    ``UsageError``."""
    name, equals, text = given.partition("=")
    if not equals or not all(name.split(".")):
        raise UsageError(
            f"{given!r} sets nothing", remedy="write FIELD=VALUE, for example currency=EUR or item.count=3"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    escaped = [part.replace("~", "~0").replace("/", "~1") for part in name.split(".")]
    return {"op": "add", "path": "/" + "/".join(escaped), "value": value}


def _unknown(wanted: Any, found: Any, path: str) -> Iterator[str]:
    """Names that were asked for and are not in what was written."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            if name not in found:
                yield f"{path}/{name}"
            else:
                yield from _unknown(value, found[name], f"{path}/{name}")
    elif isinstance(wanted, list) and isinstance(found, list):
        for number, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from _unknown(one, other, f"{path}/{number}")


_ABSENT: Final = object()


def _changes(before: Any, after: Any) -> list[Change]:
    found: list[Change] = []
    _compare(before, after, "", found)
    return found


def _compare(before: Any, after: Any, path: str, found: list[Change]) -> None:
    if before == after and type(before) is type(after):
        return
    if len(found) >= MOST_CHANGES:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            _compare(before.get(name, _ABSENT), after.get(name, _ABSENT), f"{path}/{name}", found)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            _compare(one, other, f"{path}/{number}", found)
    else:
        found.append(Change(path, _text(before), _text(after)))


def _text(value: object) -> str | None:
    return None if value is _ABSENT else _short(json.dumps(value, ensure_ascii=False, default=str))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
