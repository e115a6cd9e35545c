"""What becomes of a claim, as tables: read from the top, the first row that matches wins.

``transition_table()`` prints them. ``apply_claim``, ``apply_renew`` and ``apply_settle`` run them on values: a store
(memory, or Redis by one Lua script a batch) must answer as they do, and the contract suite holds every store to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from broker_bridge.core.claim import (
    MAX_ATTEMPT,
    NO_FINGERPRINT,
    NO_REPLAY,
    ClaimAnswer,
    ClaimRequest,
    ClaimState,
    ClaimStatus,
    Held,
    SettleKind,
    Settlement,
    SettleStatus,
    StoredClaim,
)


class ClaimRule(NamedTuple):
    """One row: in ``state`` (None: nothing stored), when ``guard`` holds, answer ``status`` and write ``effect``."""

    state: ClaimState | None
    when: str
    guard: Callable[[StoredClaim, ClaimRequest, int], bool]
    status: ClaimStatus
    then: str
    effect: Callable[[StoredClaim, ClaimRequest], StoredClaim] | None


class SettleRule(NamedTuple):
    """One row: in ``state``, when nonce and token match, answer OK and write ``effect``. No row: STALE."""

    kind: SettleKind
    state: ClaimState
    then: str
    effect: Callable[[StoredClaim, Settlement], StoredClaim]


# Guards: (stored, request, now in ms) → does the row match?


def _always(_stored: StoredClaim, _request: ClaimRequest, _now_ms: int) -> bool:
    return True


def _new_replay(stored: StoredClaim, request: ClaimRequest, _now_ms: int) -> bool:
    return request.replay not in (NO_REPLAY, stored.replay)


def _other_payload(stored: StoredClaim, request: ClaimRequest, _now_ms: int) -> bool:
    return stored.fingerprint not in (NO_FINGERPRINT, request.fingerprint)


def _same_nonce(stored: StoredClaim, request: ClaimRequest, _now_ms: int) -> bool:
    return stored.nonce == request.nonce


def _lease_runs(stored: StoredClaim, _request: ClaimRequest, now_ms: int) -> bool:
    return now_ms < stored.lease_end_ms


def _live_copy(stored: StoredClaim, request: ClaimRequest, _now_ms: int) -> bool:
    return request.attempt >= stored.copy_attempt


# Effects: (stored, event) → stored. The lease's end and the token's lower bound are added by apply_claim.


def _keep_token(stored: StoredClaim, request: ClaimRequest) -> StoredClaim:
    return stored._replace(
        fingerprint=request.fingerprint,
        attempt=max(stored.attempt, request.attempt),
    )


def _grant(stored: StoredClaim, request: ClaimRequest) -> StoredClaim:
    return stored._replace(
        state=ClaimState.IN_PROGRESS,
        nonce=request.nonce,
        token=stored.token + 1,
        fingerprint=request.fingerprint,
        origin=request.origin,
        attempt=max(stored.attempt, request.attempt),
        copy_attempt=request.attempt,
        replay=stored.replay if request.replay == NO_REPLAY else request.replay,
        settled_at_ms=0,
        detail=b"",
    )


def _take_over(stored: StoredClaim, request: ClaimRequest) -> StoredClaim:
    return _grant(stored, request)._replace(crashes=min(stored.crashes + 1, MAX_ATTEMPT))


def _new_life(stored: StoredClaim, request: ClaimRequest) -> StoredClaim:
    return _grant(stored, request)._replace(attempt=0, copy_attempt=0, crashes=0, tries=0)


def _complete(stored: StoredClaim, settlement: Settlement) -> StoredClaim:
    return stored._replace(state=ClaimState.COMPLETED, detail=settlement.detail)


def _bury(stored: StoredClaim, settlement: Settlement) -> StoredClaim:
    return stored._replace(state=ClaimState.DEAD, detail=settlement.detail)


def _hand_to_copy(stored: StoredClaim, settlement: Settlement) -> StoredClaim:
    # Set, not raised: this copy is the only record that will come again, so it must never be superseded.
    return stored._replace(state=ClaimState.RETRY, attempt=settlement.attempt, copy_attempt=settlement.attempt)


def _let_go(stored: StoredClaim, _settlement: Settlement) -> StoredClaim:
    return stored._replace(state=ClaimState.RETRY)


def _nothing(stored: StoredClaim, _settlement: Settlement) -> StoredClaim:
    return stored


CLAIM_RULES: tuple[ClaimRule, ...] = (
    ClaimRule(None, "", _always, ClaimStatus.GRANTED, "IN_PROGRESS, token minted", _grant),
    ClaimRule(
        ClaimState.DEAD,
        "new replay id",
        _new_replay,
        ClaimStatus.GRANTED,
        "IN_PROGRESS, larger token, a new life: attempt, crashes, tries 0; replay and fingerprint of the request",
        _new_life,
    ),
    *(
        ClaimRule(state, "fingerprint differs", _other_payload, ClaimStatus.CONFLICT, "unchanged", None)
        for state in ClaimState
    ),
    ClaimRule(
        ClaimState.IN_PROGRESS,
        "same nonce",
        _same_nonce,
        ClaimStatus.GRANTED,
        "same token, lease anew (a retried call)",
        _keep_token,
    ),
    ClaimRule(ClaimState.IN_PROGRESS, "now < lease end", _lease_runs, ClaimStatus.BUSY, "unchanged", None),
    ClaimRule(
        ClaimState.IN_PROGRESS,
        "now >= lease end",
        _always,
        ClaimStatus.GRANTED,
        "IN_PROGRESS, larger token, crashes + 1",
        _take_over,
    ),
    ClaimRule(
        ClaimState.RETRY, "attempt >= live copy's", _live_copy, ClaimStatus.GRANTED, "IN_PROGRESS, larger token", _grant
    ),
    ClaimRule(ClaimState.RETRY, "attempt < live copy's", _always, ClaimStatus.SUPERSEDED, "unchanged", None),
    ClaimRule(ClaimState.COMPLETED, "", _always, ClaimStatus.DONE, "unchanged, stored result", None),
    ClaimRule(ClaimState.DEAD, "no replay id, or the same", _always, ClaimStatus.DEAD, "unchanged", None),
)

SETTLE_RULES: tuple[SettleRule, ...] = (
    SettleRule(SettleKind.COMPLETE, ClaimState.IN_PROGRESS, "COMPLETED, result, larger tries", _complete),
    SettleRule(SettleKind.COMPLETE, ClaimState.COMPLETED, "unchanged (repeated)", _nothing),
    SettleRule(SettleKind.RETRY, ClaimState.IN_PROGRESS, "RETRY, attempt of the copy, larger tries", _hand_to_copy),
    SettleRule(SettleKind.RETRY, ClaimState.RETRY, "unchanged (repeated)", _nothing),
    SettleRule(SettleKind.RELEASE, ClaimState.IN_PROGRESS, "RETRY, attempt as it is, larger tries", _let_go),
    SettleRule(SettleKind.RELEASE, ClaimState.RETRY, "unchanged (repeated)", _nothing),
    SettleRule(SettleKind.DEAD, ClaimState.IN_PROGRESS, "DEAD, the dead letter's place, larger tries", _bury),
    SettleRule(SettleKind.DEAD, ClaimState.DEAD, "unchanged (repeated)", _nothing),
)

_BLANK = StoredClaim(
    state=ClaimState.IN_PROGRESS,
    attempt=0,
    copy_attempt=0,
    crashes=0,
    tries=0,
    nonce=b"",
    token=0,
    lease_end_ms=0,
    fingerprint=NO_FINGERPRINT,
    replay=NO_REPLAY,
    origin=b"",
    settled_at_ms=0,
    detail=b"",
)
_CLAIM_BY_STATE = {state: tuple(rule for rule in CLAIM_RULES if rule.state is state) for state in (None, *ClaimState)}
_SETTLE_BY_STATE = {(rule.kind, rule.state): rule for rule in SETTLE_RULES}


def apply_claim(
    stored: StoredClaim | None, request: ClaimRequest, *, now_us: int, lease_ms: int, floor: int = 0
) -> tuple[ClaimAnswer, StoredClaim | None]:
    """Answer one claim request, and say what to write (None: nothing).

    A new token is ``max(stored + 1, floor + 1, now_us)``, where ``floor`` is the highest token that the caller has seen
    on any key. So it keeps growing where the key was lost (W3: by the clock), where the store's clock went back (by
    what is stored), and, as far as the caller has seen, where both happened at once (by the floor).
    """
    now_ms = now_us // 1000
    before = stored or _BLANK
    rules = _CLAIM_BY_STATE[stored.state if stored else None]
    rule = next(rule for rule in rules if rule.guard(before, request, now_ms))
    if rule.effect is None:
        return refusal(rule.status, before, now_ms=now_ms), None
    after = rule.effect(before, request)
    token = after.token if after.token == before.token else max(after.token, floor + 1, now_us)
    after = after._replace(token=token, lease_end_ms=now_ms + lease_ms)
    return ClaimAnswer(rule.status, token, after.attempt, after.crashes, tries=after.tries), after


def refusal(status: ClaimStatus, stored: StoredClaim, *, now_ms: int) -> ClaimAnswer:
    """The answer to a request that was not granted, from what is stored."""
    return ClaimAnswer(
        status,
        attempt=stored.attempt,
        crashes=stored.crashes,
        retry_after_ms=max(1, stored.lease_end_ms - now_ms) if status is ClaimStatus.BUSY else 0,
        result=stored.detail,
        origin=stored.origin,
        settled_at_ms=stored.settled_at_ms,
        tries=stored.tries,
    )


def apply_renew(stored: StoredClaim | None, held: Held, *, now_us: int, lease_ms: int) -> StoredClaim | None:
    """What to write for a renewal: the lease from now, the larger counts. None: the claim is no longer ours."""
    if stored is None or stored.state is not ClaimState.IN_PROGRESS or not _is_owner(stored, held):
        return None
    return stored._replace(
        attempt=max(stored.attempt, held.attempt),
        tries=_tries(stored, held),
        lease_end_ms=now_us // 1000 + lease_ms,
    )


def apply_settle(
    stored: StoredClaim | None, settlement: Settlement, *, now_us: int
) -> tuple[SettleStatus, StoredClaim | None]:
    """Answer one settlement, and say what to write (None: nothing).

    A settlement that was applied before is written again as it was, so that its repetition is as durable as itself.
    """
    if stored is None or not _is_owner(stored, settlement):
        return SettleStatus.STALE, None
    rule = _SETTLE_BY_STATE.get((settlement.kind, stored.state))
    if rule is None:
        return SettleStatus.STALE, None
    after = rule.effect(stored, settlement)
    if after is not stored:
        after = after._replace(tries=_tries(stored, settlement), settled_at_ms=now_us // 1000)
    return SettleStatus.OK, after


def _tries(stored: StoredClaim, event: Held | Settlement) -> int:
    return min(max(stored.tries, event.tries), MAX_ATTEMPT)


def _is_owner(stored: StoredClaim, event: Held | Settlement) -> bool:
    return stored.token == event.token and stored.nonce == event.nonce


def transition_table() -> str:
    """Every rule as a Markdown table, for the documentation."""
    rows = [("from", "event", "guard", "answer", "to")]
    rows += [(r.state.name if r.state else "∅", "claim", r.when, r.status.name, r.then) for r in CLAIM_RULES]
    rows += [
        ("IN_PROGRESS", "renew", "nonce and token match", "true", "lease anew, larger attempt and tries"),
        ("any other", "renew", "", "false", "unchanged"),
    ]
    rows += [(r.state.name, f"settle {r.kind.name}", "nonce and token match", "OK", r.then) for r in SETTLE_RULES]
    rows += [("any other", "settle", "", "STALE", "unchanged")]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|---|---|", *lines[1:]])
