"""Running a plan: each item is looked at, then sent, and never twice what was sent before.

What protects a replay that is killed, repeated, or run in two places at once:

* one run of a plan at a time, on whatever machine (``run_lease``);
* the redrive lane tells a later run what was sent (``redrive_lane``);
* a copy that was sent twice all the same (an acknowledgement lost on the way) meets the claim of its key: the claim
  knows the replay's id, and grants it once (I7, I17)::

      run A   copy 1 acked ─────────────► worker: DEAD + new replay id → granted → COMPLETED
      run B        copy 2 acked ────────────────────────────► worker: COMPLETED → dropped

The claims and letters of what comes next are read while a batch is being acknowledged. Batches are sent one after the
other, so that each partition keeps the plan's order.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

from broker_bridge.clock import Clock
from broker_bridge.core.replay_pace import PaceLimits
from broker_bridge.core.replay_state import Heading
from broker_bridge.errors import BridgeError, PlanRefusedError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.replay.edit import LetterEdit
from broker_bridge.replay.letter_contract import LetterContract
from broker_bridge.replay.letters_back import LettersBack
from broker_bridge.replay.plan_checks import check_age, check_route, check_topics, ends_of
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.redrive_lane import sent_items
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.run_items import RunItems
from broker_bridge.replay.run_lease import RunLease
from broker_bridge.replay.run_report import Progress, RunReport
from broker_bridge.replay.sending import Clients, RunHooks, Sending
from broker_bridge.replay.sources import open_source
from broker_bridge.transport.base import BatchProducer, LogReader

__all__ = ["ReplayRunner", "RunHooks", "RunReport"]

BATCH: Final = 10_000
"""The most records sent in one go."""


class _Begun(NamedTuple):
    """A plan that was looked at, and nothing spoke against it."""

    items: RunItems
    back: LettersBack
    report: RunReport


class ReplayRunner:
    """Runs plans of one route. ``reader``, ``store`` and (for ``send``) ``producer`` are started by the caller.
    ``contract`` is what edited values must be written under, None for a route without one."""

    def __init__(
        self,
        *,
        reader: LogReader,
        producer: BatchProducer,
        store: IdempotencyStore,
        route: ReplayRoute,
        clock: Clock,
        contract: LetterContract | None = None,
        batch: int = BATCH,
    ) -> None:
        self._clients = Clients(reader, producer, store, clock)
        self._route = route
        self._contract = contract
        self._batch = batch

    async def preview(self, plan: Plan, *, progress: Progress | None = None) -> RunReport:
        """Look at every item as things are now and count what ``send`` would do; nothing is written.

        Raises ``PlanRefusedError`` where the plan is another route's, a topic is gone, or a letter that would be sent
        is no longer what the plan says.
        """
        async with self._begun(plan) as run, aclosing(run.items.to_send()) as batches:
            async for found in batches:
                for numbered, letter in found:
                    run.back.record(numbered, letter, now_ms=0)
                run.report.headings[Heading.TO_SEND] += len(found)
                if progress is not None:
                    progress(run.report)
        return run.report

    async def send(self, plan: Plan, limits: PaceLimits | None = None, *, hooks: RunHooks | None = None) -> RunReport:
        """Send what is left to be sent, as fast as ``limits`` allow, each item checked before it is sent.

        Whatever happens, running the same plan again goes on where this run ended. Raises ``PlanRefusedError`` where
        the plan must not run, or another run of it goes on, ``ReplayError`` where Kafka did not acknowledge.
        """
        limits, hooks = limits or PaceLimits(), hooks or RunHooks()
        check_route(plan, self._route)
        recorder, clients = hooks.recorder, self._clients
        who = recorder.who_runs if recorder is not None else None
        lease = RunLease(clients.store, clients.clock, group=self._route.group, plan_id=plan.id, who=who)
        async with lease.held(waiting=hooks.waiting), self._begun(plan, canary=limits.canary) as run:
            items, back, report = run
            if recorder is not None:
                await recorder.started(items=report.items, sent_before=report.sent_before)
            if hooks.orders is not None:
                await hooks.orders.start()
            sending = Sending(
                plan,
                items,
                back,
                report,
                limits=limits,
                hooks=hooks,
                lease=lease,
                clients=clients,
                batch=self._batch,
            )
            try:
                await sending.run()
            except BridgeError as error:
                if recorder is not None:
                    with contextlib.suppress(BridgeError):  # what went wrong first is what counts
                        await recorder.ended(outcome=error.code, counts=report.counts())
                if isinstance(error, PlanRefusedError):
                    raise _with_count(error, report) from error
                raise
            if recorder is not None:
                await recorder.ended(outcome=report.end, counts=report.counts())
        return report

    @contextlib.asynccontextmanager
    async def _begun(self, plan: Plan, *, canary: int = 0) -> AsyncGenerator[_Begun, None]:
        """After everything that is looked at before anything is sent."""
        reader, store, clock = self._clients.reader, self._clients.store, self._clients.clock
        check_route(plan, self._route)
        check_age(plan, self._route, now_ms=clock.now_ms())
        await check_topics(plan, self._route, reader)
        back = LettersBack(plan, LetterEdit.of(plan.header.edit, self._contract))
        async with open_source(plan.header.source, reader=reader, store=store, route=self._route) as source:
            sent = await sent_items(plan, reader)
            report = RunReport(plan.id, plan.end.items, canary=min(canary, plan.end.items), sent_before=sent.count)
            items = RunItems(
                plan,
                sent,
                store=store,
                source=source,
                clock=clock,
                canary=report.canary,
                headings=report.headings,
            )
            for numbered, letter in await items.letters_of(ends_of(plan)):
                back.record(numbered, letter, now_ms=0)
            yield _Begun(items, back, report)


def _with_count(error: PlanRefusedError, report: RunReport) -> PlanRefusedError:
    """The same refusal, met half way: it says how much was sent before."""
    told = f"{error.detail}; {report.sent} records were sent in this run before it stopped here"
    return PlanRefusedError(told, where=error.where, remedy=error.remedy)
