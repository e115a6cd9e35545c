"""Which parts of a writer's schema meet which parts of a reader's, and whether the one can be read as the other.

Source: Avro 1.12 specification, "Schema Resolution" and "Aliases". Shared by the static check (``compatibility``) and
by the compiler of readers, so that what is called compatible is also what can be read.

Recursive types make "can be read" a question about itself. The answer is the greatest one that contradicts nothing:
every pair of types is taken to be readable until a part of it is not, and what was built on it is looked at again. That
takes time in proportion to the pairs that meet, however the types refer to each other, and no Python stack.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from broker_bridge.contracts.schema_tree import MISSING, NAMED, Field, Node

PROMOTIONS: Final[dict[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}

Pair = tuple[Node, Node]
"""A reader's type and a writer's."""


class Readable(IntEnum):
    """How many of a writer's values a reader can read. SOME: a union's branch or an enum's symbol is not known to the
    reader, and the specification has it fail at such a value, not at every one."""

    NONE = 0
    SOME = 1
    ALL = 2


class _Rule(Enum):
    """What a pair's answer follows from."""

    EVERY = "the worst of its parts"
    ANY = "the best of its parts"
    EACH_VALUE = "ALL if all parts are, else SOME: a value is one of the parts"


def names_match(reader: Node, writer: Node) -> bool:
    """Same name without namespace, or the writer's full name is an alias of the reader's."""
    return short_name(reader.name) == short_name(writer.name) or writer.name in reader.aliases


def short_name(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition(".")[2]


def match_fields(reader: Node, writer: Node) -> list[tuple[Field, Field | None]]:
    """Each field of the reader with the writer's field it is read from: by name, else by the reader's alias."""
    by_name = {one.name: one for one in writer.fields}
    readers = {field.name for field in reader.fields}
    free = {name: one for name, one in by_name.items() if name not in readers}
    pairs: list[tuple[Field, Field | None]] = []
    for field in reader.fields:
        found = by_name.get(field.name)
        if found is None:
            found = next((free.pop(alias) for alias in field.aliases if alias in free), None)
        pairs.append((field, found))
    return pairs


def ambiguous_aliases(reader: Node, writer: Node) -> dict[str, list[str]]:
    """Fields of the reader that more than one field of the writer answers to, with the names of those.

    Read by their own name here; Java, and so Confluent's registry, refuses such a pair.
    """
    written = {one.name for one in writer.fields}
    named = {one.name: [name for name in (one.name, *one.aliases) if name in written] for one in reader.fields}
    return {name: found for name, found in named.items() if len(found) > 1}


def logical_kind(reader: Node, writer: Node) -> str | None:
    """The kind of mismatch where both sides give a value a meaning and the meanings differ; None where they agree.

    The specification asks this of decimals only. Milliseconds read as microseconds resolve just as quietly, into times
    that are wrong by a factor of a thousand: refused too.
    """
    if reader.logical is None or writer.logical is None:
        return None
    if reader.logical != writer.logical:
        return "LOGICAL_TYPE_MISMATCH"
    if (reader.precision, reader.scale) != (writer.precision, writer.scale):
        return "DECIMAL_MISMATCH"
    return None


@dataclass(slots=True)
class _Open:
    """A pair whose answer is not final. ``limit`` is the best it can be for its own sake."""

    limit: Readable
    rule: _Rule
    parts: list[Pair]


class Resolution:
    """Answers for pairs of types, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[Pair, Readable] = {}
        self._unions: dict[Node, dict[tuple[str, str], list[int]]] = {}

    def readable(self, reader: Node, writer: Node) -> Readable:
        """How many of the writer's values the reader's type can read."""
        pair = (reader, writer)
        if pair not in self._known:
            self._solve(pair)
        return self._known[pair]

    def pick(self, reader: Node, writer: Node) -> int | None:
        """Which branch of the reader's union a writer's type (not a union) is read as; None where none can.

        The same type by full name comes first, then the same type, then a promotion: so a string stays a string where
        the union also has bytes. A branch that reads every value is preferred over one that reads some.
        """
        if writer in reader.branches:
            return reader.branches.index(writer)
        for wanted in (Readable.ALL, Readable.SOME):
            for number in self.candidates(reader, writer):
                if self.readable(reader.branches[number], writer) is wanted:
                    return number
        return None

    def candidates(self, reader: Node, writer: Node) -> list[int]:
        """Branches of the reader's union that may take the writer's type, best first."""
        index = self._unions.get(reader)
        if index is None:
            index = self._unions[reader] = _index(reader)
        own = index.get((writer.kind, short_name(writer.name)), [])
        if writer.kind in NAMED:
            own = sorted({*own, *index.get((writer.kind, f"={writer.name}"), [])})
            own.sort(key=lambda number: reader.branches[number].name != writer.name)
        wider = sorted(one for kind in PROMOTIONS.get(writer.kind, ()) for one in index.get((kind, ""), []))
        return [*own, *wider]

    def _solve(self, root: Pair) -> None:
        opened = self._discover(root)
        users: dict[Pair, list[Pair]] = {}
        for pair, state in opened.items():
            for part in state.parts:
                users.setdefault(part, []).append(pair)
        self._known.update(dict.fromkeys(opened, Readable.ALL))
        waiting = deque(reversed(opened))
        queued = set(opened)
        while waiting:
            pair = waiting.popleft()
            queued.discard(pair)
            found = self._combine(opened[pair])
            if found < self._known[pair]:
                self._known[pair] = found
                for user in users.get(pair, ()):
                    if user not in queued:
                        queued.add(user)
                        waiting.append(user)

    def _discover(self, root: Pair) -> dict[Pair, _Open]:
        """Every pair that the root's answer hangs on and that is not known yet."""
        opened: dict[Pair, _Open] = {}
        waiting = [root]
        while waiting:
            pair = waiting.pop()
            if pair not in opened and pair not in self._known:
                opened[pair] = self._open(*pair)
                waiting += opened[pair].parts
        return opened

    def _combine(self, state: _Open) -> Readable:
        found = [self._known[part] for part in state.parts]
        if state.rule is _Rule.ANY:
            return max(found, default=Readable.NONE)
        if state.rule is _Rule.EACH_VALUE:
            return Readable.ALL if all(one is Readable.ALL for one in found) else Readable.SOME
        return min([state.limit, *found])

    def _open(self, reader: Node, writer: Node) -> _Open:
        every = _Rule.EVERY
        if reader is writer:
            return _Open(Readable.ALL, every, [])
        if writer.kind == "union":
            return _Open(Readable.ALL, _Rule.EACH_VALUE, [(reader, branch) for branch in writer.branches])
        if reader.kind == "union":
            parts = [(reader.branches[number], writer) for number in self.candidates(reader, writer)]
            return _Open(Readable.ALL, _Rule.ANY, parts)
        if reader.kind == writer.kind and reader.kind in ("array", "map"):
            return _Open(Readable.ALL, every, [(reader.element, writer.element)])
        limit = _limit(reader, writer)
        if limit is Readable.NONE or reader.kind != "record":
            return _Open(limit, every, [])
        pairs = match_fields(reader, writer)
        if any(source is None and field.default is MISSING for field, source in pairs):
            return _Open(Readable.NONE, every, [])
        return _Open(limit, every, [(field.type, source.type) for field, source in pairs if source is not None])


def _limit(reader: Node, writer: Node) -> Readable:
    """The best a pair can be, its parts left aside. Neither is a union."""
    if reader.kind != writer.kind and reader.kind not in PROMOTIONS.get(writer.kind, ()):
        return Readable.NONE
    if reader.kind in NAMED and not names_match(reader, writer):
        return Readable.NONE
    if reader.kind == "fixed" and reader.size != writer.size:
        return Readable.NONE
    if reader.kind == "enum" and reader.default is None and not set(writer.symbols) <= set(reader.symbols):
        return Readable.SOME
    if reader.kind == "record" and ambiguous_aliases(reader, writer):
        return Readable.SOME
    return Readable.NONE if logical_kind(reader, writer) else Readable.ALL


def _index(union: Node) -> dict[tuple[str, str], list[int]]:
    """Numbers of the branches by kind and short name; by ``=`` and full name where it is an alias."""
    index: dict[tuple[str, str], list[int]] = {}
    for number, branch in enumerate(union.branches):
        for name in (short_name(branch.name), *(f"={alias}" for alias in branch.aliases)):
            index.setdefault((branch.kind, name), []).append(number)
    return index
