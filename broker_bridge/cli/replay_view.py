"""Plans as a person reads them: what, how many, and which command comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker_bridge.core.letters import describe_selection
from broker_bridge.core.newest_version import ReplayOrder
from broker_bridge.core.replay_plan import DEAD_LETTERS, SKIPPED, TOPIC

if TYPE_CHECKING:
    from broker_bridge.core.replay_plan import PlanEnd, PlanHeader, Prediction

_REMEDIES = {
    "claim_expired": "--allow-expired",
    "undecodable": "--include-undecodable, or --patch",
    "already_completed": "--force",
}
_PLACES_SHOWN = 5


def plan_text(header: PlanHeader, end: PlanEnd | None, path: Path, *, run: str, diff: Path | None) -> str:
    """The plan that was made, or why there is none."""
    p = header.prediction
    lines = [f"Route {header.route}, {_source(header)}", f"{p.selected:>10,} selected"]
    lines += _counted(header, p)
    for why, reason in SKIPPED.items():
        if count := getattr(p, why):
            hint = f"  ({_REMEDIES[why]})" if why in _REMEDIES else ""
            lines.append(f"{count:>10,}   stay: {reason}{hint}")
            places = {"undecodable": p.undecodable_at, "patch_failed": p.patch_failed_at}.get(why, ())
            lines += [f"               {place}" for place in places[:_PLACES_SHOWN]]
    if end is None:
        return "\n".join([*lines, "Nothing to replay; no plan was written."])
    if header.force:
        lines.append(f"FORCED: {p.forced:,} completed messages will be executed AGAIN. Why: {header.why}")
    lines.append(f"Takes {_span(header.expected_s)} at {header.rate_per_s:g} records a second.")
    if diff is not None:
        lines.append(f"What the edit changes in each is in {diff}.")
    lines += [
        f"Plan {end.plan_id} is in {path}. Nothing was sent.",
        f"Look again:  {run}",
        f"Send:        {run} --execute --confirm-count {end.items}",
    ]
    return "\n".join(lines)


def _source(header: PlanHeader) -> str:
    kind, chosen = header.source["kind"], describe_selection(header.selection)
    if kind == DEAD_LETTERS:
        own = header.source["topic"] == header.dead_letter_topic
        return chosen if own else f"{header.source['topic']}: {chosen}"
    return f"{header.source['topic'] if kind == TOPIC else header.source['path']}: {chosen}"


def _counted(header: PlanHeader, p: Prediction) -> list[str]:
    """What goes back, and what is to be known of it."""
    if header.order == ReplayOrder.SKIP_STALE:
        over = "have a newer completed message of their key; what is older by version is turned away as stale"
    else:
        over = "have a newer completed message of their key and are executed all the same (--order hold keeps them)"
    told = {
        "go back": p.to_replay,
        "  are completed, and executed again": p.forced,
        "  decode only thanks to an upcaster": p.fixed_by_upcaster,
        f"  {over}": p.breaks_order,
        "  will be turned away as stale": p.predicted_stale,
        "  were not looked at for newer messages of their key": p.order_unknown,
        "  do not decode and will die again": p.predicted_dead,
    }
    return [f"{count:>10,}   {what}" for what, count in told.items() if count]


def _span(seconds: float) -> str:
    whole = max(1, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if count]
    return " ".join(parts[:2])
