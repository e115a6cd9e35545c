"""What becomes of an attempt. One pure function holds the whole policy.

============================ ======================================= ======================
attempt ended with           where                                   disposition
============================ ======================================= ======================
an answer                    anywhere                                COMPLETE
"come back later" (429, 409) fewer than ``max_holds`` in a row       HOLD, no attempt spent
a failure of the outage kind breaker not closed                      HOLD, no attempt spent
it never reached the target  anywhere                                HOLD, no attempt spent
the last one, of that kind   not known whose fault, ``max_holds``    HOLD, no attempt spent
a failure that may pass      fewer than ``in_place`` attempts spent  RETRY_IN_PLACE
a failure that may pass      ``in_place`` + n spent, n < lanes       RETRY_LANE, the n-th from 0
a failure that may pass      ``max_attempts`` spent                  DEAD_LETTER
a final failure              anywhere                                DEAD_LETTER
============================ ======================================= ======================

Only attempts spent decide, not the lane the message was read from: one that parked in a lane behind an earlier one of
its key has waited and was not tried, so its schedule is that of a message which never parked. It may go from a long
lane to a shorter one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from broker_bridge.core.retry import backoff_ms

SOURCE = -1
"""The lane index of a record read from the route's source topic."""
REDRIVE = -2
"""The lane index of a record read from the redrive lane."""


class Verdict(enum.Enum):
    """What to do with the message now."""

    COMPLETE = "complete"
    HOLD = "hold"
    RETRY_IN_PLACE = "retry_in_place"
    RETRY_LANE = "retry_lane"
    DEAD_LETTER = "dead_letter"


@dataclass(slots=True, frozen=True)
class RetryPolicy:
    """``in_place`` attempts where the message is first tried, then one in each of ``lanes_ms`` (delays, growing)."""

    in_place: int = 3
    base_ms: int = 100
    max_ms: int = 5_000
    jitter: float = 0.5
    lanes_ms: tuple[int, ...] = ()
    max_holds: int = 50

    @property
    def max_attempts(self) -> int:
        """How often one message is tried at most in one life, crashes aside (invariant I15)."""
        return self.in_place + len(self.lanes_ms)


class Ended(NamedTuple):
    """How an attempt ended, as data. ``failed`` is false for an answer; the rest is read from the error."""

    failed: bool
    retriable: bool = False
    outage: bool = False
    spends_attempt: bool = True
    retry_after_ms: int | None = None


class Disposition(NamedTuple):
    """The decision. ``attempt`` is the number of attempts spent after it, ``delay_ms`` the wait, ``lane`` the retry
    lane's index."""

    verdict: Verdict
    attempt: int
    delay_ms: int = 0
    lane: int | None = None


ANSWERED = Ended(failed=False)


def decide(
    ended: Ended,
    *,
    policy: RetryPolicy,
    attempt: int,
    holds: int,
    breaker_closed: bool,
    chance: float,
    others_answered: bool = True,
) -> Disposition:
    """What becomes of an attempt that ended as ``ended``.

    ``attempt`` says how many attempts were spent before this one, ``holds`` how often it was held in a row, ``chance``
    is a random number from 0 to 1 for the jitter. ``others_answered``: it failed like this before, and the target took
    another message in between. As long as that is not so, nobody knows whose fault a failure of the outage kind is, and
    none dies of it.
    """
    if not ended.failed:
        return Disposition(Verdict.COMPLETE, attempt + 1)
    if not ended.retriable:
        return Disposition(Verdict.DEAD_LETTER, attempt + 1)
    is_outage = ended.outage and not (breaker_closed and ended.spends_attempt)
    is_doubtful = ended.outage and attempt + 1 >= policy.max_attempts and not others_answered
    if is_outage or ((is_doubtful or not ended.spends_attempt) and holds < policy.max_holds):
        wait = backoff_ms(holds + 1, base_ms=policy.base_ms, max_ms=policy.max_ms, jitter=policy.jitter, chance=chance)
        return Disposition(Verdict.HOLD, attempt, delay_ms=max(wait, ended.retry_after_ms or 0))
    return _after_failure(ended, policy, attempt + 1, chance)


def _after_failure(ended: Ended, policy: RetryPolicy, spent: int, chance: float) -> Disposition:
    if spent < policy.in_place:
        wait = backoff_ms(spent, base_ms=policy.base_ms, max_ms=policy.max_ms, jitter=policy.jitter, chance=chance)
        return Disposition(Verdict.RETRY_IN_PLACE, spent, delay_ms=max(wait, ended.retry_after_ms or 0))
    lane = spent - policy.in_place
    if lane < len(policy.lanes_ms):
        return Disposition(Verdict.RETRY_LANE, spent, delay_ms=policy.lanes_ms[lane], lane=lane)
    return Disposition(Verdict.DEAD_LETTER, spent)
