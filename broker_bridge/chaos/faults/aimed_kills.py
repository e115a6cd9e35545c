"""A worker that dies at a named moment: between which two steps is chosen, not left to luck.

Beside what is judged of every experiment, what may follow is known exactly: which messages may have a second effect,
which must come again and say that a worker died with them, and which must not come again at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from broker_bridge.chaos.evidence import Delivery, Evidence
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.moments import MOMENT_VARIABLE, Aim, Crossroads, Moment, Strike
from broker_bridge.chaos.verdict import Verdict
from broker_bridge.chaos.weather import Weather
from broker_bridge.chaos.world import World
from broker_bridge.core.identity import claim_key
from broker_bridge.errors import StackError

COMES_WITHIN_S = 60.0
SLOW_S = 0.4
OUTSIDE_ITS_WINDOW = "repeated outside its window"
CRASH_MISCOUNTED = "crash miscounted"
CAME_AGAIN = "completed, and came again"


class AimedKill(Fault):
    """The first worker that comes to the moment for the ``occurrence``-th time dies there, if it can be with nothing
    else begun."""

    moment: ClassVar[Moment]
    occurrence: ClassVar[int] = 3
    deeds: ClassVar[tuple[str, ...]] = ()
    """Messages that lead to the moment, where not every message does."""
    kills_workers = True

    def environment(self, folder: Path) -> dict[str, str]:
        """Where to look for the aim."""
        return {MOMENT_VARIABLE: str(folder)}

    def hold_s(self, world: World) -> float:
        """It is over when it has happened."""
        return 0.0

    def begin(self, world: World) -> None:
        """Take aim and wait until somebody is hit. Raises ``StackError`` where the moment does not come."""
        Crossroads(world.folder).take_aim(Aim(moment=self.moment, occurrence=self.occurrence))
        if self.deeds:
            world.mix_in(*self.deeds)
        self.lead_there(world)
        if not world.wait_until(lambda: struck(world) is not None, within_s=COMES_WITHIN_S):
            raise StackError(f"no worker came to the moment {self.moment}", where=self.name)

    def lead_there(self, world: World) -> None:
        """What it takes beside messages."""

    def end(self, world: World) -> None:
        """The pool starts another."""

    def review(self, world: World, evidence: Evidence, verdict: Verdict) -> None:
        """Object to what this moment does not explain."""
        strike = struck(world)
        if strike is not None:
            topic = world.route.topic
            review_strike(strike, evidence, verdict, key_of=lambda key: claim_key(key, namespace=topic).hex())
            world.facts["held_at_the_moment"] = len(strike.keys)


def struck(world: World) -> Strike | None:
    """How a worker was hit; None as long as none was."""
    return Crossroads(world.folder).strike()


def review_strike(strike: Strike, evidence: Evidence, verdict: Verdict, *, key_of: Callable[[str], str]) -> None:
    """What must hold of the messages that were in hand. ``key_of`` gives a message's claim key in hex."""
    for key, count in Counter(effect.key for effect in evidence.effects).items():
        if count > 1 and key_of(key) not in strike.begun:
            verdict.object(OUTSIDE_ITS_WINDOW, f"{key}: {count} effects, and it was not begun at {strike.moment}")
    later: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in evidence.deliveries:
        if delivery.started_ms > strike.at_ms:
            later[key_of(delivery.key)].append(delivery)
    for key, crashes in crashes_owed(strike).items():
        if later[key] and later[key][0].crashes != crashes:
            found = later[key][0]
            verdict.object(CRASH_MISCOUNTED, f"{found.key}: {found.crashes} instead of {crashes} when it came again")
    for key in strike.keys if strike.moment is Moment.AFTER_COMPLETE else ():
        for delivery in later[key][:1]:
            verdict.object(CAME_AGAIN, f"{delivery.key}: token {delivery.token}")


def crashes_owed(strike: Strike) -> dict[str, int]:
    """How many crashes a message that was in hand must tell of when it comes again, by claim key."""
    was_claimed = strike.moment not in (Moment.BEFORE_CLAIM, Moment.AFTER_COMPLETE, Moment.DURING_DRAIN)
    owed = dict.fromkeys((*strike.keys, *strike.untouched), 0)
    return owed | dict.fromkeys((*(strike.keys if was_claimed else ()), *strike.begun), 1)


class KillBeforeClaim(AimedKill):
    """Nothing is known of the batch anywhere but in Kafka."""

    name = "worker-kill-before-claim"
    title = "SIGKILL from within: records read, not claimed"
    rows = (1,)
    moment = Moment.BEFORE_CLAIM


class KillInMidClaim(AimedKill):
    """Of one batch some are claimed and some are not."""

    name = "worker-kill-mid-claim"
    title = "SIGKILL from within: Redis has applied half of a batch of claims"
    rows = (5,)
    moment = Moment.MID_CLAIM


class KillAfterClaim(AimedKill):
    """The lease has to run out."""

    name = "worker-kill-after-claim"
    title = "SIGKILL from within: claimed, not begun"
    rows = (2,)
    moment = Moment.AFTER_CLAIM


class KillAfterEffect(AimedKill):
    """The one moment at which an effect repeats (W1)."""

    name = "worker-kill-after-effect"
    title = "SIGKILL from within: the effect is there, nobody was told"
    rows = (3,)
    moment = Moment.AFTER_EFFECT


class KillAfterComplete(AimedKill):
    """It is read again and skipped."""

    name = "worker-kill-after-complete"
    title = "SIGKILL from within: completed, not committed"
    rows = (4,)
    moment = Moment.AFTER_COMPLETE


class KillAfterRetryAck(AimedKill):
    """There are two copies, one completes."""

    name = "worker-kill-after-retry-ack"
    title = "SIGKILL from within: the retry copy is in its lane, its claim is not handed back"
    rows = (6,)
    moment = Moment.AFTER_RETRY_ACK
    occurrence = 2
    deeds = ("stubborn",) * 12
    built_in_only = True


class KillAfterDeadLetterAck(AimedKill):
    """It dies twice; the later dead letter stands."""

    name = "worker-kill-after-dead-letter-ack"
    title = "SIGKILL from within: the dead letter is written, its claim does not know"
    rows = (7,)
    moment = Moment.AFTER_DEAD_LETTER_ACK
    occurrence = 2
    deeds = ("poison",) * 12
    built_in_only = True


class KillDuringDrain(AimedKill):
    """A third worker joins, and one of the first two dies while it gives its partitions up."""

    name = "worker-kill-during-drain"
    title = "SIGKILL from within: in the drain of a revoke, nothing committed"
    rows = (8,)
    moment = Moment.DURING_DRAIN
    occurrence = 1

    def lead_there(self, world: World) -> None:
        """Have something to drain."""
        if world.has_own_target:
            world.say_weather(Weather(mood="slow", seconds=SLOW_S))
        world.run_for(2 * SLOW_S)
        world.pool.add()

    def end(self, world: World) -> None:
        """At full speed again."""
        world.clear_weather()


AIMED_KILLS: tuple[type[AimedKill], ...] = (
    KillBeforeClaim,
    KillAfterClaim,
    KillAfterEffect,
    KillAfterComplete,
    KillInMidClaim,
    KillAfterRetryAck,
    KillAfterDeadLetterAck,
    KillDuringDrain,
)
