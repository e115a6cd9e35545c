"""Committing watermarks: explicit offsets only, never beyond the first unsettled record (invariants I3, I4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from broker_bridge.errors import TransportError
from broker_bridge.observability import events
from broker_bridge.transport.base import GroupConsumer
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Pipeline


class Committer:
    """Commits what has moved."""

    def __init__(self, pipeline: Pipeline, consumer: GroupConsumer) -> None:
        self._p = pipeline
        self._consumer = consumer
        self._one_by_one = asyncio.Lock()

    async def run(self) -> None:
        """Commit at the route's interval until cancelled."""
        while True:
            await asyncio.sleep(self._p.route.commit_interval_ms / 1000)
            await self.commit(state for state in self._p.assignment.states() if not state.gone)

    async def commit(self, states: Iterable[PartitionState]) -> None:
        """Commit the watermarks of ``states`` that have moved. A failure is not an error: the records would be read
        again and skipped.

        A state that a later assignment of its partition has replaced is left out: others may have committed more in
        between (I4). So is every watermark but the newest: one commit at a time, for a client that waits for its
        coordinator sends them again in any order::

            every 200 ms      commit 5 ── no coordinator · · · · · · · · · · sent again: 5
            partition goes                    commit 6 ── answered: 6
        """
        async with self._one_by_one:
            await self._commit(states)

    async def _commit(self, states: Iterable[PartitionState]) -> None:
        moved = {
            state: offset
            for state in states
            if self._p.assignment.get(state.tp) is state
            and (offset := state.watermark.committable) is not None
            and offset != state.committed
        }
        if not moved:
            return
        try:
            await self._consumer.commit({state.tp: offset for state, offset in moved.items()})
        except TransportError as error:
            self._p.metrics.commit_failed(self._p.route.name, error.code)
            self._p.log.warning(events.COMMIT_FAILED, code=error.code, error=str(error))
        else:
            self._p.metrics.committed(self._p.route.name)
            for state, offset in moved.items():
                state.committed = offset
