"""Coroutines begun at once, in the task that asks for them: what never waits needs no timer and no task.

Measured with a handler that does not wait: 7 µs a message when each attempt entered its own timeout, 1 µs without.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any


class Begun:
    """A coroutine that waits for the first time. Awaiting this is awaiting the rest of it."""

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        """What ``yield from`` does, except that the first step is done already."""
        awaited = self._awaited
        while True:
            try:
                try:
                    given = yield awaited
                except BaseException as error:  # noqa: BLE001 - a cancellation, most likely; it is the coroutine's to see
                    awaited = self._coroutine.throw(error)
                else:
                    awaited = self._coroutine.send(given)
            except StopIteration as done:
                return done.value


def begin(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run until it ends or waits: its result, or ``Begun``. Raises what it raises."""
    try:
        awaited = coroutine.send(None)
    except StopIteration as done:
        return done.value
    return Begun(coroutine, awaited)
