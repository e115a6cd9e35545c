"""`broker-bridge schemas check … --config`: who of a configuration's routes a new version breaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_bridge.cli.output import read_config, run_async
from broker_bridge.contracts.compatibility import Mode
from broker_bridge.contracts.contract import parse_contract, read_text
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.levels import read_levels
from broker_bridge.replay.still_decodes import Sample, still_decodes
from broker_bridge.replay.who_breaks import Meeting, Newcomer, When, readers_of, who_breaks, writers_of

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig
    from broker_bridge.contracts.codec import Codec
    from broker_bridge.contracts.contract import Contract

_ADVICE = {
    When.NOW: "start its workers again before anything is written under the new version",
    When.PINNED: "take the version out of [route.contract], or raise it, before anything is written",
    When.RESTARTED: "give the field a default, or write an upcaster",
    When.ANSWERS: "change what the target answers first",
}


@dataclasses.dataclass(slots=True)
class Consumers:
    """What the routes of a configuration say to a new version. ``earlier`` are the versions it follows, ``mode`` is how
    compatible it must be."""

    mode: Mode
    meetings: list[Meeting]
    samples: list[Sample]
    earlier: list[Contract]

    @property
    def refuse(self) -> bool:
        """Whether somebody breaks who must not."""
        return any(one.breaks and one.blocks for one in self.meetings) or any(one.failed for one in self.samples)

    def as_json(self) -> dict[str, Any]:
        """For the command's result."""
        meetings = [{**dataclasses.asdict(one), "when": one.when.value, "breaks": one.breaks} for one in self.meetings]
        return {"consumers": meetings, "records": [dataclasses.asdict(one) for one in self.samples]}

    def lines(self) -> list[str]:
        """For people."""
        return [line for one in self.meetings for line in _meeting(one)] + [_sample(one) for one in self.samples]


def ask_consumers(new: Path, config_path: Path, mode: Mode | None, *, live: bool, samples: int) -> Consumers:
    """What every route says to the schema in ``new``; with ``live`` also what the topics' records do.

    Without ``mode`` it is the level that the folder keeps for the subject, as in ``schemas register``.
    Raises ConfigError, ContractError, and, with ``live``, TransportError.
    """
    config = read_config(config_path)
    codec, text = _codec(config), read_text(new)
    readers = readers_of(text, str(new), codec, config.routes)
    users = readers + writers_of(text, str(new), codec, config.routes)
    earlier = users[0].earlier if users else _earlier(codec, text, str(new))
    subject = users[0].contract.subject if users else parse_contract(text, where=str(new)).subject
    level = mode or read_levels(Path(config.bridge.schemas)).of(subject)
    found = Consumers(level, who_breaks(config, codec, text, str(new), level), [], earlier)
    if live:
        found.samples = run_async(_samples(config, codec, readers, samples))
    return found


def _codec(config: BridgeConfig) -> Codec:
    """As the workers have it, but a draft in the folder is no hindrance: it is what is asked about."""
    from broker_bridge.bootstrap import open_codec

    return open_codec(config, drafts=True)


def _earlier(codec: Codec, text: str, where: str) -> list[Contract]:
    from broker_bridge.errors import SchemaUnknownError

    try:
        return [one for one in codec.source.versions(parse_contract(text, where=where).subject) if one.text != text]
    except SchemaUnknownError:
        return []


async def _samples(config: BridgeConfig, codec: Codec, readers: Sequence[Newcomer], limit: int) -> list[Sample]:
    from broker_bridge.bootstrap import open_transport

    unpinned = [one for one in readers if one.route.contract and one.route.contract.version is None]
    if not unpinned:
        return []
    reader = open_transport(config).reader()
    await reader.start()
    try:
        found = []
        for new in unpinned:
            today, then = codec.decoder(new.earlier[-1], Form.JSON), codec.decoder(new.contract, Form.JSON)
            for topic, dead in ((new.route.topic, False), (new.route.lane_names.dead_letter, True)):
                sample = Sample(new.route.name, topic, dead)
                found.append(await still_decodes(sample, reader, today=today, then=then, limit=limit))
        return found
    finally:
        await reader.stop()


def _meeting(one: Meeting) -> list[str]:
    who = f"route {one.route} (group {one.group}, {one.target})"
    told = {
        When.NOW: f"{who} reads as {one.other} until it starts again",
        When.PINNED: f"{who} reads as {one.other}, which it names",
        When.RESTARTED: f"{who} reads what {one.other} wrote to {one.topic}",
        When.ANSWERS: f"{who} writes answers with the fields of {one.other} to {one.topic}",
    }[one.when]
    if not one.breaks:
        return [f"  fine: {told}"]
    weight = "breaks" if one.blocks else "breaks for a while"
    return [f"  {weight}: {told}: {_ADVICE[one.when]}", *(f"    {problem}" for problem in one.problems)]


def _sample(one: Sample) -> str:
    what = "dead letters in" if one.dead_letters else "records in"
    counts = f"{one.read} {what} {one.topic}: {one.decoded} would decode, {one.failed} no longer"
    return "\n".join(
        [f"  {counts}, {one.unreadable} do not today, {one.empty} empty", *(f"    {line}" for line in one.examples)]
    )
