"""One dead letter as a person reads it at three in the morning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from broker_bridge.cli.operator_scope import Suggest
from broker_bridge.cli.output import note, plain
from broker_bridge.core.claim import ClaimState, unpack_place
from broker_bridge.core.foreign_letters import KEEPS_HEADERS, stack_trace
from broker_bridge.core.letters import LetterState
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import error_codes
from broker_bridge.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from broker_bridge.core.dead_letter import DeadLetter
    from broker_bridge.core.letter_filter import NotCompared
    from broker_bridge.message import Position
    from broker_bridge.replay.dead_letters import BrowsedLetter
    from broker_bridge.replay.letter_history import HistoryEvent, LetterHistory

_RAW_SHOWN = 256
_MEANING = {
    LetterState.WAITING: "waits for somebody: it was never replayed",
    LetterState.DEAD_AGAIN: "waits for somebody: it was replayed and died again",
    LetterState.REPLAYING: "is being worked on: in hand, or in a retry lane",
    LetterState.RESOLVED: "is resolved: the message completed since",
    LetterState.STALE: "is settled: its replay was turned away, for a newer version of its key was completed",
    LetterState.DISCARDED: "is settled: an operator discarded it",
    LetterState.SUPERSEDED: "is an older copy: a later dead letter of the message counts",
    LetterState.CONFLICT: "cannot be replayed: its key was used for another payload",
    LetterState.UNKNOWN: "has no claim any more: nothing would stop a second effect",
}


_HAPPENED = {
    "produced": "produced",
    "failed": "failed first",
    "died": "died",
    "sent_back": "sent back",
    "discarded": "discarded",
}


def short_place(position: Position | None) -> str:
    """A letter's place as commands take it: ``partition/offset``; empty for None."""
    return f"{position.partition}/{position.offset}" if position is not None else ""


def tell_not_compared(counts: NotCompared) -> None:
    """What an expression could not look at, on stderr; with ``--json`` it is part of the result."""
    for sentence in counts.sentences():
        note(sentence)


class ShownLetter(NamedTuple):
    """What is shown of a letter. ``value`` is the decoded value, ``why_not`` why there is none."""

    route: str
    browsed: BrowsedLetter
    value: object
    why_not: str
    history: LetterHistory


def letter_details(shown: ShownLetter, suggest: Suggest, *, stacktrace: bool = False) -> dict[str, Any]:
    """Everything about a letter as JSON types."""
    browsed, history = shown.browsed, shown.history
    letter, failure, claim = browsed.letter, browsed.letter.failure, browsed.claim
    details: dict[str, Any] = {
        "position": str(letter.position),
        "origin": str(letter.origin),
        "route": shown.route,
        "group": letter.group,
        "state": browsed.state.value,
        "meaning": _MEANING[browsed.state],
        "problem": _problem(browsed),
        "fingerprint": failure.fingerprint,
        "attempts": failure.attempts,
        "hops": letter.hops,
        "replay_id": letter.replay_id,
        "first_failure": rfc3339(failure.first_ms),
        "last_failure": rfc3339(failure.last_ms),
        "service": letter.service,
        "release": letter.release or None,
        "writer": letter.writer or None,
        "edited_from": letter.edited_from or None,
        "trace": letter.trace,
        "idempotency_key": letter.idempotency_key,
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "timestamp": rfc3339(letter.timestamp_ms),
        "headers": [
            [name, None if raw is None else raw.decode(errors="backslashreplace")] for name, raw in letter.headers
        ],
        "value": plain(shown.value),
        "value_hex": None if letter.value is None else letter.value.hex(),
        "undecoded_because": shown.why_not or None,
        "claim": None
        if claim is None
        else {"state": claim.state.name.lower(), "attempt": claim.attempt, "crashes": claim.crashes},
        "history": [_event_json(event) for event in history.events],
        "history_not_searched": history.not_searched,
        "next": _next(browsed, suggest),
    }
    if stacktrace:
        details["stacktrace"] = stack_trace(letter.record) if letter.record is not None else ""
    return details


def _event_json(event: HistoryEvent) -> dict[str, object]:
    given = {
        "what": event.what,
        "where": event.where,
        "told": event.told,
        "plan": event.plan_id,
        "by": event.by,
        "why": event.why,
    }
    return {"at": rfc3339(event.at_ms), **{name: text for name, text in given.items() if text}}


def print_letter(console: Console, details: dict[str, Any]) -> None:
    """The same for people."""
    problem = details["problem"]
    say = _Printer(console)
    say.line(f"Dead letter {details['position']} {details['meaning']}.")
    say.heading("What went wrong")
    say.pair("problem", f"{problem['title']} ({problem['code']})")
    say.pair("detail", problem.get("detail"))
    say.pair("target says", problem.get("target_code"))
    say.pair("kind", details["fingerprint"])
    say.pair("attempts", f"{details['attempts']}, replayed {details['hops']} times")
    say.pair("failed", f"first {details['first_failure']}, last {details['last_failure']}")
    say.pair("reported by", details["service"])
    say.pair("release", details["release"])
    say.pair("written by", details["writer"])
    say.pair("trace", details["trace"])
    say.heading("The record as it was")
    say.pair("origin", details["origin"])
    say.pair("written", details["timestamp"])
    say.pair("key", details["key"])
    say.pair("identity", details["idempotency_key"])
    if details["edited_from"]:
        say.pair("edited", f"by a replay; as produced its payload fingerprint was {details['edited_from']}")
    for name, value in details["headers"]:
        say.pair(name, "null" if value is None else value)
    if details["value"] is not None:
        say.heading("Value")
        say.line(json.dumps(details["value"], indent=2, ensure_ascii=False))
    elif details["value_hex"] is None:
        say.heading("Value: none, this is a tombstone")
    else:
        why = f": {details['undecoded_because']}" if details["undecoded_because"] else ""
        say.heading(f"Value ({len(details['value_hex']) // 2} bytes, not decoded{why})")
        say.line(details["value_hex"][: 2 * _RAW_SHOWN] + ("…" if len(details["value_hex"]) > 2 * _RAW_SHOWN else ""))
    if "stacktrace" in details:
        say.heading("Stack trace" if details["stacktrace"] else "Stack trace: none was kept")
        say.line(details["stacktrace"])
    say.heading("History")
    for event in details["history"]:
        say.line("  " + _event_line(event))
    if details["history_not_searched"]:
        say.line(f"  ({details['history_not_searched']} older records were not searched)")
    say.heading("Next")
    say.line(details["next"])


def _event_line(event: dict[str, Any]) -> str:
    by_plan = f"by {event['plan']}" if "plan" in event else ""
    who = f"{event['by']}: {event.get('why', '')}" if "by" in event else ""
    rest = [event.get("told", ""), by_plan, event.get("where", ""), who]
    return f"{event['at']}  {_HAPPENED.get(event['what'], event['what']):<14} " + "  ".join(
        part for part in rest if part
    )


class _Printer:
    """Prints text that came from elsewhere without letting it move the cursor."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def heading(self, text: str) -> None:
        self._console.print(f"\n{printable(text)}", style="bold", soft_wrap=True)

    def line(self, text: str) -> None:
        self._console.print(printable(text, keep_newlines=True), soft_wrap=True)

    def pair(self, name: str, value: object) -> None:
        if value not in (None, ""):
            self.line(f"  {name:<16} {value}")


def _problem(browsed: BrowsedLetter) -> dict[str, object]:
    """The failure as problem details (RFC 9457)."""
    failure = browsed.letter.failure
    known = error_codes().get(failure.code)
    title = f"Failed in {browsed.letter.writer}" if browsed.letter.writer else "Unknown failure"
    problem: dict[str, object] = {
        "type": f"urn:broker-bridge:error:{failure.code}",
        "title": known.title if known else title,
        "code": failure.code,
        "instance": str(browsed.letter.origin),
        "retriable": bool(known and known.retriable),
    }
    if failure.message:
        problem["detail"] = failure.message
    if failure.target_code:
        problem["target_code"] = failure.target_code
    return problem


def _next(browsed: BrowsedLetter, suggest: Suggest) -> str:
    letter, state, code = browsed.letter, browsed.state, browsed.letter.failure.code
    if state in (LetterState.WAITING, LetterState.DEAD_AGAIN):
        plan = suggest("replay", "plan", "--fingerprint", letter.failure.fingerprint, "--why", "what was fixed")
        explain = f"What the code means:\n  broker-bridge explain {code}\n" if code in error_codes() else ""
        again = "It died again, so the cause is still there. " if state is LetterState.DEAD_AGAIN else ""
        return f"{explain}{again}Fix the cause, then plan a replay of all letters of this kind:\n  {plan}"
    if state is LetterState.SUPERSEDED and browsed.claim is not None and browsed.claim.state is ClaimState.DEAD:
        return f"Look at the current one:\n  {_current(browsed, suggest)}"
    if state is LetterState.STALE:
        return (
            "Nothing to do, if newer versions say all that this one did. If its effect is needed all the same, plan it "
            f"as it is, by force:\n  {_forced(letter, suggest, 'needed although it is older', '--order', 'as-is')}"
        )
    if state is LetterState.DISCARDED:
        return (
            "Nothing to do. If it was discarded by mistake, send it back by force:\n"
            f"  {_forced(letter, suggest, 'discarded by mistake')}"
        )
    if state is LetterState.UNKNOWN and letter.writer and letter.writer not in KEEPS_HEADERS:
        return (
            f"{letter.writer} dropped the message's own headers, and with them its identity. Rather replay the original"
            f" record, {letter.origin}, from the source topic; if this copy is sent back (replay plan --allow-expired),"
            " nothing but the target itself stops a second effect."
        )
    return _NEXT.get(state, "Nothing to do.")


_NEXT = {
    LetterState.REPLAYING: "Nothing to do now. Look again in a while.",
    LetterState.RESOLVED: "Nothing to do.",
    LetterState.CONFLICT: "Find the producer that used one idempotency key for two payloads; "
    "have it send this one again under a key of its own.",
    LetterState.UNKNOWN: "Find out whether the effect happened. If not: replay plan --allow-expired sends it back, "
    "with nothing but the target itself to stop a second effect.",
}


def _current(browsed: BrowsedLetter, suggest: Suggest) -> str:
    """The letter that the claim names: always one of the route's own."""
    assert browsed.claim is not None
    partition, offset = unpack_place(browsed.claim.detail)
    return suggest("dlq", "show", f"{partition}/{offset}", own=True)


def _forced(letter: DeadLetter, suggest: Suggest, why: str, *more: str) -> str:
    at = letter.position.offset
    only = ["--partition", str(letter.origin.partition), "--letter-from", str(at), "--letter-to", str(at + 1)]
    return suggest("replay", "plan", *only, *more, "--force", "--why", why)
