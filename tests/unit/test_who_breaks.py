"""Which routes a new version of a contract breaks, where, and whether what is in the topics would still decode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from replay_world import World

from broker_bridge.cli.schemas_consumers import ask_consumers
from broker_bridge.config import load_config
from broker_bridge.contracts import Codec, Mode, SchemaDirectory, Upcasters, upcaster
from broker_bridge.contracts.contract import canonical_sha256
from broker_bridge.contracts.upcasters import Upcaster
from broker_bridge.errors import ContractError
from broker_bridge.replay.still_decodes import Sample, still_decodes
from broker_bridge.replay.who_breaks import Meeting, When, who_breaks

CONFIG = """
[bridge]
service = "s"
schemas = "."
[kafka]
bootstrap = "127.0.0.1:1"
[redis]
url = "redis://127.0.0.1:1/0"

[[route]]
name = "latest"
topic = "orders"
group = "g1"
[route.contract]
subject = "n.T"
[route.target]
kind = "http"
url = "http://127.0.0.1:1/x"

[[route]]
name = "pinned"
topic = "orders"
group = "g2"
[route.contract]
subject = "n.T"
version = 1
[route.target]
kind = "http"
url = "http://127.0.0.1:1/y"

[[route]]
name = "answers"
topic = "others"
group = "g3"
[route.contract]
subject = "n.Other"
[route.target]
kind = "python"
handler = "shop.handlers:take"
[route.output]
topic = "orders"
subject = "n.T"
"""


def field(name: str, kind: Any = "int", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def record(*fields: Any, name: str = "T") -> str:
    return json.dumps({"type": "record", "name": name, "namespace": "n", "fields": list(fields)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """n.T in two versions (b was added with a default) and n.Other in one."""
    texts = [
        ("n.T", 1, record(field("a"))),
        ("n.T", 2, record(field("a"), field("b", default=0))),
        ("n.Other", 1, record(field("x"), name="Other")),
    ]
    lines = []
    for number, (subject, version, text) in enumerate(texts, start=1):
        file = tmp_path / subject / f"v{version}.avsc"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        sha256 = canonical_sha256(json.loads(text))
        lines.append(json.dumps({"id": number, "subject": subject, "version": version, "sha256": sha256}))
    (tmp_path / "ids.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "bridge.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def meetings(folder: Path, text: str, mode: Mode = Mode.BACKWARD, upcasters: Upcasters | None = None) -> list[Meeting]:
    codec = Codec(SchemaDirectory(folder, drafts=True), upcasters=upcasters)
    return who_breaks(load_config(folder / "bridge.toml", {}), codec, text, "new.avsc", mode)


def breaking(found: list[Meeting]) -> list[tuple[str, str, str, list[str]]]:
    return [(one.route, one.when.value, one.other, [p.field for p in one.problems]) for one in found if one.breaks]


def test_every_route_that_reads_or_writes_it_is_met(folder: Path) -> None:
    found = meetings(folder, record(field("a"), field("b", default=0), field("c", default=0)))
    assert [(one.route, one.group, one.when, one.other) for one in found] == [
        ("latest", "g1", When.NOW, "version 2"),
        ("latest", "g1", When.RESTARTED, "version 1"),
        ("latest", "g1", When.RESTARTED, "version 2"),
        ("pinned", "g2", When.PINNED, "version 1"),
        ("answers", "g3", When.ANSWERS, "version 2"),
    ]
    assert [one.target for one in found][-2:] == ["http://127.0.0.1:1/y", "shop.handlers:take"]
    assert breaking(found) == []


def test_a_field_without_default_breaks_who_reads_old_records_and_who_answers(folder: Path) -> None:
    assert breaking(meetings(folder, record(field("a"), field("c")))) == [
        ("latest", "restarted", "version 1", ["c"]),
        ("latest", "restarted", "version 2", ["c"]),
        ("answers", "answers", "version 2", ["c"]),
    ]


def test_a_field_that_is_gone_breaks_who_still_reads_the_old_version(folder: Path) -> None:
    found = meetings(folder, record(field("b", default=0)))
    assert breaking(found) == [("latest", "now", "version 2", ["a"]), ("pinned", "pinned", "version 1", ["a"])]
    assert [one.blocks for one in found if one.breaks] == [False, True], "BACKWARD: readers are deployed first"
    forward = meetings(folder, record(field("b", default=0)), Mode.FORWARD)
    assert [one.blocks for one in forward if one.breaks] == [True, True]


def test_the_level_is_the_one_that_the_folder_keeps_for_the_subject(folder: Path) -> None:
    """Or `schemas check` would let pass what `schemas register` refuses a moment later."""
    new = folder / "new.avsc"
    new.write_text(record(field("a"), field("c")), encoding="utf-8")

    def asked(mode: Mode | None) -> tuple[str, int]:
        found = ask_consumers(new, folder / "bridge.toml", mode, live=False, samples=1)
        return found.mode.value, sum(one.blocks for one in found.meetings)

    assert asked(None) == ("BACKWARD", 4), "all but the route that reads as version 2 until it starts again"
    levels = {"default": "NONE", "subjects": {"n.T": "FULL"}}
    (folder / "compatibility.json").write_text(json.dumps(levels), encoding="utf-8")
    assert asked(None) == ("FULL", 5)
    assert asked(Mode.BACKWARD) == ("BACKWARD", 4)
    new.write_text(record(field("a"), name="Nobody"), encoding="utf-8")
    assert asked(None) == ("NONE", 0)


def test_a_contract_nobody_uses(folder: Path) -> None:
    assert meetings(folder, record(field("a"), name="Nobody")) == []


def test_a_draft_in_the_folder_is_not_what_it_is_held_against(folder: Path) -> None:
    text = record(field("a"), field("c"))
    (folder / "n.T" / "v3.avsc").write_text(text, encoding="utf-8")
    assert [one[2] for one in breaking(meetings(folder, text))] == ["version 1", "version 2", "version 2"]


def test_upcasters_do_what_avro_cannot(folder: Path) -> None:
    """Version 1 has no way to a new version without b but with c; a step from 1 to 2 leads on to where Avro can."""
    text = record(field("b"), field("a", "string", default=""))

    @upcaster("n.T", from_version=1)
    def add_b(value: dict[str, Any]) -> dict[str, Any]:
        return value | {"b": 1}

    steps = Upcasters([Upcaster("n.T", 1, add_b)])
    assert [one[2:] for one in breaking(meetings(folder, text)) if one[1] == "restarted"] == [
        ("version 1", ["b", "a"]),
        ("version 2", ["a"]),
    ]
    after = breaking(meetings(folder, text, upcasters=steps))
    assert [one[2:] for one in after if one[1] == "restarted"] == [("version 1", ["a"]), ("version 2", ["a"])]


# --- records -------------------------------------------------------------------------------------------------------


async def sampled(values: list[bytes | None], *, dead: bool = False, limit: int = 100) -> Sample:
    """b"old" decodes today and no longer, b"bad…" never, all else always."""

    def today(value: bytes, _: bytes | None) -> None:
        if value.startswith(b"bad"):
            raise ContractError("not Avro")

    def then(value: bytes, name: bytes | None) -> None:
        today(value, name)
        if value == b"old":
            raise ContractError("no such field: c")

    world = await World.in_memory().start()
    try:
        for value in values:
            for one in await world.produce(1, value=value or b""):
                if dead:
                    await world.die(one)
        topic = world.route.dead_letter_topic if dead else world.route.topic
        sample = Sample("latest", topic, dead)
        return await still_decodes(sample, world.reader, today=today, then=then, limit=limit)
    finally:
        await world.stop()


def counts(sample: Sample) -> tuple[int, ...]:
    return sample.read, sample.decoded, sample.failed, sample.unreadable


@pytest.mark.parametrize("dead", [False, True])
async def test_records_are_told_apart(dead: bool) -> None:
    sample = await sampled([b"ok", b"old", b"bad", b"old"], dead=dead)
    assert counts(sample) == (4, 1, 2, 1)
    assert [one.endswith("no such field: c") for one in sample.examples] == [True, True]
    assert sample.examples[0].startswith(f"{sample.topic}/0/1: ")


async def test_no_more_is_read_than_asked_for_and_the_newest_of_it() -> None:
    """Two partitions share the limit; all records are in one."""
    assert counts(await sampled([b"old", b"old", b"ok", b"ok"], limit=4)) == (2, 2, 0, 0)


async def test_examples_are_few() -> None:
    assert len((await sampled([b"old"] * 9)).examples) == 5


async def test_a_topic_that_is_not_there_has_no_records() -> None:
    world = await World.in_memory().start()
    try:
        sample = await still_decodes(
            Sample("r", "nowhere", False), world.reader, today=lambda *_: None, then=lambda *_: None, limit=9
        )
    finally:
        await world.stop()
    assert counts(sample) == (0, 0, 0, 0)
