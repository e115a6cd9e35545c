"""Dead letters into a file and back, in a world played by hand."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from replay_world import World

from broker_bridge.core.dead_letter import DeadLetter, write_redrive
from broker_bridge.core.exported_letter import ExportHeader
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.message import Record
from broker_bridge.replay.dead_letters import DeadLetters
from broker_bridge.replay.export import ExportedFile, new_export
from broker_bridge.replay.export_letters import export_letters
from broker_bridge.replay.import_letters import Importer, ImportReport

ANY = Selection()
_ids = itertools.count()


async def nowhere(_phase: str, _counts: Mapping[str, int]) -> None:
    return None


def letters_of(world: World) -> DeadLetters:
    return DeadLetters(reader=world.reader, store=world.store, route=world.route)


async def export(world: World, path: Path, selection: Selection = ANY, **options: object) -> Counter[LetterState]:
    route = world.route
    header = ExportHeader(
        "2026-11-24T08:00:00.000Z", "ada", route.name, route.group, route.topic, route.dead_letter_topic, {}
    )
    with new_export(path, header) as writer:
        states = await export_letters(letters_of(world), selection, writer, **options)  # type: ignore[arg-type]
        writer.finish()
    return states


def importer(world: World, *, batch: int = 500, record=nowhere) -> Importer:
    return Importer(
        reader=world.reader,
        producer=world.producer,
        store=world.store,
        route=world.route,
        clock=world.clock,
        record=record,
        import_id=f"import-{next(_ids)}",
        batch=batch,
    )


async def bring_back(world: World, path: Path, **options: object) -> ImportReport:
    with ExportedFile.open(path) as file:
        return await importer(world, **options).run(file)  # type: ignore[arg-type]


async def states(world: World) -> list[LetterState]:
    """In the order of the log, partition by partition."""
    found = [one async for batch in letters_of(world).browse(ANY) for one in batch]
    return [one.state for one in sorted(found, key=lambda one: one.letter.position)]


async def dead_letters(world: World) -> list[Record]:
    return sorted(await world.read_all(world.route.dead_letter_topic), key=lambda one: one.position)


def bytes_of(records: list[Record]) -> list[tuple[object, ...]]:
    return [(one.partition, one.timestamp_ms, one.key, one.value, tuple(one.headers)) for one in records]


async def dead_records(world: World, count: int) -> list[Record]:
    records = [record for partition in (0, 1) for record in await world.produce(count, partition=partition)]
    for record in records:
        await world.die(record)
    return records


async def redrive(world: World, letter: DeadLetter, replay_id: str = "rp-1") -> Record:
    return (await world.write([write_redrive(letter, topic=world.route.redrive_topic, replay_id=replay_id, now_ms=1)]))[
        0
    ]


async def retention(world: World) -> None:
    """Removes every dead letter."""
    for tp, partition in world.transport.log.partitions(world.route.dead_letter_topic):  # type: ignore[attr-defined]
        world.transport.log.trim(tp, before=partition.end)  # type: ignore[attr-defined]
