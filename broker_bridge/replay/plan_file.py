"""The plan as a file: written whole or not at all, checked byte for byte before anything is believed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from broker_bridge.core.plan_lines import end_line, ends_of, header_line, items_of, seal, skipped_of, verify
from broker_bridge.core.replay_plan import PlanEnd, PlanHeader, PlanItem, SkippedLetter
from broker_bridge.errors import NotFoundError, PlanInvalidError, PlanRefusedError, ReplayError, UsageError
from broker_bridge.replay.sorted_lines import lines_between

_TOGETHER: Final = 256
"""Lines that are looked at together."""


class Plan:
    """A verified plan, open for reading. ``items`` may be walked as often as needed, also at the same time, a few items
    in memory. Every walk raises ``PlanInvalidError`` where the file was written to since it was verified: it would hand
    out the items of another plan under this one's id."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._as_verified = self._stamp()
        self.header, self.end = verify(self._lines())

    @property
    def id(self) -> str:
        """The plan's id, which every record of its replay carries."""
        return self.end.plan_id

    def items(self) -> Iterator[PlanItem]:
        """The items in the order in which they are sent."""
        return items_of(self._lines())

    def ends(self) -> list[tuple[int, PlanItem]]:
        """The items with the lowest and the highest offset of each partition, each with its number."""
        return ends_of(self._lines())

    def skipped(self) -> Iterator[SkippedLetter]:
        """The letters that were selected and do not go back, in the order of their origins."""
        return skipped_of(self._lines())

    def _lines(self) -> Iterator[bytes]:
        lines = lines_between(self._file, 0, self._as_verified[0])
        while True:
            try:
                some = list(islice(lines, _TOGETHER))
            except OSError:  # shorter now
                some = []
            if self._stamp() != self._as_verified:  # after they were read, before anybody sees them
                raise PlanInvalidError(
                    "it was written to while it was read", where=str(self.path), remedy="put the plan back as it was"
                )
            if not some:
                return
            yield from some

    def _stamp(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def hold(self) -> None:
        """Keep other runs of this file on this machine out, until it is closed. Raises ``PlanRefusedError``.

        A courtesy to the operator: what keeps two runs from doing the work twice is the claims, anywhere.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlanRefusedError(
                "another run of this plan is going on", where=str(self.path), remedy="wait for it, or stop it"
            ) from error


@contextlib.contextmanager
def open_plan(path: Path) -> Iterator[Plan]:
    """Open and verify. Raises ``NotFoundError`` or ``PlanInvalidError``, which name the file."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError("there is no such plan file", where=str(path)) from error
    except OSError as error:
        raise PlanInvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error
    with file:
        try:
            plan = Plan(path, file)
        except PlanInvalidError as error:
            raise PlanInvalidError(error.detail, where=str(path), remedy=error.remedy) from error
        except OSError as error:
            raise PlanInvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error
        yield plan


@contextlib.contextmanager
def spool(folder: Path | None = None) -> Iterator[BinaryIO]:
    """Where lines are kept until the plan is written, so that a large one is not held in memory."""
    with tempfile.TemporaryFile(dir=folder) as file:
        yield file


def diff_path(plan: Path) -> Path:
    """Where the diffs of an edit are kept, beside the plan."""
    return plan.with_name(plan.name + ".diff.ndjson")


def remove_plan(path: Path) -> None:
    """Take a plan away again, with its diff."""
    path.unlink(missing_ok=True)
    diff_path(path).unlink(missing_ok=True)


def check_free(path: Path) -> None:
    """Raise ``UsageError`` where the plan, or its diff, would overwrite a file."""
    for there in (path, diff_path(path)):
        if there.exists():
            raise UsageError("the file exists already", where=str(there), remedy="name another with --out")


def write_plan(path: Path, header: PlanHeader, lines: Iterable[bytes], *, diff: BinaryIO | None = None) -> PlanEnd:
    """Write beside ``path``, flush to disk, then put in place: there is never half a plan under the name.

    ``lines`` are those of the items, then those of the skipped letters; walked once. ``diff`` is written first, for its
    owner alone to read: it holds values of messages. Raises ``UsageError`` where a file exists: a plan is never
    overwritten.
    """
    check_free(path)
    partial = path.with_name(path.name + ".partial")
    try:
        if diff is not None:
            diff.seek(0)
            with open(os.open(diff_path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as kept:
                shutil.copyfileobj(diff, kept)
        with partial.open("wb") as file:
            end = seal(_written(file, header_line(header), lines))
            file.write(end_line(end))
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        diff_path(path).unlink(missing_ok=True)
        raise ReplayError(f"cannot write the plan: {error.strerror}", where=str(path)) from error
    return end


def _put_in_place(partial: Path, path: Path) -> None:
    """Under its name, unless somebody has put a file there since; where the file system has no links, even so."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:
        partial.rename(path)
    else:
        partial.unlink()


def _written(file: BinaryIO, header: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    file.write(header)
    yield header
    for line in lines:
        file.write(line)
        yield line
