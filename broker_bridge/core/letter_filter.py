"""Which letters an expression means: ``--where``, over what is decoded and over the letter itself.

Names are fields of the decoded value. ``letter.code``, ``letter.attempts`` and the others of ``LETTER_FACTS`` are about
the letter, ``header["ce_type"]`` is a header as text; a field of the value by one of these two names is
``letter.value.header``. A value is decoded only where the expression comes to one of its fields. Letters that cannot be
compared (no such field, null or another type where a number is needed, bytes that do not decode) do not match, and are
counted: an operator must know that they were not looked at.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import ModuleType
from typing import Any, Final, NamedTuple

from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.errors import ContractError, UsageError
from broker_bridge.message import Header

DecodeFields = Callable[[bytes, Sequence[Header]], Mapping[str, Any]]
"""A value as Python values by field, its record's headers at hand. Raises ``ContractError``."""

_LATEST_MS: Final = 253_402_300_799_999


class Verdict(enum.Enum):
    """What an expression says of a letter. Only ``YES`` matches."""

    YES = "matches"
    NO = "does not match"
    UNDECODABLE = "could not be decoded"
    INCOMPARABLE = "could not be compared"


class Judged(NamedTuple):
    """What an expression says of a letter, and what kept it from comparing."""

    verdict: Verdict
    error: Exception | None = None

    def why(self) -> str:
        """What kept it from comparing, for people; never a value."""
        if isinstance(self.error, _UndecodableError | _NoFieldsError):
            return str(self.error)
        return _language().why_not(self.error) if self.error is not None else ""


@dataclass(slots=True)
class NotCompared:
    """How many letters an expression could not look at, and the first of each kind: where, and why.

    ``elsewhere`` counts those of another system's topic that the route cannot bring home.
    """

    undecodable: int = 0
    incomparable: int = 0
    elsewhere: int = 0
    first_undecodable: str = ""
    first_incomparable: str = ""

    def count(self, letter: DeadLetter, judged: Judged) -> None:
        """Count a letter by what was said of it."""
        if judged.verdict is Verdict.UNDECODABLE:
            self.undecodable += 1
            self.first_undecodable = self.first_undecodable or f"{letter.position}: {judged.why()}"
        elif judged.verdict is Verdict.INCOMPARABLE:
            self.incomparable += 1
            self.first_incomparable = self.first_incomparable or f"{letter.position}: {judged.why()}"

    def sentences(self) -> list[str]:
        """What an operator must be told, empty where all letters were compared."""
        told = []
        if self.undecodable:
            told.append(
                f"{self.undecodable} letters could not be decoded and so were not compared; "
                f"the first: {self.first_undecodable}"
            )
        if self.incomparable:
            told.append(
                f"{self.incomparable} letters could not be compared and count as not meant; "
                f"the first: {self.first_incomparable}"
            )
        if self.elsewhere:
            told.append(
                f"{self.elsewhere} letters were left out: they came from another topic than the route's, do not say "
                "where they came from, or have no payload"
            )
        return told

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "undecodable": self.undecodable,
            "incomparable": self.incomparable,
            "elsewhere": self.elsewhere,
            "first_undecodable": self.first_undecodable or None,
            "first_incomparable": self.first_incomparable or None,
        }


class Where:
    """A parsed expression. Get it from ``where_of``."""

    def __init__(self, text: str) -> None:
        self._test = _language().compiled(text, _resolve)
        self._not_comparable = _language().NOT_COMPARABLE

    def judge(self, letter: DeadLetter, decode: DecodeFields) -> Judged:
        """What the expression says of a letter."""
        try:
            return _YES if self._test(_Subject(letter, decode)) else _NO
        except _UndecodableError as error:
            return Judged(Verdict.UNDECODABLE, error)
        except _NoFieldsError as error:
            return Judged(Verdict.INCOMPARABLE, error)
        except self._not_comparable as error:
            return Judged(Verdict.INCOMPARABLE, error)


_YES: Final = Judged(Verdict.YES)
_NO: Final = Judged(Verdict.NO)


@lru_cache(maxsize=16)
def where_of(text: str) -> Where:
    """The expression, parsed once. Raises ``UsageError`` naming the place and what to write instead."""
    return Where(text)


def _language() -> ModuleType:
    """Loaded when it is needed: it takes a third of a second, which only ``--where`` shall cost."""
    from broker_bridge.core import letter_language

    return letter_language


class _UndecodableError(Exception):
    """The letter's value does not decode."""


class _NoFieldsError(Exception):
    """The letter has no value that could have fields."""


class _Subject:
    """A letter under test; its value is decoded when it is first asked for."""

    __slots__ = ("_decode", "_fields", "letter")

    def __init__(self, letter: DeadLetter, decode: DecodeFields) -> None:
        self.letter = letter
        self._decode = decode
        self._fields: Any = None

    @property
    def fields(self) -> Any:
        if self._fields is None:
            letter = self.letter
            if letter.value is None:
                raise _NoFieldsError("a tombstone has no fields")
            try:
                decoded = self._decode(letter.value, letter.headers)
            except ContractError as error:
                raise _UndecodableError(f"{error.code}, {error.detail}") from None
            self._fields = _language().Fields(decoded)
        return self._fields

    def __iter__(self) -> Iterator[str]:
        """The names an expression may begin with."""
        return iter([*self.fields, "letter", "header"])


class _Facts:
    """``letter``: what is known of the letter without decoding it."""

    __slots__ = ("_subject",)

    def __init__(self, subject: _Subject) -> None:
        self._subject = subject

    def __getitem__(self, name: str) -> Any:
        if name == "value":
            return self._subject.fields
        fact = LETTER_FACTS.get(name)
        if fact is None:
            known = ", ".join([*LETTER_FACTS, "value"])
            raise UsageError(f"letter has no {name!r}", where="--where", remedy=f"letter has: {known}")
        return fact(self._subject.letter)


class _Headers:
    """``header``: a header's last value as text."""

    __slots__ = ("_letter",)

    def __init__(self, letter: DeadLetter) -> None:
        self._letter = letter

    def __getitem__(self, name: str) -> str | None:
        value = dict(self._letter.headers)[name]
        return None if value is None else value.decode(errors="backslashreplace")

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._letter.headers))


def _resolve(thing: Any, name: str) -> Any:
    if type(thing) is _Subject:
        if name == "letter":
            return _Facts(thing)
        if name == "header":
            return _Headers(thing.letter)
        return thing.fields[name]
    return thing[name]


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(max(0, min(time_ms, _LATEST_MS)) / 1000, UTC)


LETTER_FACTS: Final[Mapping[str, Callable[[DeadLetter], Any]]] = {
    "code": lambda letter: letter.failure.code,
    "target_code": lambda letter: letter.failure.target_code,
    "fingerprint": lambda letter: letter.failure.fingerprint,
    "message": lambda letter: letter.failure.message,
    "error_class": lambda letter: letter.failure.error_class,
    "attempts": lambda letter: letter.failure.attempts,
    "first_failure": lambda letter: _moment(letter.failure.first_ms),
    "last_failure": lambda letter: _moment(letter.failure.last_ms),
    "hops": lambda letter: letter.hops,
    "key": lambda letter: None if letter.key is None else letter.key.decode(errors="backslashreplace"),
    "idempotency_key": lambda letter: letter.idempotency_key,
    "partition": lambda letter: letter.position.partition,
    "offset": lambda letter: letter.position.offset,
    "origin_topic": lambda letter: letter.origin.topic,
    "origin_partition": lambda letter: letter.origin.partition,
    "origin_offset": lambda letter: letter.origin.offset,
    "timestamp": lambda letter: _moment(letter.timestamp_ms),
    "size": lambda letter: len(letter.value or b""),
    "service": lambda letter: letter.service,
    "release": lambda letter: letter.release,
    "replay_id": lambda letter: letter.replay_id,
    "edited": lambda letter: bool(letter.edited_from),
}
"""What ``letter.NAME`` is; times are times, ``size`` is in bytes."""
