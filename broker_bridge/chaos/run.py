"""A list of faults, one after the other: those that need the same servers share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from broker_bridge.chaos.experiment import Experiment, Plan, Result
from broker_bridge.chaos.faults.base import Fault
from broker_bridge.chaos.servers import Servers
from broker_bridge.chaos.verdict import Verdict
from broker_bridge.errors import BridgeError, StackError


def run_faults(
    plan: Plan,
    faults: Iterable[type[Fault]],
    folder: Path,
    *,
    install: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[Result]:
    """Run them and give each result as it comes. A fault that cannot be played here is skipped, with the reason.

    Raises ``StackError`` and its kin where the servers do not start.
    """
    number = 0
    ordered = sorted(faults, key=_shape)
    for (small_disk, brokers), group in groupby(ordered, key=_shape):
        servers = Servers(
            folder / f"{brokers}-broker{'-small-disk' if small_disk else ''}",
            brokers=brokers, small_disk=small_disk, install=install, progress=say,
        )  # fmt: skip
        wanted = list(group)
        try:
            servers.__enter__()
        except StackError as error:
            if not small_disk:
                raise
            yield from (_skipped(kind, str(error)) for kind in wanted)
            continue
        try:
            for kind in wanted:
                number += 1
                yield _run_one(plan, servers, kind, number, folder, say)
                servers.mend()
        finally:
            servers.stop()


def _shape(kind: type[Fault]) -> tuple[bool, int]:
    return kind.small_disk, kind.brokers


def _run_one(
    plan: Plan, servers: Servers, kind: type[Fault], number: int, folder: Path, say: Callable[[str], None]
) -> Result:
    experiment = Experiment(plan, servers, kind(), number, folder, say)
    reason = experiment.cannot_run()
    if reason:
        return _skipped(kind, reason)
    try:
        return experiment.run()
    except BridgeError as error:  # the others may still be judged
        verdict = Verdict()
        verdict.object("could not be judged", str(error))
        return Result(kind.name, kind.title, kind.rows, verdict=verdict)


def _skipped(kind: type[Fault], why: str) -> Result:
    return Result(kind.name, kind.title, kind.rows, skipped=why)
