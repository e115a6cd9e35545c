"""Plans, runs and their status as a person reads them: what, how many, and which command comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_bridge.core.letters import describe_selection
from broker_bridge.core.replay_state import Heading, ItemStatus

if TYPE_CHECKING:
    from broker_bridge.core.replay_plan import PlanEnd, PlanHeader
    from broker_bridge.replay.plan_file import Plan
    from broker_bridge.replay.runner import RunReport
    from broker_bridge.replay.status import ReplayStatus


def plan_text(header: PlanHeader, end: PlanEnd | None, path: Path, run: str) -> str:
    """The plan that was made, or why there is none."""
    p = header.prediction
    lines = [f"Route {header.route}: {describe_selection(header.selection)}", f"{p.selected:>8,} dead letters selected"]
    reasons = {
        "to be replayed": p.to_replay,
        "skipped: completed since": p.already_completed,
        "skipped: turned away before as stale": p.stale,
        "skipped: discarded": p.discarded,
        "skipped: a later dead letter counts": p.superseded,
        "skipped: being worked on": p.in_hand,
        "refused: replayed too often": p.over_hop_limit,
        "refused: key used for another payload": p.key_conflicts,
        "refused: claim expired (--allow-expired)": p.claim_expired,
        "left out: still do not decode (--include-undecodable)": p.undecodable,
    }
    lines += [f"{count:>8,}   {reason}" for reason, count in reasons.items() if count]
    lines += [f"             {place}" for place in p.undecodable_at[:5]]
    if end is None:
        return "\n".join([*lines, "Nothing to replay; no plan was written."])
    lines += [
        f"Plan {end.plan_id} is in {path}. Nothing was sent.",
        f"Look again:  {run}",
        f"Send:        {run} --execute --confirm-count {end.items}",
    ]
    return "\n".join(lines)


def run_text(plan: Plan, report: RunReport, *, execute: bool, again: str, check: str) -> str:
    """What a run did, or would do."""
    names = {
        Heading.SENT_BEFORE: "sent before",
        Heading.ALREADY_COMPLETED: "skipped: completed since",
        Heading.SUPERSEDED: "skipped: a later dead letter counts",
        Heading.IN_HAND: "skipped: being worked on",
        Heading.CLAIM_EXPIRED: "refused: claim expired since the plan was made",
    }
    header = plan.header
    lines = [f"Plan {plan.id} ({header.why}), {report.items:,} items to {header.destination}"]
    if execute:
        lines.append(f"{report.sent:>8,}   sent now")
    else:
        lines.append(f"{report.headings[Heading.TO_SEND]:>8,}   would be sent")
    lines += [f"{report.headings[one]:>8,}   {name}" for one, name in names.items() if report.headings[one]]
    if report.was_stopped:
        lines += [
            "Stopped. What was sent is acknowledged; the same command goes on from here:",
            f"  {again} --execute --confirm-count {report.items}",
        ]
    elif not execute:
        lines.append(f"Nothing was sent. Send: {again} --execute --confirm-count {report.items}")
    else:
        lines.append(f"See what comes of it: {check} --wait")
    return "\n".join(lines)


def status_text(found: ReplayStatus, runs: list[dict[str, Any]], groups: str) -> str:
    """Where the items of a plan stand."""
    names = {
        ItemStatus.COMPLETED: "completed",
        ItemStatus.SUPERSEDED: "taken over by another replay",
        ItemStatus.DEAD_AGAIN: "died again",
        ItemStatus.MISSING: "MISSING: passed by the group without a claim",
        ItemStatus.IN_PROGRESS: "being worked on",
        ItemStatus.QUEUED: "in the redrive lane",
        ItemStatus.NOT_SENT: "not sent",
    }
    lines = [f"Plan {found.plan_id}, {found.items:,} items"]
    for run in runs[-6:]:
        how = f"{run['outcome']}, {run.get('sent', '?')} sent" if "outcome" in run else "started"
        lines.append(f"  {run.get('at')}  {run.get('by')}@{run.get('host')}: {how}")
    lines += [f"{found.counts[one]:>8,}   {name}" for one, name in names.items() if found.counts[one]]
    lines += [f"             {item.partition}/{item.offset}: {one.value}" for item, one in found.bad[:10]]
    if found.is_good:
        lines.append("All settled.")
    elif not found.is_settled:
        lines.append("Not all is settled yet: --wait asks again, and a worker of the group must run.")
    elif found.counts[ItemStatus.DEAD_AGAIN]:
        lines.append(f"Why they died: {groups}")
    return "\n".join(lines)
