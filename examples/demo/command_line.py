"""The demo's command line: options, one run at a time in a folder, signals, exit status."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from broker_bridge.errors import BridgeError
from demo.child import ChildError
from demo.final_table import print_final_table
from demo.places import ROOT, RunFolder
from demo.report import write_report
from demo.screen import JsonScreen, Screen, open_screen
from demo.settings import Settings
from demo.story import Outcome, Story

EXIT_HOLDS, EXIT_DOES_NOT, EXIT_USAGE = 0, 1, 2
EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_NOBODY_READS = 130, 143, 141
EPILOG = (
    "exit status: 0 everything holds · 1 something does not, or a part failed · 2 wrong option, or another demo runs "
    "here · 130 Ctrl-C · 141 nobody reads the output · 143 SIGTERM; whatever happens, no process is left behind"
)


class Terminated(SystemExit):
    """SIGTERM arrived. A SystemExit, because asyncio lets that one through."""


def parse(arguments: Sequence[str] | None) -> tuple[Settings, Path]:
    """The settings and the run's folder."""
    parser = argparse.ArgumentParser(
        prog="examples/demo",
        description="A Go service, a Rust service, a bridge between them, four failures, and books that balance.",
        epilog=EPILOG,
    )
    default = Settings()
    parser.add_argument("--count", type=_at_least(100), default=default.count, help="orders to send (%(default)s)")
    parser.add_argument("--rate", type=_rate, default=default.rate, help="orders a second (%(default)s)")
    parser.add_argument("--seed", type=_at_least(0), default=default.seed, help="equal seeds give equal orders")
    parser.add_argument("--stand-ins", action="store_true", help="Python stand-ins instead of the Go and Rust services")
    parser.add_argument("--no-faults", action="store_true", help="nothing goes wrong on the way")
    parser.add_argument("--keep", action="store_true", help="leave Kafka and Redis running with their data at the end")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bridge" / "demo", help="where the run is written")
    given = parser.parse_args(arguments)
    settings = Settings(
        count=given.count,
        rate=given.rate,
        seed=given.seed,
        stand_ins=given.stand_ins,
        keep=given.keep,
        faults=not given.no_faults,
        as_json=given.json,
    )
    return settings, given.folder.absolute()


def _at_least(least: int) -> type[int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more")
        return value

    return number  # type: ignore[return-value] # argparse takes any callable


def _rate(text: str) -> float:
    value = float(text)
    if not 1 <= value < 1e6:
        raise argparse.ArgumentTypeError("must be from 1 to 1000000")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    settings, root = parse(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = RunFolder(root)
    try:
        with _alone_in(folder):
            return _run(settings, folder)
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C; nothing is left running")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # a flush at exit would complain
        return EXIT_NOBODY_READS
    except Terminated:
        _complain("stopped by SIGTERM; nothing is left running")
        return EXIT_TERMINATED


def _terminated(_signum: int, _frame: FrameType | None) -> None:
    raise Terminated(EXIT_TERMINATED)


@contextlib.contextmanager
def _alone_in(folder: RunFolder) -> Iterator[None]:
    """Hold the folder: a second demo in it would wipe the first one's data."""
    folder.root.mkdir(parents=True, exist_ok=True)
    with (folder.root / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _complain(f"another demo runs in {folder.root}; wait for it, or name another --folder")
            sys.exit(EXIT_USAGE)
        folder.prepare()
        yield


def _run(settings: Settings, folder: RunFolder) -> int:
    screen = open_screen(as_json=settings.as_json)
    story = Story(settings, folder, screen)
    failure: Exception | None = None
    try:
        try:
            story.tell()
        finally:
            _hurry_from_now_on()
            try:
                with screen.phase("end", "Stopping everything"):
                    story.close()
            finally:
                story.close()  # again, should nobody be there any more to read of it
    except (ChildError, BridgeError) as error:
        failure = error
    finally:
        screen.close()
    _tell_the_end(story.outcome, folder, screen, failure)
    if failure is None and settings.keep:
        story.keep(screen.say)
    return EXIT_HOLDS if failure is None and story.outcome.holds else EXIT_DOES_NOT


def _hurry_from_now_on() -> None:
    """A second signal does not wait: every program ends with this process, by its guard."""
    for signum, status in ((signal.SIGINT, EXIT_INTERRUPTED), (signal.SIGTERM, EXIT_TERMINATED)):
        signal.signal(signum, partial(_leave, status))


def _leave(status: int, _signum: int, _frame: FrameType | None) -> None:
    os._exit(status)


def _tell_the_end(outcome: Outcome, folder: RunFolder, screen: Screen, failure: Exception | None) -> None:
    write_report(folder.report, outcome, screen.phases, failure)
    if failure is not None:
        _complain(str(failure))
        _complain(f"the logs are in {folder.root}")
    elif isinstance(screen, JsonScreen):
        print(folder.report.read_text(encoding="utf-8").strip())
    else:
        print_final_table(outcome, folder, screen)


def _complain(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)
