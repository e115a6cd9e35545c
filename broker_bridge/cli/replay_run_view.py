"""Runs of plans, their status and their verification as a person reads them, each with the command that comes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from broker_bridge.core.replay_plan import SKIPPED
from broker_bridge.core.replay_state import Heading, ItemStatus, SkippedStatus
from broker_bridge.core.replay_verdict import Verdict
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.replay.run_report import RunEnd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_bridge.cli.operator_scope import Suggest
    from broker_bridge.core.operation import Operation
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.run_report import RunReport
    from broker_bridge.replay.status import ReplayStatus
    from broker_bridge.replay.verify import Verification

_HEADINGS: Final = {
    Heading.SENT_BEFORE: "sent before",
    Heading.ALREADY_COMPLETED: "skipped: completed since",
    Heading.STALE: "skipped: turned away before as stale",
    Heading.DISCARDED: "skipped: discarded since",
    Heading.SUPERSEDED: "skipped: a later dead letter counts",
    Heading.IN_HAND: "skipped: being worked on",
    Heading.CLAIM_EXPIRED: "refused: claim expired since the plan was made",
}
_STATUSES: Final = {
    ItemStatus.COMPLETED: "completed",
    ItemStatus.STALE: "turned away: a newer version was completed",
    ItemStatus.DISCARDED: "discarded",
    ItemStatus.SUPERSEDED: "taken over by another replay",
    ItemStatus.DEAD_AGAIN: "died again",
    ItemStatus.MISSING: "MISSING: passed by the group without a claim",
    ItemStatus.IN_PROGRESS: "being worked on",
    ItemStatus.QUEUED: "in the redrive lane",
    ItemStatus.NOT_SENT: "not sent",
}
_RUNS_SHOWN: Final = 6


def run_text(plan: Plan, report: RunReport, *, execute: bool, suggest: Suggest) -> str:
    """What a run did, or would do."""
    path = str(plan.path)
    again = f"{suggest('replay', 'run', path)} --execute --confirm-count {report.items}"
    lines = [f"Plan {plan.id} ({plan.header.why}), {report.items:,} items to {plan.header.destination}"]
    if execute:
        lines.append(f"{report.sent:>8,}   sent now")
    else:
        lines.append(f"{report.headings[Heading.TO_SEND]:>8,}   would be sent")
    lines += [f"{report.headings[one]:>8,}   {name}" for one, name in _HEADINGS.items() if report.headings[one]]
    if not execute:
        return "\n".join([*lines, f"Nothing was sent. Send: {again}"])
    return "\n".join([*lines, *_end_lines(report, again, suggest, path)])


def _end_lines(report: RunReport, again: str, suggest: Suggest, path: str) -> list[str]:
    why = suggest("dlq", "groups", "--state", "dead_again")
    if report.end is RunEnd.STOPPED:
        return ["Stopped. What was sent is acknowledged; the same command goes on from here:", f"  {again}"]
    if report.end is RunEnd.CANARY_FAILED:
        return [
            f"Stopped after the canary: of the first {report.canary:,} items too many died again; no other was sent.",
            f"Why they died: {why}",
            f"Once that is mended make a new plan, or go on without waiting for them: {again} --canary none",
        ]
    if report.end is RunEnd.CANARY_UNSETTLED:
        return [
            f"Stopped: the canary of {report.canary:,} items did not settle in time. Is a worker of the group running?",
            f"What became of it: {suggest('replay', 'status', path)}",
            f"Go on, and wait again: {again}",
        ]
    if report.end is RunEnd.TOO_MANY_DEAD:
        return [
            f"Stopped: {report.died:,} items died again, more than may. What was sent before stays sent.",
            f"Why they died: {why}",
            f"Go on all the same: {again} --max-dead-again 100%",
        ]
    return [f"See what comes of it: {suggest('replay', 'verify', path, '--wait')}"]


def runs_of(operations: Sequence[Operation]) -> Iterator[str]:
    """The runs of a plan, a line each event."""
    for one in operations[-2 * _RUNS_SHOWN :]:
        told = one.action.removeprefix("replay_").replace("_", " ")
        if "outcome" in one.details:
            told += f": {one.details['outcome']}, {one.counts.get('sent', 0):,} sent"
        yield f"{rfc3339(one.at_ms)[:19]}Z  {one.by}@{one.host}  {told}" + (f" ({one.why})" if one.why else "")


def status_text(found: ReplayStatus, topic: str, runs: Sequence[Operation], groups: str) -> str:
    """Where the items of a plan stand. ``topic`` is the plan's source topic."""
    lines = [f"Plan {found.plan_id}, {found.items:,} items", *(f"  {line}" for line in runs_of(runs))]
    lines += [f"{found.counts[one]:>8,}   {name}" for one, name in _STATUSES.items() if found.counts[one]]
    lines += [f"             {item.origin(topic)}: {one.value}" for item, one in found.bad[:10]]
    if found.is_good:
        lines.append("All settled.")
    elif not found.is_settled:
        lines.append("Not all is settled yet: --wait asks again, and a worker of the group must run.")
    elif found.counts[ItemStatus.DEAD_AGAIN]:
        lines.append(f"Why they died: {groups}")
    return "\n".join(lines)


_VERDICTS: Final = {
    Verdict.AS_PREDICTED: "Everything came as the plan predicted.",
    Verdict.DIFFERS: "Settled, but NOT as predicted: see above.",
    Verdict.UNSETTLED: "Not all is settled yet: --wait asks again, and a worker of the group must run.",
    Verdict.BROKEN: "BROKEN: something happened that must not, see above.",
}


def verify_text(plan: Plan, found: Verification, suggest: Suggest) -> str:
    """Prediction and outcome side by side, what differs with the command to look at it, and the verdict."""
    comparison, header = found.comparison, plan.header
    lines = [f"Plan {found.plan_id} ({header.why}), {found.items:,} items, {found.skipped:,} letters left alone"]
    lines.append(f"{'predicted':<14} {'came to':<14} {'items':>10}")
    for (predicted, actual), count in sorted(comparison.items.items()):
        mark = "" if predicted == actual else "  <"
        lines.append(f"{predicted:<14} {actual:<14} {count:>10,}{mark}")
    if comparison.forced:
        told = ", ".join(f"{count:,} {actual}" for actual, count in sorted(comparison.forced.items()))
        lines.append(f"of these executed again by force: {told}")
    for (why, status), count in sorted(comparison.skipped.items()):
        mark = "" if status is SkippedStatus.AS_PLANNED else "  <"
        lines.append(f"{'left alone':<14} {status:<14} {count:>10,}{mark}  {SKIPPED[why]}")
    records = ", ".join(f"partition {number}: {count:,}" for number, count in found.records.items())
    lines.append(f"In {header.destination}: {records or 'nothing'}; {comparison.copies:,} further copies")
    lines += _differences(plan, found, suggest)
    lines.append(_VERDICTS[comparison.verdict])
    return "\n".join(lines)


def _differences(plan: Plan, found: Verification, suggest: Suggest) -> Iterator[str]:
    topic, comparison = plan.header.topic, found.comparison
    for item, actual in comparison.different:
        yield f"  {item.origin(topic)}: predicted {item.predicted}, came to {actual}"
        yield f"      {suggest('dlq', 'show', f'{item.partition}/{item.offset}')}"
    for letter, status in comparison.different_skipped:
        done = "THIS REPLAY TOUCHED IT" if status is SkippedStatus.TOUCHED else "changed since, not by this replay"
        yield f"  {letter.origin(topic)}: left alone ({SKIPPED[letter.why]}): {done}"
        yield f"      {suggest('dlq', 'show', f'{letter.partition}/{letter.offset}')}"
    if comparison.foreign:
        yield f"  {comparison.foreign:,} records under this plan's id that the plan does not send:"
        yield from (f"      {position}: {reason}" for position, reason in found.foreign_at)
