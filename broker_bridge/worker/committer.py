"""Committing watermarks: explicit offsets only, never beyond the first unsettled record (invariants I3, I4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from broker_bridge.errors import TransportError
from broker_bridge.observability import events
from broker_bridge.transport.base import GroupConsumer
from broker_bridge.worker.partitions import PartitionState
from broker_bridge.worker.pipeline import Pipeline

_SOONEST = 4
"""Of the commit interval, this part passes between two commits at least."""


class Committer:
    """Commits what has moved."""

    def __init__(self, pipeline: Pipeline, consumer: GroupConsumer) -> None:
        self._p = pipeline
        self._consumer = consumer
        self._one_by_one = asyncio.Lock()

    async def run(self) -> None:
        """Commit at the route's interval until cancelled; sooner where nothing is in hand any more, for then there is
        nothing to wait for: who crashes while idle has little to read again."""
        interval_ms = self._p.route.commit_interval_ms
        moved = True
        while True:
            await asyncio.sleep(interval_ms / (_SOONEST if moved else 1) / 1000)
            if moved and self._p.in_flight:
                await self._p.drained.wait(interval_ms * (1 - 1 / _SOONEST))
            moved = bool(await self.commit(state for state in self._p.assignment.states() if not state.gone))

    async def commit(self, states: Iterable[PartitionState]) -> bool:
        """Commit the watermarks of ``states`` that have moved. A failure is not an error: the records would be read
        again and skipped. The answer is whether any had.

        A state that a later assignment of its partition has replaced is left out: others may have committed more in
        between (I4). So is every watermark but the newest: one commit at a time, for a client that waits for its
        coordinator sends them again in any order::

            every 200 ms      commit 5 ── no coordinator · · · · · · · · · · sent again: 5
            partition goes                    commit 6 ── answered: 6
        """
        async with self._one_by_one:
            return await self._commit(states)

    async def _commit(self, states: Iterable[PartitionState]) -> bool:
        moved = {
            state: offset
            for state in states
            if self._p.assignment.get(state.tp) is state
            and (offset := state.watermark.committable) is not None
            and offset != state.committed
        }
        if not moved:
            return False
        try:
            await self._consumer.commit({state.tp: offset for state, offset in moved.items()})
        except TransportError as error:
            self._p.metrics.commit_failed(self._p.route.name, error.code)
            self._p.log.warning(events.COMMIT_FAILED, code=error.code, error=str(error))
        else:
            self._p.metrics.committed(self._p.route.name)
            for state, offset in moved.items():
                state.committed = offset
        return True
