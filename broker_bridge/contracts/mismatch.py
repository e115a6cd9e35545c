"""Why a writer's values cannot be read: each reason with its place in the reader's schema and what would mend it.

Kinds and places are those of Apache Avro's ``SchemaCompatibility``, which Confluent's registry answers with, so that
all three name the same thing alike. Two kinds are ours: ``LOGICAL_TYPE_MISMATCH`` and ``DECIMAL_MISMATCH`` (Avro for
Java does not look at logical types), and ``AMBIGUOUS_ALIAS`` (there it is an exception without a kind).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker_bridge.contracts.resolution import (
    PROMOTIONS,
    Readable,
    Resolution,
    ambiguous_aliases,
    logical_kind,
    match_fields,
    names_match,
)
from broker_bridge.contracts.schema_tree import MISSING, NAMED, Node

MAX_REPORTED = 1000
"""Reasons told of one pair of schemas. A schema that is wrong in more places is another schema."""
_SHOWN_NAMES = 8
_NESTED_REASONS = 3
"""Unions in unions that one message explains."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One reason why a writer's type cannot be read as a reader's.

    ``path`` is a JSON pointer into the reader's schema (``/fields/0/type/symbols``, ``/`` for the whole), except that a
    branch of the writer's union is counted as the writer has it; ``field`` is the field for people (``lines[].sku``,
    empty for the whole). ``some_values`` is true where only some values cannot be read.
    """

    kind: str
    path: str
    field: str
    message: str
    some_values: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk is, as a chain to the root; made into text only where something is to be told."""

    above: _Place | None = None
    pointer: str = ""
    field: str = ""
    some: bool = False
    prefix: str = ""
    pair: tuple[Node, Node] | None = None

    def inside(self, pairs: set[tuple[Node, Node]]) -> bool:
        """Whether this is below a place where one of those pairs is being looked at."""
        here: _Place | None = self
        while here is not None:
            if here.pair in pairs:
                return True
            here = here.above
        return False

    def at(
        self,
        pointer: str,
        field: str = "",
        *,
        some: bool = False,
        prefix: str = "",
        pair: tuple[Node, Node] | None = None,
    ) -> _Place:
        return _Place(self, pointer, field, self.some or some, prefix or self.prefix, pair)

    def tell(self, kind: str, below: str, message: str, *, some: bool = False) -> Mismatch:
        chain: list[_Place] = []
        here: _Place | None = self
        while here is not None:
            chain.append(here)
            here = here.above
        chain.reverse()
        pointer = "".join(f"/{one.pointer}" for one in chain if one.pointer) + (f"/{below}" if below else "")
        field = "".join(one.field for one in chain).removeprefix(".")
        return Mismatch(kind, pointer or "/", field, self.prefix + message, self.some or some)


def mismatches(reader: Node, writer: Node, resolution: Resolution | None = None) -> list[Mismatch]:
    """Why not every value of the writer can be read as the reader's type; empty where every one can."""
    walk = _Walk(resolution or Resolution())
    found: list[Mismatch] = []
    for one in walk.reasons(reader, writer, _Place()):
        found.append(one)
        if len(found) == MAX_REPORTED:
            break
    return found


class _Walk:
    """Goes through pairs that do not fit; each pair is told of once, where it is met first."""

    def __init__(self, resolution: Resolution, nested: int = 0) -> None:
        self.resolution = resolution
        self.nested = nested

    def reasons(self, reader: Node, writer: Node, place: _Place) -> Iterator[Mismatch]:
        seen: set[tuple[Node, Node]] = set()
        waiting = [(reader, writer, place)]
        while waiting:
            one_reader, one_writer, here = waiting.pop()
            if (one_reader, one_writer) in seen:
                continue
            seen.add((one_reader, one_writer))
            if self.resolution.readable(one_reader, one_writer) is not Readable.ALL:
                yield from self.own(one_reader, one_writer, here)
                waiting += reversed(list(self.parts(one_reader, one_writer, here)))

    def own(self, reader: Node, writer: Node, place: _Place) -> Iterator[Mismatch]:
        """What is wrong with this pair itself."""
        if writer.kind == "union":
            if reader.kind == "union":
                for number, branch in enumerate(writer.branches):
                    yield from self.no_branch(reader, branch, place.at(str(number), some=True))
        elif reader.kind == "union":
            yield from self.no_branch(reader, writer, place)
        elif reader.kind in NAMED and reader.kind == writer.kind:
            yield from _named(reader, writer, place)
        elif reader.kind != writer.kind and reader.kind not in PROMOTIONS.get(writer.kind, ()):
            yield place.tell("TYPE_MISMATCH", "", f"{writer.label} cannot be read as {reader.label}: {_KEEP_TYPE}")
        else:
            yield from _logical(reader, writer, place)

    def parts(self, reader: Node, writer: Node, place: _Place) -> Iterator[tuple[Node, Node, _Place]]:
        """Pairs below this one, with their places."""
        if writer.kind == "union":
            for number, branch in enumerate(writer.branches if reader.kind != "union" else ()):
                yield reader, branch, place.at(str(number), some=True, prefix=f"union branch {branch.label}: ")
        elif reader.kind != writer.kind:
            return
        elif reader.kind in ("array", "map"):
            below = "items" if reader.kind == "array" else "values"
            yield reader.element, writer.element, place.at(below, "[]")
        elif reader.kind == "record":
            for number, (field, source) in enumerate(match_fields(reader, writer)):
                if source is not None:
                    here = place.at(f"fields/{number}/type", f".{field.name}", pair=(reader, writer))
                    yield field.type, source.type, here

    def no_branch(self, reader: Node, writer: Node, place: _Place) -> Iterator[Mismatch]:
        """The reader's union cannot take it; where a branch of its name nearly can, what that one lacks.

        Nothing where it only cannot because it is part of what is being told of: a recursive type.
        """
        candidates = self.resolution.candidates(reader, writer)
        some = self.resolution.readable(reader, writer) is Readable.SOME
        if self.resolution.readable(reader, writer) is Readable.ALL or place.inside(
            {(reader.branches[number], writer) for number in candidates}
        ):
            return
        inner = _Walk(self.resolution, self.nested + 1)
        for number in candidates if self.nested < _NESTED_REASONS else ():
            branch = reader.branches[number]
            reason = next(inner.reasons(branch, writer, _Place(field=_whole(place))), None)
            if reason is not None:
                message = f"{writer.label}: the reader's {branch.label} cannot take it, at {reason.field or 'itself'}"
                yield place.tell("MISSING_UNION_BRANCH", "", f"{message}: {reason.message}", some=some)
                return
        labels = _names([branch.label for branch in reader.branches])
        message = f"{writer.label} fits none of the reader's union [{labels}]: add a branch for it to the reader"
        yield place.tell("MISSING_UNION_BRANCH", "", message, some=some)


_KEEP_TYPE = "keep the type, or add a field of another name"


def _whole(place: _Place) -> str:
    return place.tell("", "", "").field


def _names(labels: list[str]) -> str:
    more = len(labels) - _SHOWN_NAMES
    return ", ".join(labels[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _named(reader: Node, writer: Node, place: _Place) -> Iterator[Mismatch]:
    if not names_match(reader, writer):
        message = f'{writer.name} is not called {reader.name}, and no alias says so: add "aliases": ["{writer.name}"]'
        yield place.tell("NAME_MISMATCH", "name", message)
    if reader.kind == "record":
        yield from _fields(reader, writer, place)
    elif reader.kind == "enum":
        lost = sorted(set(writer.symbols) - set(reader.symbols))
        if lost and reader.default is None:
            message = f'the reader has no {_names(lost)} and no default symbol: add the symbol, or a "default"'
            yield place.tell("MISSING_ENUM_SYMBOLS", "symbols", message, some=True)
    elif reader.size != writer.size:
        message = f"fixed of {writer.size} bytes cannot be read as {reader.size}: keep the size, or add another type"
        yield place.tell("FIXED_SIZE_MISMATCH", "size", message)
    else:
        yield from _logical(reader, writer, place)


def _fields(reader: Node, writer: Node, place: _Place) -> Iterator[Mismatch]:
    ambiguous = ambiguous_aliases(reader, writer)
    for number, (field, source) in enumerate(match_fields(reader, writer)):
        here = place.at(f"fields/{number}", f".{field.name}")
        if source is None and field.default is MISSING:
            message = f"the writer has no such field and there is no default: give {field.name} a default"
            yield here.tell("READER_FIELD_MISSING_DEFAULT_VALUE", "", message)
        if field.name in ambiguous:
            both = _names(ambiguous[field.name])
            message = f"the writer's {both} all answer to it: take the alias away, Java readers refuse such a pair"
            yield here.tell("AMBIGUOUS_ALIAS", "", message, some=True)


def _logical(reader: Node, writer: Node, place: _Place) -> Iterator[Mismatch]:
    kind = logical_kind(reader, writer)
    if kind == "LOGICAL_TYPE_MISMATCH":
        yield place.tell(kind, "", f"{writer.logical} cannot be read as {reader.logical}: {_KEEP_TYPE}")
    elif kind == "DECIMAL_MISMATCH":
        was, now = f"({writer.precision}, {writer.scale})", f"({reader.precision}, {reader.scale})"
        message = f"decimal{was} cannot be read as decimal{now}: keep precision and scale, or add a field"
        yield place.tell(kind, "", message)
