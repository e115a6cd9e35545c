"""Asks a program the questions of the conformance kit, one at a time, whatever the program does.

A question is one line of JSON on its stdin, the answer one line on its stdout; what it writes to stderr is its log. A
program that dies, hangs or floods is ended and started again for the next question; all waiting, all memory and the
number of restarts are bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from broker_bridge.contracts.conformance import Check, shown
from broker_bridge.errors import UsageError
from broker_bridge.text import printable

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""Of an answer: many times the largest question."""
START_S: Final = 30.0
"""What the first answer after a start may take on top: a program has to load."""
GIVE_UP_AFTER: Final = 3
"""So many questions in a row without an answer end the run."""
MAX_RESTARTS: Final = 50
_CHUNK: Final = 65_536
_LOG_TAIL: Final = 2_000
_MAX_SHOWN: Final = 500


class Outcome(StrEnum):
    """What came of one check."""

    OK = "ok"
    DIFFERS = "differs"
    NO_ANSWER = "no-answer"
    CRASHED = "crashed"
    TOO_SLOW = "too-slow"
    SKIPPED = "skipped"
    NOT_ASKED = "not-asked"

    @property
    def is_failure(self) -> bool:
        """Whether it speaks against the program."""
        return self not in (Outcome.OK, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check and what came of it; ``got`` says what was there instead, empty where all is well."""

    check: Check
    outcome: Outcome
    got: str = ""


@dataclass(slots=True)
class Noise:
    """Lines on stdout that answer nothing."""

    lines: int = 0
    first: str = ""

    def heard(self, line: bytes) -> None:
        """Counts one."""
        self.lines += 1
        self.first = self.first or _clean(line.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Silence:
    """Why there is no answer."""

    outcome: Outcome
    got: str


@dataclass(slots=True)
class Program:
    """A program under test. Raises UsageError where it cannot be started at all."""

    command: Sequence[str]
    timeout_s: float
    noise: Noise = field(default_factory=Noise)
    _process: subprocess.Popen[bytes] | None = None
    _out: bytearray = field(default_factory=bytearray)
    _log: bytearray = field(default_factory=bytearray)
    _restarts: int = -1

    def verdicts(self, checks: Iterable[Check]) -> Iterator[Verdict]:
        """The verdict on each check, as it is found. Close the generator, or read it to its end, to end the program."""
        silent = 0
        try:
            for number, check in enumerate(checks, start=1):
                if silent >= GIVE_UP_AFTER or self._restarts >= MAX_RESTARTS:
                    yield Verdict(check, Outcome.NOT_ASKED, "given up: too many questions had no answer")
                    continue
                answer = self.ask(number, check.ask)
                if isinstance(answer, Silence):
                    silent += 1
                    self.end()
                    yield Verdict(check, answer.outcome, answer.got)
                    continue
                silent = 0
                yield _judged(check, answer)
        finally:
            self.end()

    def ask(self, number: int, question: dict[str, Any]) -> dict[str, Any] | Silence:
        """The program's answer to one question, or why there is none."""
        started = self._process is None
        process = self._process or self._start()
        deadline = time.monotonic() + self.timeout_s + (START_S if started else 0.0)
        to_send = memoryview(shown({"id": number, **question}).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdout, process.stderr):
                if stream is not None and not stream.closed:
                    selector.register(stream, selectors.EVENT_READ)
            assert process.stdin is not None
            selector.register(process.stdin, selectors.EVENT_WRITE)
            while True:
                answer = self._answer(number)
                if answer is not None:
                    return answer
                left = deadline - time.monotonic()
                if left <= 0:
                    return Silence(Outcome.TOO_SLOW, f"nothing within {self.timeout_s:g} s{self._told()}")
                for key, _ in selector.select(left):
                    if key.fileobj is process.stdin:
                        to_send = self._send(process.stdin, to_send)
                        if not to_send:
                            selector.unregister(process.stdin)
                    elif not self._receive(key.fileobj):
                        selector.unregister(key.fileobj)
                        if key.fileobj is process.stdout:
                            return self._answer(number) or self._ended(process, deadline)

    def end(self) -> None:
        """Ends the program and whatever it started; no harm where it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        self._out.clear()
        self._log.clear()
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(  # noqa: S603  running the user's program is what this is for
                self.command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(
                f"{self.command[0]} cannot be started: {reason}",
                remedy="name your program after --, with its arguments",
            ) from error
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self._process = process
        self._restarts += 1
        return process

    def _send(self, stdin: Any, rest: memoryview) -> memoryview:
        """What is still to be sent. A program that has closed its stdin is judged by what it says on stdout."""
        try:
            return rest[os.write(stdin.fileno(), rest[:_CHUNK]) :]
        except BlockingIOError:
            return rest
        except OSError:
            return rest[:0]

    def _receive(self, stream: Any) -> bool:
        """Reads a piece. False at the end."""
        try:
            piece = os.read(stream.fileno(), _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        assert self._process is not None
        if stream is self._process.stdout:
            self._out += piece
        else:
            self._log += piece
            del self._log[:-_LOG_TAIL]
        return bool(piece)

    def _answer(self, number: int) -> dict[str, Any] | Silence | None:
        """The answer, where a whole line of it has come; what is none is noise."""
        while (end := self._out.find(b"\n")) >= 0:
            line = bytes(self._out[:end])
            del self._out[: end + 1]
            found = _parsed(line)
            if found is not None and found.get("id") == number:
                return found
            if line.strip():
                self.noise.heard(line)
        if len(self._out) > MAX_LINE_BYTES:
            return Silence(Outcome.NO_ANSWER, f"a line of more than {MAX_LINE_BYTES} bytes on stdout")
        return None

    def _ended(self, process: subprocess.Popen[bytes], deadline: float) -> Silence:
        """The program closed its stdout: how did it end?"""
        try:
            status = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Silence(Outcome.NO_ANSWER, f"the program closed its stdout and went on{self._told()}")
        assert process.stderr is not None
        while self._receive(process.stderr):
            if not _readable(process.stderr):
                break
        if status == 0:
            return Silence(Outcome.NO_ANSWER, f"the program ended with status 0{self._told()}")
        how = f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"status {status}"
        return Silence(Outcome.CRASHED, f"the program ended with {how}{self._told()}")

    def _told(self) -> str:
        """The end of what the program wrote: on stderr, or a line on stdout without its end."""
        if self._out:
            return f"; on stdout without a newline: {_clean(self._out[:_LOG_TAIL].decode(errors='replace'))}"
        text = _clean(self._log.decode(errors="replace").strip())
        return f"; its log ends: {text}" if text else "; flush stdout after each line"


def _readable(stream: Any) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(0))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _judged(check: Check, answer: dict[str, Any]) -> Verdict:
    if "skip" in answer:
        return Verdict(check, Outcome.SKIPPED, _clean(str(answer["skip"])))
    got = check.judge(answer)
    return Verdict(check, Outcome.OK) if got is None else Verdict(check, Outcome.DIFFERS, _clean(got))


def _clean(text: str) -> str:
    return printable(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + " …")
