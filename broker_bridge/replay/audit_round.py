"""One closing of the books on both sides, and what there is to object to in it."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import NamedTuple

from broker_bridge.core.audit import Outcome
from broker_bridge.core.reconcile import Reconciliation, Terms
from broker_bridge.errors import AuditError
from broker_bridge.replay.audit import EVERYTHING, Auditor, AuditRange, AuditReport, Progress
from broker_bridge.replay.reconciler import Reconciler
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.target_list import TargetList
from broker_bridge.transport.base import LogReader


@dataclass(frozen=True, slots=True)
class AuditOrder:
    """What is to be audited, and what it is held to. ``late_after_ms``: how long after a record was written its target
    may apply it."""

    wanted: AuditRange = EVERYTHING
    outputs: bool = False
    target: TargetList | None = None
    late_after_ms: int | None = None
    expect_drained: bool = False
    allow_forgotten: bool = False


class Objection(NamedTuple):
    """Why the books do not close: a kind, for comparing and counting, and a sentence's part, for people."""

    kind: str
    text: str


class AuditRound(NamedTuple):
    """Both sides, as they are now."""

    report: AuditReport
    target: Reconciliation | None
    objections: tuple[Objection, ...]


async def audit_round(
    auditor: Auditor, reader: LogReader, route: ReplayRoute, order: AuditOrder, *, progress: Progress | None = None
) -> AuditRound:
    """Audit, then read the target's list: what the books call completed is in it by then, whatever the target went on
    to do. Raises what ``Auditor.audit`` and ``TargetList.read`` raise."""
    with closing(Reconciler(route.topic)) as reconciler:
        on_entry = reconciler.enter if order.target is not None else None
        report = await auditor.audit(order.wanted, outputs=order.outputs, on_entry=on_entry, progress=progress)
        target = None
        if order.target is not None:
            async with aclosing(order.target.read(reader)) as lines:
                async for line in lines:
                    if line is None:
                        reconciler.pass_over()
                    else:
                        reconciler.line(line, report.covers)
            if reconciler.needs_newer:
                async for entry in auditor.newer(report):
                    reconciler.enter(entry)
            terms = Terms(order.late_after_ms, report.is_whole)
            target = await _compare(reconciler, terms, is_ordered=route.keeps_order and order.target.tells_order)
    return AuditRound(report, target, tuple(objections(report, target, order)))


async def _compare(reconciler: Reconciler, terms: Terms, *, is_ordered: bool) -> Reconciliation:
    """In a thread, which has ended when this has: what it works on is closed then."""
    comparing = asyncio.ensure_future(asyncio.to_thread(reconciler.compare, terms, is_ordered=is_ordered))
    try:
        return await asyncio.shield(comparing)
    except asyncio.CancelledError:
        reconciler.interrupt()
        with contextlib.suppress(AuditError):
            await comparing
        raise


def objections(report: AuditReport, target: Reconciliation | None, order: AuditOrder) -> list[Objection]:
    """Why what was asked for does not close; empty where it does."""
    books = report.books
    found = [] if books.adds_up else [Objection("does_not_add_up", "the audit itself does not add up")]
    if unaccounted := books.total(Outcome.UNACCOUNTED):
        found.append(Objection("unaccounted", f"{unaccounted:,} unaccounted"))
    if (forgotten := books.total(Outcome.FORGOTTEN)) and not order.allow_forgotten:
        found.append(Objection("forgotten", f"{forgotten:,} forgotten"))
    if order.expect_drained and not books.drained:
        found.append(Objection("not_drained", "not drained"))
    if report.outputs is not None and (missing := len(report.outputs.missing)):
        found.append(Objection("results_missing", f"{missing:,} results missing"))
    if target is not None and not target.balanced:
        found.append(Objection("target_disagrees", "the target's list disagrees"))
    return found
