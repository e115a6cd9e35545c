"""Plans as a person reads them: what, how many, and which command comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker_bridge.core.letters import describe_selection

if TYPE_CHECKING:
    from broker_bridge.core.replay_plan import PlanEnd, PlanHeader


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
