"""Which parts of a writer's schema meet which parts of a reader's.

Source: Avro 1.12 specification, "Schema Resolution" and "Aliases". Shared by the static check (``compatibility``) and
by the compiler of readers, so that what is called compatible is also what can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker_bridge.contracts.schema_tree import MISSING, NAMED, Field, Node

PROMOTIONS: Final[dict[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One reason why a writer's type cannot be read as a reader's. ``path`` is in the reader's record.

    ``some_values`` is true where only some values cannot be read (a union's branch, an enum's symbol): not compatible,
    yet the specification has a reader fail at such a value, not at every one.
    """

    kind: str
    path: str
    message: str
    some_values: bool = False


def names_match(reader: Node, writer: Node) -> bool:
    """Same name without namespace, or the writer's full name is an alias of the reader's."""
    return _short(reader.name) == _short(writer.name) or writer.name in reader.aliases


def match_fields(reader: Node, writer: Node) -> list[tuple[Field, Field | None]]:
    """Each field of the reader with the writer's field it is read from: by name, else by the reader's alias."""
    by_name = {one.name: one for one in writer.fields}
    free = {name: one for name, one in by_name.items() if name not in {field.name for field in reader.fields}}
    pairs: list[tuple[Field, Field | None]] = []
    for field in reader.fields:
        found = by_name.get(field.name)
        if found is None:
            found = next((free.pop(alias) for alias in field.aliases if alias in free), None)
        pairs.append((field, found))
    return pairs


def pick_branch(reader: Node, writer: Node) -> int | None:
    """Which branch of the reader's union a writer's type (not a union) is read as; None where none can.

    The same type by full name comes first, then the same type, then a promotion: so a string stays a string where the
    union also has bytes. A branch that reads every value is preferred over one that reads some.
    """
    if writer in reader.branches:
        return reader.branches.index(writer)
    picked = _Walk().pick(reader, writer, "", some_values=False) or _Walk().pick(reader, writer, "", some_values=True)
    return picked[0] if picked else None


def mismatches(reader: Node, writer: Node, path: str = "") -> list[Mismatch]:
    """Why not every value of the writer can be read as the reader's type; empty where every one can."""
    return _Walk().compare(reader, writer, path)


class _Walk:
    """Compares types once for each pair; a pair met again while it is being compared (recursion) is taken to match."""

    def __init__(self) -> None:
        self.seen: dict[tuple[Node, Node], None] = {}

    def compare(self, reader: Node, writer: Node, path: str) -> list[Mismatch]:
        if writer.kind == "union":
            return [found for branch in writer.branches for found in self._writer_branch(reader, branch, path)]
        if reader.kind == "union":
            picked = self.pick(reader, writer, path, some_values=False) or self.pick(
                reader, writer, path, some_values=True
            )
            if picked is not None:
                return picked[1]
            labels = ", ".join(branch.label for branch in reader.branches)
            return [Mismatch("type", path, f"{writer.label} fits none of the reader's union [{labels}]")]
        if reader.kind in PROMOTIONS.get(writer.kind, ()):
            return _logical(reader, writer, path)
        if reader.kind != writer.kind:
            return [Mismatch("type", path, f"{writer.label} cannot be read as {reader.label}")]
        if reader.kind in ("array", "map"):
            return self.compare(reader.element, writer.element, f"{path}[]")
        if reader.kind in NAMED:
            return self._named(reader, writer, path)
        return _logical(reader, writer, path)

    def _writer_branch(self, reader: Node, branch: Node, path: str) -> list[Mismatch]:
        found = self.compare(reader, branch, path)
        return [Mismatch(one.kind, one.path, f"union branch {branch.label}: {one.message}", True) for one in found]

    def pick(self, reader: Node, writer: Node, path: str, *, some_values: bool) -> tuple[int, list[Mismatch]] | None:
        """The branch, and what of the writer it cannot read (nothing, unless ``some_values``)."""
        for rank in (_same_full_name, _same_kind, _promotes):
            for number, branch in enumerate(reader.branches):
                if rank(branch, writer):
                    before = len(self.seen)
                    found = self.compare(branch, writer, path)
                    if all(some_values and one.some_values for one in found):
                        return number, found
                    self._forget(before)
        return None

    def _forget(self, before: int) -> None:
        """A failed try leaves nothing behind: what it took for granted may rest on the very pair that failed."""
        for pair in list(self.seen)[before:]:
            del self.seen[pair]

    def _named(self, reader: Node, writer: Node, path: str) -> list[Mismatch]:
        if (reader, writer) in self.seen:
            return []
        self.seen[(reader, writer)] = None
        if not names_match(reader, writer):
            return [Mismatch("name", path, f"{writer.name} is not called {reader.name}, and no alias says so")]
        if reader.kind == "fixed":
            if reader.size != writer.size:
                return [Mismatch("fixed_size", path, f"fixed of {writer.size} bytes cannot be read as {reader.size}")]
            return _logical(reader, writer, path)
        if reader.kind == "enum":
            return _enum(reader, writer, path)
        return self._record(reader, writer, path)

    def _record(self, reader: Node, writer: Node, path: str) -> list[Mismatch]:
        found: list[Mismatch] = []
        for field, source in match_fields(reader, writer):
            place = f"{path}.{field.name}" if path else field.name
            if source is not None:
                found += self.compare(field.type, source.type, place)
            elif field.default is MISSING:
                found.append(
                    Mismatch("field_without_default", place, "the writer has no such field and there is no default")
                )
        return found


def _enum(reader: Node, writer: Node, path: str) -> list[Mismatch]:
    lost = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
    if not lost or reader.default is not None:
        return []
    return [Mismatch("enum_symbols", path, f"the reader has no {', '.join(lost)} and no default symbol", True)]


def _logical(reader: Node, writer: Node, path: str) -> list[Mismatch]:
    """Both sides give the number a meaning and the meanings differ.

    The specification asks this of decimals only. Milliseconds read as microseconds resolve just as quietly, into times
    that are wrong by a factor of a thousand: refused too.
    """
    if reader.logical is None or writer.logical is None:
        return []
    if reader.logical != writer.logical:
        return [Mismatch("logical_type", path, f"{writer.logical} cannot be read as {reader.logical}")]
    if (reader.precision, reader.scale) != (writer.precision, writer.scale):
        was, now = f"({writer.precision}, {writer.scale})", f"({reader.precision}, {reader.scale})"
        return [Mismatch("decimal", path, f"decimal{was} cannot be read as decimal{now}")]
    return []


def _same_full_name(branch: Node, writer: Node) -> bool:
    return branch.kind == writer.kind and branch.name == writer.name


def _same_kind(branch: Node, writer: Node) -> bool:
    return branch.kind == writer.kind and branch.name != writer.name


def _promotes(branch: Node, writer: Node) -> bool:
    return branch.kind in PROMOTIONS.get(writer.kind, ())


def _short(name: str) -> str:
    return name.rpartition(".")[2]
