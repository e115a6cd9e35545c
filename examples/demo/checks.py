"""The demo's own comparison of both sides. Each check is a pure function: evidence in, a verdict out.

No code is shared with the bridge or its audit, so a mistake there cannot hide itself here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from demo.evidence import BRIDGE_PREFIX, Effect, Evidence, Place, Sent, Stored

DELIVERED = frozenset({"applied", "repeat", "refused"})


@dataclass(slots=True)
class Verdict:
    """What a check found: ``claim`` is what should be so, ``offenders`` what is not (empty: it holds)."""

    name: str
    claim: str
    counts: dict[str, int] = field(default_factory=dict)
    offenders: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.offenders


def run_all(evidence: Evidence) -> list[Verdict]:
    """Every check, in the order of the story."""
    return [check(evidence) for check in ALL]


def stream_is_as_sent(evidence: Evidence) -> Verdict:
    """The topic holds exactly the records that orders was told of, each where it was said to be."""
    verdict = Verdict("stream", "every record that Kafka acknowledged is in the topic, and nothing else")
    records = {record.place: record for record in evidence.records}
    expected: set[Place] = set()
    for line in evidence.sent:
        if line.place in expected:
            verdict.offenders.append(f"{line.id}: two lines of the manifest claim {line.place}")
        expected.add(line.place)
        record = records.get(line.place)
        if record is None:
            verdict.offenders.append(f"{line.id}: no record at {line.place}")
        elif (record.id, record.key) != (line.id, line.key.encode()):
            verdict.offenders.append(f"{line.id}: the record at {line.place} has id {record.id!r}, key {record.key!r}")
    verdict.offenders += [f"{place}: nobody sent this record" for place in records if place not in expected]
    if len(evidence.sent) != evidence.acknowledged:
        verdict.offenders.append(
            f"orders counted {evidence.acknowledged} answers, its manifest has {len(evidence.sent)}"
        )
    verdict.counts = {"sent": len(evidence.sent), "in_topic": len(evidence.records)}
    return verdict


def every_record_is_accounted_for(evidence: Evidence) -> Verdict:
    """produced = completed + dead + duplicates dropped, with exactly one end for each id."""
    verdict = Verdict("accounts", "produced = completed + dead + duplicates dropped, one end for each id")
    applied = {effect.order_id for effect in evidence.effects if effect.kind == "applied"}
    dead = {letter.id for letter in evidence.letters}
    copies = Counter(record.id for record in evidence.records)
    completed, buried = 0, 0
    for event_id in copies:
        if event_id in applied:
            completed += 1
        elif event_id in dead:
            buried += 1
        else:
            verdict.offenders.append(f"{event_id}: neither applied nor a dead letter")
    verdict.offenders += [f"{event_id}: has an end but no record" for event_id in (applied | dead) - copies.keys()]
    dropped = copies.total() - len(copies)
    verdict.counts = {"produced": len(evidence.records), "completed": completed, "dead": buried, "dropped": dropped}
    if completed + buried + dropped != len(evidence.records) and not verdict.offenders:
        verdict.offenders.append("the sum is not the number of records")
    return verdict


def every_order_is_applied_once(evidence: Evidence) -> Verdict:
    """Payments applied each valid order exactly once, nothing else, and the money is the same on both sides."""
    verdict = Verdict("effects", "every valid order applied exactly once, and the same money on both sides")
    due = {line.id: line for line in evidence.sent if not line.is_poison}
    applied = [effect for effect in evidence.effects if effect.kind == "applied"]
    times = Counter(effect.order_id for effect in applied)
    verdict.offenders += [f"{event_id}: never applied" for event_id in due if not times[event_id]]
    verdict.offenders += [f"{event_id}: applied {count} times" for event_id, count in times.items() if count > 1]
    keys = Counter(effect.key for effect in applied)
    verdict.offenders += [f"{key}: key applied {count} times" for key, count in keys.items() if count > 1]
    for effect in applied:
        line = due.get(effect.order_id)
        if line is None:
            verdict.offenders.append(f"{effect.order_id}: applied, but no such order was sent")
        elif (effect.amount_cents, effect.customer_id) != (line.amount_cents, line.key):
            verdict.offenders.append(f"{effect.order_id}: {effect.amount_cents} taken, {line.amount_cents} ordered")
        elif effect.key != f"{line.source}#{line.id}":
            verdict.offenders.append(f"{effect.order_id}: delivered under the key {effect.key!r}")
    ordered = sum(line.amount_cents for line in due.values())
    taken = sum(effect.amount_cents for effect in applied)
    verdict.counts = {"orders": len(due), "applied": len(applied), "ordered_cents": ordered, "taken_cents": taken}
    return verdict


def only_poison_is_dead(evidence: Evidence) -> Verdict:
    """At the end the dead letters that count are exactly the poison; any other was replayed and applied."""
    verdict = Verdict("dead letters", "the dead are exactly the poison; what payments had refused was replayed")
    kinds = {line.id: line.kind for line in evidence.sent}
    poison = {line.id for line in evidence.sent if line.is_poison}
    applied = {effect.order_id: effect for effect in evidence.effects if effect.kind == "applied"}
    letters = {letter.id for letter in evidence.letters}
    verdict.offenders += [f"{event_id}: poison without a dead letter" for event_id in poison - letters]
    verdict.offenders += [f"{event_id}: poison, and delivered" for event_id in sorted(poison & applied.keys())]
    replayed = 0
    for event_id in letters - poison:
        effect = applied.get(event_id)
        if kinds.get(event_id) != "rejected":
            verdict.offenders.append(f"{event_id}: a dead letter of kind {kinds.get(event_id, 'unknown')}")
        elif effect is None or not effect.replay_id:
            verdict.offenders.append(f"{event_id}: refused by payments, and no replay of it was applied")
        else:
            replayed += 1
    rejected = {line.id for line in evidence.sent if line.kind == "rejected"}
    verdict.offenders += [f"{event_id}: refused, yet no dead letter" for event_id in rejected - letters]
    verdict.counts = {"poison": len(poison), "letters": len(evidence.letters), "replayed": replayed}
    return verdict


def letters_are_lossless(evidence: Evidence) -> Verdict:
    """Key, value, timestamp and original headers of each dead letter are byte-equal to the record's (I14)."""
    verdict = Verdict("lossless", "dead letters are byte-equal to their records: key, value, time, headers")
    records = {f"{evidence.topic}/{record.place}": record for record in evidence.records}
    for letter in evidence.letters:
        record = records.get(letter.origin)
        if record is None:
            verdict.offenders.append(f"dead letter {letter.place}: its origin {letter.origin!r} is no record")
            continue
        differs = [name for name, of in PARTS.items() if of(letter) != of(record)]
        if differs:
            verdict.offenders.append(f"dead letter {letter.place} of {record.id}: differs in {', '.join(differs)}")
    verdict.counts = {"compared": len(evidence.letters)}
    return verdict


def original_headers(record: Stored) -> tuple[tuple[str, bytes | None], ...]:
    """Headers that are not the bridge's own, in order."""
    return tuple(header for header in record.headers if not header[0].startswith(BRIDGE_PREFIX))


PARTS: dict[str, Callable[[Stored], object]] = {
    "key": lambda record: record.key,
    "value": lambda record: record.value,
    "timestamp": lambda record: record.timestamp_ms,
    "headers": original_headers,
    "partition": lambda record: record.place.partition,
}


def every_effect_has_its_result(evidence: Evidence) -> Verdict:
    """Each applied order has a PaymentCaptured in the result topic with the right amount; none is of another."""
    verdict = Verdict("results", "every applied order has its PaymentCaptured, with the right amount")
    amounts = {effect.order_id: effect.amount_cents for effect in evidence.effects if effect.kind == "applied"}
    times = Counter(result.order_id for result in evidence.results)
    verdict.offenders += [f"{order_id}: no result" for order_id in amounts if not times[order_id]]
    for result in evidence.results:
        if result.order_id not in amounts:
            verdict.offenders.append(f"{result.order_id}: a result at {result.place}, but nothing was applied")
        elif result.amount_cents != amounts[result.order_id]:
            verdict.offenders.append(f"{result.order_id}: {result.amount_cents} told, {amounts[result.order_id]} taken")
    verdict.counts = {"results": len(evidence.results), "orders": len(times), "repeated": times.total() - len(times)}
    return verdict


def repeats_are_announced(evidence: Evidence) -> Verdict:
    """Whatever payments saw more than once for a key came with attempt > 1, crashes > 0 or a replay id."""
    verdict = Verdict("repeats", "no delivery repeated without the bridge saying so on the request")
    causes: Counter[str] = Counter()
    seen: set[str] = set()
    for effect in evidence.effects:
        if effect.kind not in DELIVERED:
            causes["fenced"] += 1
            continue
        if effect.key in seen:
            causes[cause_of(effect)] += 1
            if not effect.is_announced:
                verdict.offenders.append(
                    f"{effect.order_id}: delivered again as if for the first time, line {effect.line}"
                )
        seen.add(effect.key)
    verdict.counts = dict(sorted(causes.items()))
    return verdict


def cause_of(repeat: Effect) -> str:
    """Why a delivery came again, by what the request said."""
    if repeat.replay_id:
        return "replay"
    if repeat.crashes:
        return "worker_crash"
    return "retry" if repeat.attempt > 1 else "unannounced"


def customers_kept_their_order(evidence: Evidence) -> Verdict:
    """First applications of one customer's orders follow their offsets; replayed ones come when they are replayed."""
    verdict = Verdict("order", "each customer's orders applied in the order they were sent, replays excepted")
    first = first_sendings(evidence.sent)
    replayed = {effect.order_id for effect in evidence.effects if effect.replay_id}
    latest: dict[tuple[str, int], tuple[int, str]] = {}
    applied: set[str] = set()
    for effect in evidence.effects:
        line = first.get(effect.order_id)
        if effect.kind != "applied" or effect.order_id in applied or line is None or effect.order_id in replayed:
            continue
        applied.add(effect.order_id)
        lane = (line.key, line.place.partition)
        offset, before = latest.get(lane, (-1, ""))
        if line.place.offset < offset:
            verdict.offenders.append(f"{effect.order_id}: applied after {before}, which {line.key} sent later")
        else:
            latest[lane] = (line.place.offset, effect.order_id)
    verdict.counts = {"customers": len({key for key, _ in latest}), "compared": len(applied), "replayed": len(replayed)}
    return verdict


def first_sendings(sent: Iterable[Sent]) -> dict[str, Sent]:
    """The manifest's line of each id's first sending."""
    return {line.id: line for line in sent if not line.duplicate}


def second_sendings_went_nowhere(evidence: Evidence) -> Verdict:
    """No delivery came from a record that was a second sending: those were dropped for being known."""
    verdict = Verdict("duplicates", "what orders sent twice reached payments once")
    seconds = {f"{evidence.topic}/{line.place}": line.id for line in evidence.sent if line.duplicate}
    firsts = first_sendings(evidence.sent)
    for effect in evidence.effects:
        if effect.origin in seconds and not effect.is_announced:
            verdict.offenders.append(f"{effect.order_id}: delivered from its second sending {effect.origin}")
    verdict.offenders += [f"{of}: sent a second time, never a first" for of in seconds.values() if of not in firsts]
    verdict.counts = {"sent_twice": len(seconds)}
    return verdict


def audit_says_the_same(evidence: Evidence) -> Verdict:
    """The bridge's own audit, made another way by other code, has the same numbers."""
    verdict = Verdict("audit", "the bridge's own audit closes its books, with the same numbers")
    counts = every_record_is_accounted_for(evidence).counts
    expected = {
        "balanced": True,
        "drained": True,
        "produced": counts["produced"],
        "completed": counts["completed"],
        "dead": counts["dead"],
        "duplicate": counts["dropped"],
        "unaccounted": 0,
    }
    for name, ours in expected.items():
        theirs = evidence.audit.get(name)
        if theirs != ours:
            verdict.offenders.append(f"{name}: the audit says {theirs}, the data says {ours}")
    verdict.counts = {name: int(ours) for name, ours in expected.items()}
    return verdict


ALL: tuple[Callable[[Evidence], Verdict], ...] = (
    stream_is_as_sent,
    every_record_is_accounted_for,
    every_order_is_applied_once,
    only_poison_is_dead,
    letters_are_lossless,
    every_effect_has_its_result,
    repeats_are_announced,
    customers_kept_their_order,
    second_sendings_went_nowhere,
    audit_says_the_same,
)
