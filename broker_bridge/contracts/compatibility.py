"""May this schema follow those? Decided from the schemas alone, before a byte is written.

Modes as Confluent's registry names them: BACKWARD (the new schema reads what the last one wrote), FORWARD (the last one
reads what the new one writes), FULL (both); ``_TRANSITIVE`` means against every earlier version, not only the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from broker_bridge.contracts.any_schema import AnySchema
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.mismatch import mismatches


class Mode(StrEnum):
    """Which way data must flow between versions."""

    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why data of ``writer`` cannot be read with ``reader`` (both are names of schemas).

    ``kind``, ``path`` and ``field`` are those of ``mismatch.Mismatch``: Apache Avro's names, a JSON pointer into the
    reader's schema, and the field for people. ``message`` says what is wrong and what to change.
    """

    kind: str
    path: str
    field: str
    message: str
    reader: str
    writer: str

    def __str__(self) -> str:
        return f"{self.field or 'the schema'}: {self.message} (writer {self.writer}, reader {self.reader})"


Schema = Contract | AnySchema
"""What can be compared."""
CanRead = Callable[[Any, Any], list[Problem]]
"""From reader and writer to ``can_read``'s answer."""


def check(new: Schema, earlier: Sequence[Schema], mode: Mode, *, read: CanRead | None = None) -> list[Problem]:
    """Problems of putting ``new`` after ``earlier`` (oldest first); empty where it is compatible.

    ``read`` says why one schema cannot read another's values, where more than Avro's rules do the reading.
    """
    read = read or can_read
    if mode is Mode.NONE:
        return []
    against = list(earlier) if mode.value.endswith("_TRANSITIVE") else list(earlier[-1:])
    problems: list[Problem] = []
    for old in reversed(against):
        if mode.value.startswith(("BACKWARD", "FULL")):
            problems += read(new, old)
        if mode.value.startswith(("FORWARD", "FULL")):
            problems += read(old, new)
    return problems


def can_read(reader: Schema, writer: Schema) -> list[Problem]:
    """Why ``reader`` cannot read everything that ``writer`` writes; empty where it can."""
    return [
        Problem(one.kind, one.path, one.field, one.message, name_of(reader), name_of(writer))
        for one in mismatches(reader.tree, writer.tree)
    ]


def name_of(contract: Schema) -> str:
    """How problems call a schema: its file, else subject and version."""
    if isinstance(contract, AnySchema):
        return contract.where
    return contract.where or f"{contract.subject} v{contract.version}"


def describe(problems: Sequence[Problem]) -> str:
    """All problems in one line."""
    return "; ".join(str(problem) for problem in problems)
