"""Opening the source that a plan was made from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker_bridge.core.replay_plan import DEAD_LETTERS, TOPIC
from broker_bridge.errors import PlanInvalidError, PlanRefusedError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.sources.base import LetterSource
from broker_bridge.replay.sources.dead_letters import DeadLetterSource
from broker_bridge.replay.sources.file import FileSource
from broker_bridge.replay.sources.topic import TopicSource
from broker_bridge.transport.base import LogReader


@asynccontextmanager
async def open_source(
    source: Mapping[str, Any], *, reader: LogReader, store: IdempotencyStore, route: ReplayRoute
) -> AsyncIterator[LetterSource]:
    """The source that a plan was made from, by the ``source`` of its header.

    Raises ``PlanRefusedError`` where it is another route's or another file stands under the name, ``NotFoundError``
    and ``ExportInvalidError`` for a file, ``PlanInvalidError`` for what no plan holds.
    """
    named = source.get("topic") if source["kind"] in (DEAD_LETTERS, TOPIC) else source.get("path")
    if not isinstance(named, str) or not named:
        raise PlanInvalidError("its header has no sound source", remedy="make the plan again")
    if source["kind"] == DEAD_LETTERS:
        yield DeadLetterSource(reader=reader, store=store, route=route.reading(named))
    elif source["kind"] == TOPIC:
        if named != route.topic:
            raise PlanRefusedError(
                f"the plan is of records of {named}, route {route.name!r} reads {route.topic}",
                remedy="run it with the configuration it was made with",
            )
        yield TopicSource(reader=reader, store=store, route=route)
    else:
        with FileSource.open(Path(named), store=store, route=route, sha256=str(source.get("sha256", ""))) as opened:
            yield opened
