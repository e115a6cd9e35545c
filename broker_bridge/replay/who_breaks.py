"""Which routes a new version of a contract breaks, and on which field: before it is registered.

A route meets a new version in up to three ways. Until its workers start again they read what is written under it as the
version they know (NOW); a route that names a version goes on so (PINNED). Started again, they read what the topic still
has as the new version (RESTARTED). And what its target answers is written under the new version (ANSWERS).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.compatibility import Mode, Problem, can_read
from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.errors import SchemaUnknownError

if TYPE_CHECKING:
    from broker_bridge.config.model import BridgeConfig
    from broker_bridge.config.route import RouteConfig


class When(StrEnum):
    """In which way a route meets the new version."""

    NOW = "now"
    PINNED = "pinned"
    RESTARTED = "restarted"
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True)
class Meeting:
    """A route and a new version. ``other`` is the version it meets, ``problems`` what fails then.

    ``blocks`` says whether the mode promises that nothing does; otherwise the order of deployment can do.
    """

    route: str
    group: str
    topic: str
    target: str
    when: When
    other: str
    blocks: bool
    problems: list[Problem]

    @property
    def breaks(self) -> bool:
        """Whether some value is lost on this route."""
        return bool(self.problems)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """The new version as one route has it: under the route's subject, after the versions that are registered."""

    route: RouteConfig
    contract: Contract
    earlier: list[Contract]


def readers_of(text: str, where: str, codec: Codec, routes: Iterable[RouteConfig]) -> list[Newcomer]:
    """Routes that read values of the contract that ``text`` is a new version of."""
    named = [(route, route.topic, route.contract.subject) for route in routes if route.contract is not None]
    return [one for route, topic, name in named if (one := _newcomer(text, where, codec, route, topic, name))]


def writers_of(text: str, where: str, codec: Codec, routes: Iterable[RouteConfig]) -> list[Newcomer]:
    """Routes that write their target's answers under it."""
    named = [(route, route.output.topic, route.output.subject) for route in routes if route.output is not None]
    return [one for route, topic, name in named if (one := _newcomer(text, where, codec, route, topic, name))]


def _newcomer(text: str, where: str, codec: Codec, route: RouteConfig, topic: str, name: str) -> Newcomer | None:
    """None where the route's contract is another one, or has no version yet that anybody could be using."""
    try:
        newest = codec.contract_for(topic, name)
    except SchemaUnknownError:
        return None
    new = parse_contract(text, where=where)
    if newest.record_name != new.record_name:
        return None
    versions = [one for one in codec.source.versions(newest.subject) if one.text != text]
    contract = parse_contract(text, subject=newest.subject, version=len(versions) + 1, where=where)
    return Newcomer(route, contract, versions) if versions else None


def who_breaks(config: BridgeConfig, codec: Codec, text: str, where: str, mode: Mode) -> list[Meeting]:
    """How every route meets the new version, those included that it does not break."""
    met = [one for new in readers_of(text, where, codec, config.routes) for one in _reads(codec, new, mode)]
    return met + [one for new in writers_of(text, where, codec, config.routes) for one in _answers(new)]


def _reads(codec: Codec, new: Newcomer, mode: Mode) -> Iterator[Meeting]:
    pinned = new.route.contract.version if new.route.contract else None
    if pinned is not None:
        known = codec.source.get(new.contract.subject, pinned)
        yield _meeting(new, When.PINNED, known, blocks=True, problems=can_read(known, new.contract))
        return
    known = new.earlier[-1]
    forward = mode.value.startswith(("FORWARD", "FULL"))
    yield _meeting(new, When.NOW, known, blocks=forward, problems=can_read(known, new.contract))
    for old in new.earlier:
        yield _meeting(new, When.RESTARTED, old, blocks=True, problems=can_read_upcast(codec, new.contract, old))


def _answers(new: Newcomer) -> Iterator[Meeting]:
    """A target's answers have today's fields: what reads those can be written from them."""
    if new.route.output is not None and new.route.output.version is None:
        known = new.earlier[-1]
        yield _meeting(new, When.ANSWERS, known, blocks=True, problems=can_read(new.contract, known))


def can_read_upcast(codec: Codec, reader: Contract, writer: Contract) -> list[Problem]:
    """Why ``reader`` cannot read what ``writer`` writes with the codec's upcasters on the way."""
    return [one for goal, start in _legs(codec, reader, writer) for one in can_read(goal, start)]


def _legs(codec: Codec, reader: Contract, writer: Contract) -> Iterator[tuple[Contract, Contract]]:
    """What Avro's own rules must do on the way from a written version to the new one, upcasters doing the rest."""
    at = writer
    for step in codec.upcasters.between(writer, reader):
        if step.from_version != at.version:
            yield codec.source.get(writer.subject, step.from_version), at
        after = step.from_version + 1
        at = reader if after == reader.version else codec.source.get(writer.subject, after)
    if at is not reader:
        yield reader, at


def _meeting(new: Newcomer, when: When, other: Contract, *, blocks: bool, problems: list[Problem]) -> Meeting:
    route = new.route
    target = getattr(route.target, "url", None) or getattr(route.target, "handler", None) or "topic"
    topic = route.output.topic if when is When.ANSWERS and route.output else route.topic
    return Meeting(route.name, route.group, topic, target, when, f"version {other.version}", blocks, problems)
