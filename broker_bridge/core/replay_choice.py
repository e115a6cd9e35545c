"""Whether a letter goes back: the heading that it comes under in a plan."""

from __future__ import annotations

from typing import Final

from broker_bridge.core.letters import LetterState

TO_REPLAY: Final = "to_replay"

_COMPLETED: Final = {
    LetterState.RESOLVED: "already_completed",
    LetterState.STALE: "stale",
    LetterState.DISCARDED: "discarded",
}
_ELSEWHERE: Final = {
    LetterState.SUPERSEDED: "superseded",
    LetterState.REPLAYING: "in_hand",
    LetterState.CONFLICT: "key_conflicts",
}


def is_forced(state: LetterState, *, force: bool) -> bool:
    """Whether a letter in this state would be executed once more."""
    return force and state in _COMPLETED


def heading(state: LetterState, *, hops: int, max_hops: int, is_pending: bool, allow_expired: bool, force: bool) -> str:
    """``to_replay``, or why not (``replay_plan.SKIPPED``), by all that is known without the value."""
    if state in _ELSEWHERE:
        return _ELSEWHERE[state]
    if state in _COMPLETED and not force:
        return _COMPLETED[state]
    if is_pending:
        return "pending"
    if state is LetterState.UNKNOWN and not allow_expired:
        return "claim_expired"
    return "over_hop_limit" if hops >= max_hops else TO_REPLAY
