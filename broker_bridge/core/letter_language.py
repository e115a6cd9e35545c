"""The expressions of ``--where``: rule-engine's language without what could run away or answer twice differently.

rule-engine compiles an expression to a tree of its own and never evaluates Python. Changed here: regular expressions
are RE2's, whose time grows with the text and with nothing else (values are whatever somebody produced); built-ins that
depend on the time or on chance are refused, for a selection stands in a plan and must mean the same later; bit shifts
are refused, for their results can fill the memory.
"""

from __future__ import annotations

import decimal
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final
from uuid import UUID

import re2
import rule_engine
from rule_engine import ast, errors
from rule_engine.parser import Parser, _DeferredAstNode

from broker_bridge.errors import UsageError
from broker_bridge.text import printable

LONGEST_EXPRESSION: Final = 2_000
"""Characters of an expression. It nests no deeper than Python's stack allows."""
_BUILT_IN: Final = frozenset({"abs", "all", "any", "max", "min", "sum"})
_HOW: Final = (
    "for example: --where 'amount_cents > 1000 and currency == \"EUR\"'; "
    'texts stand in double quotes, times are d"2026-11-24", letter.code and header["ce_type"] are the letter\'s own'
)
NOT_COMPARABLE: Final = (errors.EngineError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError)
"""What evaluating raises where the values do not fit the expression."""

Resolve = Callable[[Any, str], Any]
"""The value of a name in a thing. Raises ``KeyError`` where there is none."""


class Fields:
    """A record or map among values: ``a.b`` and ``a["b"]`` both look a field up."""

    __slots__ = ("_value",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value

    def __getitem__(self, name: str) -> Any:
        return comparable(self._value[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)


def comparable(value: Any) -> Any:
    """A decoded value as the language knows it: times are aware (UTC where the value names no zone), a date is its
    midnight, UUIDs and times of day are texts."""
    kind = type(value)
    if value is None or kind in _AS_THEY_ARE:
        return value
    if kind is dict:
        return Fields(value)
    if kind is list or kind is tuple:
        return tuple(comparable(one) for one in value)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, time):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


_AS_THEY_ARE: Final = frozenset({str, int, float, bool, bytes, decimal.Decimal})


def compiled(text: str, resolve: Resolve) -> Callable[[Any], bool]:
    """The expression as a test of things whose names ``resolve`` knows. Raises ``UsageError`` saying what is wrong and
    where; the test raises one of ``NOT_COMPARABLE``."""
    if not text.strip():
        raise _wrong(text, "the expression is empty")
    if len(text) > LONGEST_EXPRESSION:
        raise _wrong("", f"the expression has {len(text)} characters, at most {LONGEST_EXPRESSION} are taken")

    def look_up(thing: Any, name: str) -> Any:
        try:
            return resolve(thing, name)
        except (KeyError, TypeError):
            raise errors.SymbolResolutionError(name, thing=thing) from None

    context = _Context(resolver=look_up, default_timezone="utc", mapping_attribute_lookup=False)
    try:
        rule = _Rule(text, context)
    except errors.EngineError as error:
        raise _wrong(text, *_why(error)) from error
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _wrong(text, f"{type(error).__name__} while it was read") from error
    test: Callable[[Any], bool] = rule.matches
    return test


def why_not(error: Exception) -> str:
    """Why values could not be compared, for people; never a value."""
    if isinstance(error, errors.SymbolResolutionError):
        return _no_field(error.symbol_name, error.thing)
    if isinstance(error, errors.AttributeResolutionError):
        return _no_field(error.attribute_name, error.object)
    if isinstance(error, errors.LookupError):
        return "a list, map or header that is asked for is not there"
    if isinstance(error, errors.EvaluationError):
        return "values of different types (a text with a number, something with null)"
    return "values that do not fit the expression"


def _no_field(name: str, of: Any) -> str:
    known = [str(one) for one in of] if isinstance(of, Iterable) and not isinstance(of, str | bytes) else []
    close = difflib.get_close_matches(name, known, n=1)
    return f"no field {printable(name)}" + (f", is {printable(close[0])} meant?" if close else "")


class _Context(rule_engine.Context):  # type: ignore[misc]  # no types are shipped
    def resolve_type(self, name: str, scope: str | None = None) -> Any:
        if scope and name not in _BUILT_IN:
            raise errors.EvaluationError(f"${name} is not known; there are ${', $'.join(sorted(_BUILT_IN))}")
        return super().resolve_type(name, scope=scope)


class _LinearRegex(ast.FuzzyComparisonExpression):  # type: ignore[misc]
    def _compile_regex(self, regex: str) -> Any:
        options = re2.Options()
        options.log_errors = False
        try:
            return re2.compile(regex, options=options)
        except re2.error as error:
            told = error.args[0] if error.args else ""
            told = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
            raise errors.RegexSyntaxError(f"bad regular expression: {told}", error=error, value=regex) from None


class _Parser(Parser):  # type: ignore[misc]
    start = "statement"

    def p_expression_fuzzy_comparison(self, p: Any) -> None:
        """
        expression : expression EQ_FZM expression
                   | expression EQ_FZS expression
                   | expression NE_FZM expression
                   | expression NE_FZS expression
        """
        left, op, right = p[1:4]
        p[0] = _DeferredAstNode(_LinearRegex, args=(self.context, self.op_names[op], left, right))

    def p_expression_bitwise_shift(self, p: Any) -> None:
        """
        expression : expression BWLSH expression
                   | expression BWRSH expression
        """
        raise errors.EvaluationError(f"{p[2]} is not taken")


class _Rule(rule_engine.Rule):  # type: ignore[misc]
    parser = _Parser()


def _why(error: errors.EngineError) -> tuple[str, int | None]:
    """What is wrong with an expression, and at which character (from 0; None where that is not known)."""
    token = getattr(error, "token", None)
    message = str(error.message)
    if isinstance(error, errors.RuleSyntaxError):
        if token is None:
            return "the expression ends too early", None
        text = printable(str(token.value))
        what = f"{text[:1]!r} is not part of the language" if token.type == "error" else f"{text[:40]!r} is unexpected"
        hint = "; equal is ==" if text.startswith("=") else ""
        return what + hint, int(token.lexpos)
    if isinstance(error, errors.DatetimeSyntaxError | errors.TimedeltaSyntaxError):
        return f'{printable(error.value)[:40]!r} is no time, write d"2026-11-24T08:00:00Z"', None
    if message == "data type mismatch":
        return "it compares values of different types", None
    return printable(message), None


def _wrong(text: str, what: str, at: int | None = None) -> UsageError:
    where = "--where" if at is None else f"--where, character {at + 1}"
    shown = f": {printable(text)[:200]}" if text.strip() else ""
    return UsageError(f"{what}{shown}", where=where, remedy=_HOW)
