"""What must hold of a ``History``, whatever went wrong in it. Numbers are those of the invariants in the docs.

The checker trusts nobody but the log, the store and the handler's own notes: it does not look into the engine. Where a
window of the guarantee (W1 to W5) opens, the rule that it touches gives way for the keys that it touches, and no
further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker_bridge import headers as h
from broker_bridge.core.claim import NO_REPLAY, STALE_DETAIL, SettleKind
from broker_bridge.message import Record, TopicPartition
from broker_bridge.testing.books import Books, Item, Terms
from broker_bridge.testing.history import (
    AcknowledgementLost,
    Assigned,
    Committed,
    Crashed,
    Effect,
    Ended,
    Event,
    Fault,
    Granted,
    History,
    Lost,
    Renewed,
    Revoked,
    Settled,
    Started,
    StoreAnswered,
    StoreSilent,
    Written,
)

_UNKNOWN = (b"", 0)


class Checker(Books):
    """Judges a history event by event."""

    def see(self, at_ms: int, event: Event) -> None:
        """Judge one event."""
        self.now_ms = at_ms
        judge = _JUDGED_BY.get(type(event))
        if judge is not None:
            judge(self, event)

    # -- the store

    def _granted(self, event: Granted) -> None:
        key = event.key
        if self.replay_of.get(key, NO_REPLAY) != event.replay:  # a new life
            self.replay_of[key] = event.replay
            self.live_attempt.pop(key, None)
            self.life_of.pop(key, None)
            self.crashes[key] = 0
        if event.crashes > self.crashes[key]:
            self.takeovers[key] += event.crashes - self.crashes[key]
        self.crashes[key] = event.crashes
        self.latest_token[key] = event.token
        self.claimed[key, event.token] = (event.fingerprint, self.lost[key])
        self.lease_end_ms[key, event.token] = event.lease_end_ms

    def _renewed(self, event: Renewed) -> None:
        self.lease_end_ms[event.key, event.token] = event.lease_end_ms

    def _settled(self, event: Settled) -> None:
        item = Item(event.key, self.claimed.get((event.key, event.token), _UNKNOWN)[0])
        if event.token != self.latest_token.get(event.key) and not self.lost[event.key]:
            self.object("I10", f"{self.name(item)} was settled by who had lost its claim", event.key)
        if event.kind is SettleKind.RETRY:
            self.live_attempt[event.key] = max((copy.attempt for copy in self.copies[item]), default=0)
        if event.kind is not SettleKind.COMPLETE or item not in self.first:
            return
        before = self.completed_by.setdefault(event.key, event.token)
        if before != event.token:
            self.object("I7", f"{self.name(item)} was completed twice", event.key)
        if self.terms.output is not None and not self.outputs[self._id(item)]:
            self.object("I1", f"{self.name(item)} was completed before its result was in the log", event.key)
        self.completed.add(item)
        if event.detail != STALE_DETAIL:
            self.versions.completed(self.first[item])
            return
        self.stale.add(item)
        if not self.versions.has_newer(self.first[item]):
            self.object("I13", f"{self.name(item)} was turned away, and nothing newer had its effect", event.key)

    def _id(self, item: Item) -> str:
        return h.text_of(self.first[item].headers, h.CE_ID) or ""

    def _lost(self, event: Lost) -> None:
        """Whatever the store knew of these keys it knows no more (W3): each copy of them may be tried from anew."""
        for key in event.keys:
            self.lost[key] += 1
            self.completed_by.pop(key, None)
            self.live_attempt.pop(key, None)
            self.life_of.pop(key, None)
            self.crashes[key] = 0
            self.running.pop(key, None)
        for item in self.first:
            if item.key in event.keys:
                self.allowed[item] += self.terms.max_attempts * (1 + len(self.copies[item]))
        self._let_go(lambda holder: holder.key in event.keys)

    def _let_go(self, of: Callable[[Item], bool]) -> None:
        for held in self.holding.values():
            for offset in [offset for offset, holder in held.items() if of(holder)]:
                del held[offset]

    # -- the handler

    def _started(self, event: Started) -> None:
        record = self.source.get(event.origin)
        if record is None:
            self.object("I2", f"{event.origin} was started, which nobody produced", event.key)
            return
        item, key = self.item_at[event.origin], event.key
        if event.worker in self.silent or (key, event.token) not in self.claimed:
            if self.terms.guarded and event.worker not in self.silent:
                self.object("I8", f"{event.worker} started {self.name(item)} without a claim", key)
            self.unguarded[key] += not self.terms.guarded
        if TopicPartition(self.terms.topic, event.origin.partition) not in self.held[event.worker]:
            self.object("I20", f"{event.worker} started {self.name(item)} without holding its partition", key)
        if not self.unguarded[key]:
            self._is_alone(event, item)
            self._is_due(event, item)
        self._is_free(record, item)
        self._is_not_behind(event, record, item)
        self.running[key].append(event)

    def _is_alone(self, event: Started, item: Item) -> None:
        key = event.key
        for other in self.running[key]:
            if self.now_ms < self.lease_end_ms.get((key, other.token), 0) or event.token <= other.token:
                self.object("I8", f"{event.worker} and {other.worker} execute {self.name(item)} at once", key)
        if self.life_of.setdefault(key, item) != item:
            self.object("I16", f"{self.name(item)} was executed, another payload came first under its id", key)

    def _is_due(self, event: Started, item: Item) -> None:
        """Older copies are superseded once the claim is handed to a newer one, so none starts before that is due."""
        live_attempt = self.live_attempt.get(event.key)
        if live_attempt is None or not self.terms.true_clocks:
            return
        due_ms = min((copy.due_ms for copy in self.copies[item] if copy.attempt == live_attempt), default=0)
        if self.now_ms < due_ms:
            self.object("I22", f"{self.name(item)} started {due_ms - self.now_ms} ms before it was due", event.key)

    def _is_free(self, record: Record, item: Item) -> None:
        """No dead letter holds the key. A replay does not wait its turn again."""
        if record.key is None or self.replays.get(item):
            return
        for offset, holder in self.holding[record.partition, record.key].items():
            if offset < record.offset and holder.key != item.key:
                self.object("I12", f"{self.name(item)} started while {self.name(holder)} holds its key", item.key)

    def _is_not_behind(self, event: Started, record: Record, item: Item) -> None:
        """A worker that was evicted and does not know it yet may be: that is W2 for the record key."""
        tp = TopicPartition(self.terms.topic, event.origin.partition)
        is_zombie = any(tp in held for worker, held in self.held.items() if worker != event.worker)
        if self.replays.get(item) and not is_zombie and self.versions.is_behind(record):
            self.object("I13", f"{self.name(item)} was replayed over a newer version of its key", item.key)

    def _ended(self, event: Ended) -> None:
        running = self.running[event.key]
        mine = [one for one in running if (one.worker, one.token) == (event.worker, event.token)]
        running[:] = [one for one in running if one not in mine]
        if not mine or not event.spent:
            return
        item = self.item_at[mine[0].origin]
        self.spent[item] += 1
        self.tried_by[item].add(event.worker)
        most = self.terms.max_attempts * (1 + len(self.replays[item])) + self.allowed[item]
        most += self.takeovers[event.key] * (self.terms.in_place if self.store_failed else 1)
        most += len(self.tried_by[item]) - 1 if self.terms.limited else 0
        if self.spent[item] > most and not self.unguarded[event.key]:
            self.object("I15", f"{self.name(item)} was tried {self.spent[item]} times", event.key)

    def _effect(self, event: Effect) -> None:
        record = self.source.get(event.origin)
        if record is None:
            self.object("I2", f"an effect of {event.origin}, which nobody produced", event.key)
            return
        item, key = self.item_at[event.origin], event.key
        self._let_go(lambda holder: holder == item)
        self.versions.had_effect(self.first[item])
        earlier = self.effects[item]
        if not earlier:
            self._is_in_order(self.first[item], item)
        else:
            self._is_explained(item, event.worker, *earlier[-1])
        earlier.append((event.worker, self.claimed.get((key, event.token), _UNKNOWN)[1]))

    def _is_explained(self, item: Item, again: str, worker: str, losses: int) -> None:
        """Which window allowed an effect beyond the first; ``worker`` had the last one, ``again`` has this one."""
        key = item.key
        if self.lost[key] > losses:
            window = "W3"
        elif self.unguarded[key]:
            knew = self.terms.remembers and again == worker and not self.takeovers[key]
            window = "" if knew else "W5"
        elif self.takeovers[key]:
            window = "W1" if worker in self.dead_workers else "W2"
        else:
            window = ""
        self.repeats[window] += 1
        if not window or len(self.effects[item]) > self.takeovers[key] + self.lost[key] + self.unguarded[key]:
            self.object("I9", f"{self.name(item)} had {len(self.effects[item]) + 1} effects", key)

    def _is_in_order(self, record: Record, item: Item) -> None:
        if record.key is None or not self.terms.ordered or item in self.letters:
            return
        lane = (record.partition, record.key)
        furthest = self.furthest.get(lane, -1)
        if record.offset < furthest:
            self.object("I12", f"{record.position} had its effect after offset {furthest} of its key", item.key)
        self.furthest[lane] = max(furthest, record.offset)

    # -- the group and the workers

    def _assigned(self, event: Assigned) -> None:
        self.held[event.worker] = event.partitions

    def _revoked(self, event: Revoked) -> None:
        self.held[event.worker] -= event.partitions

    def _crashed(self, event: Crashed) -> None:
        self.dead_workers.add(event.worker)

    def _store_silent(self, event: StoreSilent) -> None:
        """Attempts in place that the store could not be told of are forgotten in a crash: more of them than one."""
        self.silent.add(event.worker)
        self.store_failed = True

    def _store_answered(self, event: StoreAnswered) -> None:
        self.silent.discard(event.worker)

    def _fault(self, event: Fault) -> None:
        self.store_failed |= event.what.startswith("store")

    # -- the end

    def close(self) -> list[str]:
        """All is quiet now: everything healed, every record read and committed. The answer is ``found``."""
        for item in self.first:
            self._is_accounted_for(item)
            if self.terms.output is not None:
                self._is_answered_once(item)
        return self.found

    def _is_accounted_for(self, item: Item) -> None:
        key, name = item.key, self.name(item)
        done = self.is_done(item)
        touched = self.takeovers[key] or self.lost[key] or self.unguarded[key] or self.replays[item]
        if not done and item not in self.letters:
            self.object("I1", f"{name} is neither completed nor dead", key)
        if item in self.completed and not self.effects[item] and item not in self.stale:
            self.object("I1", f"{name} was completed without its effect", key)
        if item in self.completed and item in self.letters and not touched:
            self.object("I23", f"{name} is completed and dead", key)
        if self.effects[item] and not done and not touched:
            self.object("I23", f"{name} had its effect and is not completed", key)
        if self.replays[item] and not done and self.letters[item] < self.replays[item][-1]:
            self.object("I17", f"{name} was replayed, and neither completed nor died again", key)

    def _is_answered_once(self, item: Item) -> None:
        """A duplicate has the same answer as its original, and no second one without a window."""
        written = self.outputs[self._id(item)]
        most = 1 + self.takeovers[item.key] + self.lost[item.key] + self.unguarded[item.key]
        if len(written) > most + self.unknown_outputs[self._id(item)]:
            self.object("I7", f"{self.name(item)} was answered {len(written)} times", item.key)
        if len({record.value for record in written}) > 1:
            self.object("I7", f"{self.name(item)} has answers that differ", item.key)


_JUDGED_BY: dict[type, Callable[[Checker, Any], None]] = {
    Written: Checker.written,
    AcknowledgementLost: Checker.acknowledgement_lost,
    Committed: Checker.commits,
    Granted: Checker._granted,
    Renewed: Checker._renewed,
    Settled: Checker._settled,
    Lost: Checker._lost,
    StoreSilent: Checker._store_silent,
    StoreAnswered: Checker._store_answered,
    Started: Checker._started,
    Ended: Checker._ended,
    Effect: Checker._effect,
    Assigned: Checker._assigned,
    Revoked: Checker._revoked,
    Crashed: Checker._crashed,
    Fault: Checker._fault,
}


def violations(history: History, terms: Terms) -> list[str]:
    """What the history breaks, in the order it happened; empty where it keeps everything. It must end in quiet."""
    checker = Checker(terms)
    for at_ms, event in history:
        checker.see(at_ms, event)
    return checker.close()
