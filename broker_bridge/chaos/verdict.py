"""Judges the evidence of one experiment: what was lost, repeated, out of order, and whether a window explains it.

Windows are those of the published guarantee. A repeat is explained only where the evidence shows the window itself,
never because a fault was running somewhere:

- W1: the worker that held the message died after it had started it, and the next holder was told of the crash;
- W2: the lease ran out while its holder was frozen, blocked, or could not reach Redis, and a larger token took over;
- W3: Redis lost writes it had acknowledged between the first delivery's start and the repeat;
- resent: the target reported a failure *after* its effect, so the same key was sent again, as a further attempt.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from broker_bridge.chaos.evidence import OK, Delivery, Effect, Evidence, Sent, What
from broker_bridge.core.audit import OPEN, Outcome
from broker_bridge.core.reconcile import BookEntry

LISTED = 20
_LEASE_SLACK = 0.9
"""A lease is granted a moment before the worker hears of it."""


class Window(enum.StrEnum):
    """Why an effect may repeat."""

    W1 = "W1"
    W2 = "W2"
    W3 = "W3"
    RESENT = "resent"


class Finding(NamedTuple):
    """Something that must not be: the kind, and what is known of it."""

    kind: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What to hold the evidence against. ``dead_kinds`` are the kinds of record that must end as dead letters,
    ``may_die`` those that may; ``max_attempts`` without interruptions; ``recover_within_s`` after healing."""

    lease_ms: int
    max_attempts: int
    keeps_order: bool = True
    dead_kinds: frozenset[str] = frozenset({"poison"})
    may_die: frozenset[str] = frozenset()
    bounds_attempts: bool = True
    recover_within_s: float = 60.0


@dataclass
class Verdict:
    """The figures, and what is wrong. Passed means: nothing is."""

    sent: int = 0
    acknowledged: int = 0
    effects: int = 0
    keys: int = 0
    dead: int = 0
    repeats: Counter[Window] = field(default_factory=Counter)
    unexplained: int = 0
    losses: int = 0
    disorders: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        """Whether the guarantee held."""
        return not self.counts

    def object(self, kind: str, detail: str) -> None:
        """Something is wrong; the first few of each kind are listed."""
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            self.findings.append(Finding(kind, detail))


def judge(evidence: Evidence, terms: Terms, *, recovered_s: float | None) -> Verdict:
    """The verdict. ``recovered_s``: how long after healing everything sent before was settled; None: it never was."""
    verdict = Verdict()
    case = _Case(evidence)
    verdict.sent = len(evidence.sent)
    verdict.acknowledged = sum(sent.position is not None for sent in evidence.sent)
    verdict.effects = len(evidence.effects)
    verdict.keys = len(case.effects)
    verdict.dead = sum(entry.outcome is Outcome.DEAD for entry in evidence.entries)
    _judge_losses(case, terms, verdict)
    _judge_repeats(case, terms, verdict)
    if terms.keeps_order:
        _judge_order(case, verdict)
    _judge_executions(case, terms, verdict)
    for place in evidence.group_moved_back:
        verdict.object("offset moved back (I4)", place)
    if not evidence.books_add_up:
        verdict.object("books do not add up (I23)", "headings and records differ in number")
    if recovered_s is None or recovered_s > terms.recover_within_s:
        took = "never" if recovered_s is None else f"after {recovered_s:.0f} s"
        verdict.object("not recovered (I21)", f"settled {took}, allowed {terms.recover_within_s:.0f} s after healing")
    return verdict


class _Case:
    """The evidence by key."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.effects: dict[str, list[Effect]] = defaultdict(list)
        for effect in sorted(evidence.effects, key=lambda effect: effect.at_ms):
            self.effects[effect.key].append(effect)
        self.deliveries: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in evidence.deliveries:
            self.deliveries[delivery.key].append(delivery)
        self.entries: dict[str, BookEntry] = {}
        for entry in evidence.entries:
            known = self.entries.get(entry.idempotency_key)
            if known is None or _rank(entry) < _rank(known):
                self.entries[entry.idempotency_key] = entry
        self.positions = {entry.position for entry in evidence.entries}
        self.lost_writes = [h for h in evidence.happenings if h.what == "redis_lost_writes"]

    def happened(self, what: Iterable[What], from_ms: float, until_ms: float, worker: int | None = None) -> bool:
        """Whether something of that sort overlaps the span, to this worker where one is named."""
        return any(
            h.what in what and h.from_ms <= until_ms and h.until_ms >= from_ms and worker in (None, h.worker)
            for h in self.evidence.happenings
        )

    def delivery_of(self, effect: Effect) -> Delivery | None:
        """The call that had this effect: the last one of its token that started before it."""
        found = None
        for delivery in self.deliveries.get(effect.key, ()):
            if delivery.token == effect.token and delivery.started_ms <= effect.at_ms:
                found = delivery
        return found

    def lost_between(self, from_ms: float, until_ms: float) -> bool:
        return any(h.from_ms <= until_ms and h.until_ms >= from_ms for h in self.lost_writes)


def _rank(entry: BookEntry) -> int:
    if entry.outcome is Outcome.COMPLETED:
        return 0
    return 2 if entry.outcome is Outcome.DUPLICATE else 1


def _judge_losses(case: _Case, terms: Terms, verdict: Verdict) -> None:
    """I1 and I2: everything acknowledged is done or dead, nothing else is."""
    known = set()
    for sent in case.evidence.sent:
        known.add(sent.key)
        entry = case.entries.get(sent.key)
        if sent.position is not None and sent.position not in case.positions:
            verdict.losses += 1
            verdict.object("lost (I1)", f"{sent.key}: acknowledged at {sent.position}, which is not in the log")
        elif entry is not None:
            _judge_entry(case, sent, entry, terms, verdict)
    for key in case.effects.keys() - known:
        verdict.object("phantom (I2)", f"{key}: an effect of something nobody sent")


def _judge_entry(case: _Case, sent: Sent, entry: BookEntry, terms: Terms, verdict: Verdict) -> None:
    done = sent.key in case.effects
    # Where Redis lost the claim's end, the dead letter itself is the proof.
    has_letter = bool(case.lost_writes) and not done and entry.position in case.evidence.letters
    if entry.outcome in OPEN:
        verdict.object("not settled (I1)", f"{sent.key} at {entry.position}: {entry.outcome.value}")
    elif entry.outcome is Outcome.DEAD or has_letter:
        if sent.kind not in terms.dead_kinds | terms.may_die:
            verdict.object("dead letter of a sound message", f"{sent.key} ({sent.kind}): {entry.code}")
    elif sent.kind in terms.dead_kinds and entry.outcome is Outcome.COMPLETED:
        verdict.object("completed, though it cannot be handled", f"{sent.key} ({sent.kind})")
    elif not done:
        verdict.losses += 1
        why = case.evidence.unaccounted.get(entry.position, entry.outcome.value)
        verdict.object("lost (I1)", f"{sent.key} ({sent.kind}) at {entry.position}: no effect; {why}")
    elif entry.outcome is Outcome.UNACCOUNTED and not case.lost_writes:
        # Where Redis lost claims, their effects are the only proof left, and it was just found.
        why = case.evidence.unaccounted.get(entry.position, "unaccounted")
        verdict.object("books do not balance (I23)", f"{sent.key} at {entry.position}: {why}")


def _judge_repeats(case: _Case, terms: Terms, verdict: Verdict) -> None:
    """I7 and I9."""
    for key, effects in case.effects.items():
        for first, again in pairwise(effects):
            window = _window(case, first, again, terms)
            if window is not None:
                verdict.repeats[window] += 1
                continue
            verdict.unexplained += 1
            verdict.object(
                "repeated without a window (I9)",
                f"{key}: tokens {first.token} and {again.token}, attempts {first.attempt} and {again.attempt}, "
                f"crashes {first.crashes} and {again.crashes}, {again.at_ms - first.at_ms:.0f} ms apart",
            )


def _window(case: _Case, first: Effect, again: Effect, terms: Terms) -> Window | None:
    delivery = case.delivery_of(first)
    started_ms = delivery.started_ms if delivery else first.at_ms
    worker = delivery.worker if delivery else None
    if delivery is not None and delivery.outcome not in (OK, None) and again.attempt > first.attempt:
        return Window.RESENT
    if again.token < first.token:
        return Window.W2 if _came_late(case, first, again, terms) else None
    taken_over = again.token > first.token and again.crashes > first.crashes
    if taken_over and worker is not None and case.happened(("died",), started_ms, again.at_ms, worker):
        return Window.W1
    expired = again.at_ms - started_ms >= terms.lease_ms * _LEASE_SLACK
    if taken_over and expired:
        if worker is not None and case.happened(("paused", "blocked"), started_ms, again.at_ms, worker):
            return Window.W2
        if case.happened(("redis_away",), started_ms, again.at_ms):
            return Window.W2
    return Window.W3 if case.lost_between(started_ms, again.at_ms) else None


def _came_late(case: _Case, taken_over: Effect, late: Effect, terms: Terms) -> bool:
    """Whether an effect under an old token is that of a holder that was frozen or blocked in the middle of it. A target
    that compares tokens turns it away (I10)."""
    delivery = case.delivery_of(late)
    if delivery is None or taken_over.crashes <= late.crashes:
        return False
    expired = late.at_ms - delivery.started_ms >= terms.lease_ms * _LEASE_SLACK
    return expired and case.happened(("paused", "blocked"), delivery.started_ms, late.at_ms, delivery.worker)


def _judge_order(case: _Case, verdict: Verdict) -> None:
    """I12: the first effects of one record key follow the log."""
    firsts: list[tuple[float, Delivery]] = []
    for effects in case.effects.values():
        delivery = case.delivery_of(effects[0])
        if delivery is not None:
            firsts.append((effects[0].at_ms, delivery))
    latest: dict[tuple[int, str], int] = {}
    for _, delivery in sorted(firsts, key=lambda found: found[0]):
        lane = (delivery.origin.partition, delivery.record_key)
        if delivery.origin.offset < latest.get(lane, -1):
            verdict.disorders += 1
            verdict.object("out of order (I12)", f"{delivery.origin} after offset {latest[lane]} of its record key")
        latest[lane] = max(delivery.origin.offset, latest.get(lane, -1))


def _judge_executions(case: _Case, terms: Terms, verdict: Verdict) -> None:
    """I8 and I15: executions of a key follow each other under growing tokens, and are not too many."""
    interruptions = len(case.evidence.happenings)
    for key, deliveries in case.deliveries.items():
        if terms.bounds_attempts and len(deliveries) > terms.max_attempts + interruptions:
            verdict.object("too many executions (I15)", f"{key}: {len(deliveries)}")
        for earlier, later in pairwise(deliveries):
            if case.lost_between(earlier.started_ms, later.started_ms):
                continue
            if later.token < earlier.token and later.worker != earlier.worker:
                verdict.object("token went back (I8)", f"{key}: {earlier.token}, then {later.token}")
            elif later.started_ms < _held_until_ms(case, earlier, terms) and later.token <= earlier.token:
                verdict.object("two at once (I8)", f"{key}: token {later.token} at two workers")
            elif _overlaps_a_live_lease(case, earlier, later, terms):
                verdict.object("two at once (I8)", f"{key}: {earlier.worker} still held token {earlier.token}")


def _held_until_ms(case: _Case, delivery: Delivery, terms: Terms) -> float:
    if delivery.ended_ms is not None:
        return delivery.ended_ms
    deaths = [h.from_ms for h in case.evidence.happenings if h.what == "died" and h.worker == delivery.worker]
    return min((at for at in deaths if at >= delivery.started_ms), default=delivery.started_ms)


def _overlaps_a_live_lease(case: _Case, earlier: Delivery, later: Delivery, terms: Terms) -> bool:
    """The second starts while the first runs, sooner than a lease could have run out."""
    overlaps = later.started_ms < _held_until_ms(case, earlier, terms)
    return overlaps and later.started_ms - earlier.started_ms < terms.lease_ms * _LEASE_SLACK
