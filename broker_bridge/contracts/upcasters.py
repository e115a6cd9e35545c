"""Upcasters: functions that turn a value of one version of a contract into a value of the next, for changes that Avro's
rules cannot express (a field split in two, another unit, a new meaning).

::

    @upcaster("shop.OrderPlaced", from_version=2)
    def amount_in_minor_units(value: dict[str, Any]) -> dict[str, Any]:
        value["amount"] = {"minor": value.pop("amount_cents"), "currency": value["currency"]}
        return value

A function gets a value of its own in PYTHON form, may change it, and returns one of the next version. It must be pure:
no I/O, no clock, no chance. It runs wherever an old value is decoded, which may be years later, more than once, and in
the tools of an operator.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.mismatch import mismatches
from broker_bridge.errors import ConfigError, SchemaUnknownError

UpcastFunction = Callable[[dict[str, Any]], dict[str, Any]]
F = TypeVar("F", bound=UpcastFunction)

_MARK: Final = "__broker_bridge_upcasts__"
_NO_UPCAST_REMEDY: Final = 'decorate one: @upcaster("shop.OrderPlaced", from_version=1)'


@dataclass(frozen=True, slots=True)
class Upcaster:
    """One step: from ``from_version`` of a subject to the version after it."""

    subject: str
    from_version: int
    function: UpcastFunction

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


def upcaster(subject: str, *, from_version: int) -> Callable[[F], F]:
    """Mark a function as the step of ``subject`` from one version to the next. The function itself is not changed.

    Raises ``ConfigError`` for a coroutine function: reading a value waits for nothing.
    """

    def mark(function: F) -> F:
        if inspect.iscoroutinefunction(function):
            raise ConfigError(
                f"{function.__qualname__} is an async function",
                where=f"upcaster of {subject} from version {from_version}",
                remedy="write it with def: an upcaster makes one value of another and waits for nothing",
            )
        steps = [*getattr(function, _MARK, ()), Upcaster(subject, from_version, function)]
        setattr(function, _MARK, steps)
        return function

    return mark


class Upcasters:
    """The steps of a service. Without any, nothing is looked up for a value."""

    def __init__(self, steps: Iterable[Upcaster] = ()) -> None:
        self._steps: dict[str, dict[int, Upcaster]] = {}
        for step in steps:
            others = self._steps.setdefault(step.subject, {})
            if step.from_version in others:
                raise ConfigError(
                    f"{others[step.from_version].name} and {step.name} both lead from version {step.from_version} of "
                    f"{step.subject}",
                    where="upcasters",
                    remedy="keep one of them",
                )
            others[step.from_version] = step

    def __bool__(self) -> bool:
        return bool(self._steps)

    def between(self, writer: Contract, reader: Contract) -> list[Upcaster]:
        """The steps on the way from a version to a later one of the same subject, in order; none for other pairs."""
        steps = self._steps.get(writer.subject)
        if steps is None or writer.subject != reader.subject:
            return []
        return [steps[version] for version in range(writer.version, reader.version) if version in steps]

    def check(self, versions_of: Callable[[str], list[Contract]], *, drafts: bool = False) -> None:
        """Refuse steps that lead nowhere and chains with a gap, before the first value is read.

        ``versions_of`` gives all versions of a subject, oldest first, or raises SchemaUnknownError. With ``drafts`` a
        step may lead to a version that is not registered yet. Raises ConfigError.
        """
        for subject, steps in self._steps.items():
            try:
                versions = versions_of(subject)
            except SchemaUnknownError as error:
                name = next(iter(steps.values())).name
                raise ConfigError(
                    f"{name} is for {subject}: {error.detail}", where="upcasters", remedy="check the subject's name"
                ) from error
            for step in steps.values():
                if not 1 <= step.from_version < len(versions) + drafts:
                    raise ConfigError(
                        f"{step.name} leads from version {step.from_version} to {step.from_version + 1} of {subject}, "
                        f"which has versions 1 to {len(versions)}",
                        where="upcasters",
                        remedy="register the version first, or correct from_version",
                    )
            self._check_gaps(versions, steps)

    def _check_gaps(self, versions: list[Contract], steps: dict[int, Upcaster]) -> None:
        """Between the steps Avro's own rules must lead on, from each version to where the next step begins. Versions
        before the first step are none of the chain."""
        for writer in versions[min(steps) - 1 :]:
            ahead = [version for version in steps if version >= writer.version]
            goal = versions[min(ahead) - 1] if ahead else versions[-1]
            hard = [one for one in mismatches(goal.tree, writer.tree) if not one.some_values]
            if hard:
                raise ConfigError(
                    f"there is no way from version {writer.version} of {writer.subject} to version {goal.version}: "
                    f"{hard[0].path or 'record'}: {hard[0].message}, and no upcaster leads on from there",
                    where="upcasters",
                    remedy=f'write one: @upcaster("{writer.subject}", from_version={writer.version})',
                )


def load_upcasters(module_name: str) -> Upcasters:
    """The decorated functions of a module, also those it imports from others. The current directory is importable.

    Raises ConfigError where the module cannot be imported, has none, or has two for one step.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"cannot import the module of upcasters: {type(error).__name__}: {error}",
            where=module_name,
            remedy="run where the module is importable, or set PYTHONPATH",
        ) from error
    functions = {id(one): one for one in vars(module).values() if callable(one)}
    steps = [step for function in functions.values() for step in getattr(function, _MARK, ())]
    if not steps:
        raise ConfigError("the module has no upcaster", where=module_name, remedy=_NO_UPCAST_REMEDY)
    return Upcasters(steps)
