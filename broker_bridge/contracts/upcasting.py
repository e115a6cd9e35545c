"""Reads a value of an old version through upcasters.

Each leg reads under the schema at hand, up to where the next step begins (Avro's own rules lead there), calls the step,
and writes what it returns under the next version. Writing is the check: what the next leg reads is a valid value, and a
mistake names its field. The last leg reads as the reader's version, in the form that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.reader_compiler import Reader, compile_reader
from broker_bridge.contracts.upcasters import Upcaster
from broker_bridge.contracts.writer_compiler import Writer, compile_writer
from broker_bridge.errors import UpcastError, ValueInvalidError


def upcasting_reader(
    writer: Contract,
    reader: Contract,
    form: Form,
    limits: Limits,
    steps: Sequence[Upcaster],
    version_of: Callable[[int], Contract],
) -> Reader:
    """The reader from ``writer`` to ``reader`` through ``steps``. Raises IncompatibleError where a leg does not
    resolve; what it returns raises UpcastError where a step fails."""
    legs: list[_Leg] = []
    at = writer
    for step in steps:
        before, after = version_of(step.from_version), version_of(step.from_version + 1)
        read = compile_reader(at, None if before is at else before, Form.PYTHON, limits)
        legs.append(_Leg(step, read, compile_writer(after, Form.PYTHON, limits), after, limits.max_value_bytes))
        at = after
    last = compile_reader(at, None if reader is at else reader, form, limits)

    def read_through(value: bytes, start: int) -> Any:
        for leg in legs:
            value, start = leg.take(value, start), 0
        return last(value, start)

    return read_through


class _Leg:
    """From the body of a value to that of the next version."""

    def __init__(self, step: Upcaster, read: Reader, write: Writer, after: Contract, max_bytes: int) -> None:
        self._step = step
        self._read = read
        self._write = write
        self._after = after
        self._max_bytes = max_bytes

    def take(self, value: bytes, start: int) -> bytes:
        """The body under the next version's schema. Raises UpcastError."""
        given = self._read(value, start)
        try:
            made = self._step.function(given)
        except Exception as error:
            raise self._failed(f"raised {type(error).__name__}: {error}") from error
        if not isinstance(made, dict):
            raise self._failed(f"returned a {type(made).__name__}, not a dict")
        try:
            body = self._write(made, b"")
        except ValueInvalidError as error:
            raise self._failed(f"made a value that is none of that version: {error.detail}", error.where) from error
        if len(body) > self._max_bytes:
            raise self._failed(f"made a value of {len(body)} bytes, the limit is {self._max_bytes}")
        return body

    def _failed(self, what: str, where: str = "") -> UpcastError:
        step = self._step
        return UpcastError(
            f"{step.name}, from version {step.from_version} to {step.from_version + 1} of {step.subject}, {what}",
            where=where or f"{self._after.subject} v{self._after.version}",
            remedy="mend the upcaster, then replay what died of it",
        )
