"""Rules for schemas that shall live long: what is found in one, less what it waives itself.

A schema waives a rule where it has a reason to, at the node concerned and for all that is inside it:
``"lint.waive": {"doc-missing": "generated from the ERP's table"}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from broker_bridge.contracts.any_schema import AnySchema
from broker_bridge.contracts.lint_rules import RULES, Rule, Severity
from broker_bridge.contracts.schema_walk import Spot, spots

WAIVE: Final = "lint.waive"
"""The attribute that waives. Other readers of Avro pass over attributes they do not know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend. ``path`` is a JSON pointer, ``field`` the field for people, ``reason`` why the rule is there.

    ``waived`` is the reason given for letting it be, empty where none was.
    """

    rule: str
    severity: str
    path: str
    field: str
    message: str
    reason: str
    waived: str = ""

    def __str__(self) -> str:
        return f"{self.severity} {self.rule} at {self.field or 'the schema'}: {self.message} ({self.reason})"


_WAIVERS = {
    rule.code: rule
    for rule in (
        Rule("waiver-unknown", Severity.ERROR, "a waiver of a rule that is none waives nothing"),
        Rule("waiver-without-reason", Severity.ERROR, "whoever comes next must know why"),
        Rule("waiver-unused", Severity.WARNING, "what it was for is gone, or is somewhere else"),
    )
}


def all_rules() -> list[Rule]:
    """Every rule, those of waivers included."""
    return [*(rule for rule, _ in RULES), *_WAIVERS.values()]


def lint(schema: AnySchema, before: AnySchema | None = None) -> list[Finding]:
    """What is found in a schema, waived things included. ``before`` is the version it follows, where there is one."""
    places = list(spots(schema.raw))
    found: list[Finding] = []
    used: set[tuple[str, str]] = set()
    for spot in places:
        for rule, check in RULES:
            for message in check(spot, before):
                waiver = _waiver(spot, rule.code)
                if waiver is not None:
                    used.add((waiver.path, rule.code))
                reason = waiver.raw[WAIVE][rule.code] if waiver is not None else ""
                found.append(_finding(rule, spot, message, reason))
    return found + [one for spot in places for one in _waivers(spot, used)]


def _finding(rule: Rule, spot: Spot, message: str, waived: str = "") -> Finding:
    return Finding(rule.code, rule.severity.value, spot.path, spot.field, message, rule.reason, waived)


def _waiver(spot: Spot, code: str) -> Spot | None:
    """The nearest place around that waives the rule with a reason."""
    here: Spot | None = spot
    while here is not None:
        if _is_reason(_given(here).get(code)):
            return here
        here = here.above
    return None


def _given(spot: Spot) -> dict[str, Any]:
    given = spot.raw.get(WAIVE) if isinstance(spot.raw, dict) else None
    return given if isinstance(given, dict) else {}


def _is_reason(reason: Any) -> bool:
    return isinstance(reason, str) and bool(reason.strip())


def _waivers(spot: Spot, used: set[tuple[str, str]]) -> Iterator[Finding]:
    """What is wrong with the waivers of a place."""
    if isinstance(spot.raw, dict) and not isinstance(spot.raw.get(WAIVE, {}), dict):
        yield _finding(_WAIVERS["waiver-without-reason"], spot, f'"{WAIVE}" is an object of rules and reasons')
    known = {rule.code for rule, _ in RULES}
    for code, reason in _given(spot).items():
        if code not in known:
            yield _finding(_WAIVERS["waiver-unknown"], spot, f"no rule is called {code!r}")
        elif not _is_reason(reason):
            yield _finding(_WAIVERS["waiver-without-reason"], spot, f"say why {code} does not hold here")
        elif (spot.path, code) not in used:
            yield _finding(_WAIVERS["waiver-unused"], spot, f"{code} finds nothing here: take the waiver away")
