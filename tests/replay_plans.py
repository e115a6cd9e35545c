"""What tests of replay plans share: a contract that changed twice, and plans of a world."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

from replay_world import World

from broker_bridge.contracts import Codec, SchemaDirectory, Upcasters, WireForm
from broker_bridge.contracts.contract import canonical_sha256
from broker_bridge.contracts.upcasters import Upcaster
from broker_bridge.core.letters import Selection
from broker_bridge.core.replay_plan import PlanItem, Prediction
from broker_bridge.replay.letter_contract import LetterContract
from broker_bridge.replay.plan_file import spool, write_plan
from broker_bridge.replay.planner import Planner, PlanWishes
from broker_bridge.replay.sources import DeadLetterSource, LetterSource, Numbered

SUBJECT: Final = "shop.Stock"
_ID: Final = {"name": "id", "type": "string"}
_REVISION: Final = {"name": "revision", "type": "long"}
_COUNT: Final = {"name": "count", "type": "int"}
_VERSIONS: Final = (
    [_ID, _REVISION],
    [_ID, _REVISION, _COUNT],
    [_ID, _REVISION, _COUNT, {"name": "note", "type": "string", "default": ""}],
)
"""Version 2 asks for what version 1 does not have: an upcaster must say it."""


def stock_codec(folder: Path, *, upcasts: bool = False) -> Codec:
    """The contract in three versions; with ``upcasts`` version 1 has an upcaster."""
    ids = []
    for number, fields in enumerate(_VERSIONS, start=1):
        schema = {"type": "record", "name": "Stock", "namespace": "shop", "fields": fields}
        file = folder / SUBJECT / f"v{number}.avsc"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema), encoding="utf-8")
        ids.append({"id": number, "subject": SUBJECT, "version": number, "sha256": canonical_sha256(schema)})
    (folder / "ids.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ids), encoding="utf-8")
    steps = Upcasters([Upcaster(SUBJECT, 1, lambda value: {**value, "count": 0})]) if upcasts else None
    return Codec(SchemaDirectory(folder), upcasters=steps)


def stock_contract(codec: Codec, *, version_field: str | None = None) -> LetterContract:
    """The contract as a route reads it: the latest version."""
    return LetterContract(codec, codec.source.get(SUBJECT), version_field=version_field)


def stock(codec: Codec, revision: int, *, version: int = 3, form: WireForm = WireForm.CONFLUENT) -> bytes:
    """A value of that revision, written under that version of the contract."""
    value: dict[str, Any] = {"id": "apple", "revision": revision, "count": 7, "note": "n"}
    fields = [field["name"] for field in _VERSIONS[version - 1]]
    contract = codec.source.get(SUBJECT, version)
    return codec.encoder(contract, wire_form=form)({name: value[name] for name in fields})


async def make_plan(
    world: World,
    path: Path,
    *,
    contract: LetterContract | None = None,
    selection: Selection | None = None,
    **wishes: Any,
) -> Prediction:
    """A plan of the world's dead letters, written to ``path`` also where nothing goes back."""
    source = DeadLetterSource(reader=world.reader, store=world.store, route=world.route, selection=selection)
    return await plan_of(world, source, path, contract=contract, **wishes)


async def plan_of(
    world: World, source: LetterSource, path: Path, *, contract: LetterContract | None = None, **wishes: Any
) -> Prediction:
    """A plan of what ``source`` selects."""
    planner = Planner(
        source=source,
        reader=world.reader,
        store=world.store,
        route=world.route,
        clock=world.clock,
        contract=contract,
        folder=path.parent,
    )
    with spool(path.parent) as lines, spool(path.parent) as diff:
        header = await planner.draft(PlanWishes(**{"by": "ada", "why": "fixed", **wishes}), spool=lines, diff=diff)
        write_plan(path, header, lines, diff=diff if header.edit is not None else None)
    return header.prediction


async def given(items: Sequence[PlanItem], *, size: int = 1_000) -> AsyncIterator[list[Numbered]]:
    """Items as a run asks for them: numbered, in lists of ``size``."""
    numbered = [Numbered(number, item) for number, item in enumerate(items)]
    for first in range(0, len(numbered), size):
        yield numbered[first : first + size]
