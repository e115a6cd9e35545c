"""Which message kills its workers, and which ones merely were in hand when a worker died.

Whatever a dead worker held counts one crash more, the sound with the deadly. So once a message was in a crash, each
further start of it
is written into its claim *before* it runs; and from the last crash but one on, such messages run one at a time. Set
aside is only what
was itself started in each of the last lives::

    crashes    0            1                    2                       3
    deadly     starts, dies start noted, dies    alone, noted, dies      set aside: noted twice
    sound      in hand      in hand or done      waits for its turn      runs: never noted, or noted and done
"""

from __future__ import annotations

from broker_bridge.core.claim import MAX_ATTEMPT, ClaimAnswer
from broker_bridge.errors import StoreError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.give_back import give_back
from broker_bridge.worker.pipeline import Pipeline


def is_deadly(answer: ClaimAnswer, crash_limit: int) -> bool:
    """Whether a granted claim is of a message that was started whenever its worker died, ``crash_limit`` times."""
    return answer.crashes >= crash_limit and answer.tries >= crash_limit - 1


class Suspects:
    """Takes care of messages that were in a crash before."""

    def __init__(self, pipeline: Pipeline, store: IdempotencyStore) -> None:
        self._p = pipeline
        self._store = store
        self._alone: Delivery | None = None

    def must_wait(self, delivery: Delivery) -> bool:
        """Whether another suspect runs alone now, or was answered and is not settled yet: if this one killed the worker
        meanwhile, that one would be taken for deadly too."""
        alone = self._alone
        return alone is not None and self._runs_alone(delivery) and self._p.held.get(alone.claim_key) is alone

    async def before(self, delivery: Delivery) -> None:
        """Note the start, where the message was in a crash. Best effort: without the store it only takes one crash
        more to tell. The partition may be gone, and the lease over, when this returns."""
        if not delivery.crashes:
            return
        if self._runs_alone(delivery):
            self._alone = delivery
        tries = min(max(delivery.tries, delivery.attempt) + 1, MAX_ATTEMPT)
        route = self._p.route
        try:
            await self._store.renew(
                route.group, [delivery.held()._replace(tries=tries)], lease_ms=route.claims.lease_ms
            )
        except StoreError:
            self._p.metrics.store_error(route.name)

    async def let_go(self, delivery: Delivery) -> None:
        """It does not start after all: its partition is gone."""
        await give_back(self._p, self._store, [delivery])

    def after(self, delivery: Delivery) -> None:
        """It ended, and the worker lives."""
        if self._alone is delivery:
            self._alone = None
            self._p.work.wake()

    def _runs_alone(self, delivery: Delivery) -> bool:
        return delivery.crashes >= max(1, self._p.route.claims.crash_limit - 1)
