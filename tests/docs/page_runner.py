"""Runs the blocks of a page as a reader would, in a folder of its own, on the tests' Kafka and Redis.

What differs from what the reader sees:

* ``127.0.0.1:9092``, ``127.0.0.1:6379`` and the ports 9100 and 8081 become those of this run, in blocks and by the
  environment; the topics ``orders.placed`` and ``payments.captured`` get a prefix, and that of operations is the page's
  own, since the servers are shared;
* ``broker-bridge stack …`` is only parsed (``tests/cli/test_stack_cli.py`` runs it): the servers are there already;
* programs that set a machine up (``SHOWN_ONLY``) are not run, but the files and Makefile targets they name must exist;
* ``kill %1`` ends the first program that was started in the background, and so on;
* a command that answers "not yet" is asked again until it ends with 0, as a reader would, within ``PATIENCE_S``;
* excerpts of Go and Rust programs are not run, but must stand in the file that they name. ``run_too`` are programs of
  ``SHOWN_ONLY`` that are run nevertheless, on the examples of the repository and the schemas of the page.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
from pages import ROOT, Block, blocks_of

from broker_bridge.cli.main import cli
from broker_bridge.config import load_config
from broker_bridge.errors import BridgeError
from broker_bridge.stack.ports import free_port

PATIENCE_S = 60
SHOWN_ONLY = frozenset(
    {"git", "cd", "pip", "python3", ".", "make", "docker", "cargo", "go", "curl", "export", "kill", "mkdir", "cp"}
)
COMMAND = str(Path(sys.executable).with_name("broker-bridge"))


class BrokenBlockError(AssertionError):
    """A block of a page does not do what the page says."""


class PageRunner:
    """Runs one page. Use it with ``with``: what runs in the background ends with it, and must end well."""

    def __init__(
        self, folder: Path, *, bootstrap: str, redis_url: str, prefix: str, run_too: frozenset[str] = frozenset()
    ) -> None:
        self.folder = folder
        self._run_too = run_too
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}
        self._environ |= {
            "BROKER_BRIDGE_KAFKA__BOOTSTRAP": bootstrap,
            "BROKER_BRIDGE_REDIS__URL": redis_url,
            "BROKER_BRIDGE_OPERATIONS__TOPIC": f"{prefix}.operations",
            "PYTHONUNBUFFERED": "1",
        }
        port = str(free_port())
        self._replaced = [
            (r"127\.0\.0\.1:9092", bootstrap),
            (r"127\.0\.0\.1:6379", redis_url.split("/")[2]),
            (r"\b9100\b", port),
            (r"\b8081\b", str(free_port())),
            (r"\b(orders\.placed|payments\.captured|stock\.counted)\b", rf"{prefix}.\1"),
        ]
        self._output = folder / ".output"
        self._background: list[tuple[str, subprocess.Popen[bytes]]] = []
        shutil.copytree(ROOT / "schemas", folder / "schemas")
        shutil.copytree(ROOT / "examples" / "python", folder / "examples" / "python")

    def __enter__(self) -> PageRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for _line, process in reversed(self._background):
            process.terminate()
        for line, process in self._background:
            try:
                status = process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = -signal.SIGKILL
            if kind is None and status not in (0, -signal.SIGTERM):
                raise BrokenBlockError(f"{line!r} ended with {status}:\n{self.output()}")

    def _end(self, number: int) -> None:
        """``kill %1``: as in a shell, the first that was started in the background, and so on; it must end well."""
        if not 1 <= number <= len(self._background):
            raise BrokenBlockError(f"nothing was started in the background as %{number}")
        line, process = self._background[number - 1]
        process.terminate()
        if (status := process.wait(PATIENCE_S)) not in (0, -signal.SIGTERM):
            raise BrokenBlockError(f"{line!r} ended with {status}:\n{self.output()}")

    def run(self, page: str) -> int:
        """Run every block; answers how many did something. Raises ``BrokenBlockError`` with page line and output."""
        count = 0
        for block in blocks_of(page):
            act = self._ACTS.get(block.language)
            if act is not None:
                try:
                    act(self, Block(block.line, block.language, block.file, self._adapted(block.body)))
                except (BrokenBlockError, BridgeError, SyntaxError, ValueError) as error:
                    raise BrokenBlockError(f"block at line {block.line}: {error}") from error
                count += 1
        return count

    def output(self) -> str:
        """Everything printed so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def _adapted(self, text: str) -> str:
        for pattern, replacement in self._replaced:
            text = re.sub(pattern, replacement, text)
        return text

    def _python(self, block: Block) -> None:
        if block.file:
            compile(block.body, block.file, "exec")
            (self.folder / block.file).write_text(block.body)
            return
        script = self.folder / f"block_{block.line}.py"
        script.write_text(block.body)
        self._once(script.name, [sys.executable, script.name])

    def _toml(self, block: Block) -> None:
        tomllib.loads(block.body)
        path = self.folder / (block.file or f"block_{block.line}.toml")
        path.write_text(block.body)
        load_config(path, {})

    def _json(self, block: Block) -> None:
        json.loads(block.body)
        if block.file:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(block.body)

    def _excerpt(self, block: Block) -> None:
        if block.file and block.body not in self._adapted((ROOT / block.file).read_text()):
            raise BrokenBlockError(f"this does not stand in {block.file}")

    def _text(self, block: Block) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while missing := [line for line in block.body.splitlines() if line.strip() and line not in self.output()]:
            dead = [line for line, process in self._background if process.poll() not in (None, 0, -signal.SIGTERM)]
            if time.monotonic() > deadline or dead:
                raise BrokenBlockError(f"never printed {missing} (ended: {dead}):\n{self.output()}")
            time.sleep(0.05)

    def _sh(self, block: Block) -> None:
        for line in block.body.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words:
                    self._command(part.partition(" #")[0].strip(), words)

    def _command(self, line: str, words: list[str]) -> None:
        if words[0] == "broker-bridge" and words[1] == "stack":
            parse_command(words[1:])
        elif words[0] in ("broker-bridge", "python"):
            program = COMMAND if words[0] == "broker-bridge" else sys.executable
            if words[-1] == "&":
                self._background.append((line, self._start([program, *words[1:-1]])))
            else:
                self._until_done(line, [program, *words[1:]])
        elif words[0] == "kill" and words[1].startswith("%"):
            self._end(int(words[1][1:]))
        elif words[0] in self._run_too and words[-1] == "&":
            self._background.append((line, self._start([self._in_repository(word) for word in words[:-1]])))
        elif words[0] in self._run_too:
            self._until_done(line, [self._in_repository(word) for word in words])
        elif words[0] in SHOWN_ONLY:
            _check_named(words)
        else:
            raise BrokenBlockError(f"{words[0]!r} is no program that pages may use")

    def _in_repository(self, word: str) -> str:
        """Programs are those of the repository, where they are built; schemas are those the page has written."""
        if word.startswith("examples/"):
            return str(ROOT / word)
        return str(self.folder / word.removeprefix("../../")) if word.startswith("../../schemas/") else word

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environ,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has no threads that hold locks
            )

    def _once(self, line: str, command: list[str]) -> int:
        process = self._start(command)
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BrokenBlockError(f"{line!r} did not end within {PATIENCE_S} s:\n{self.output()}") from None
        if status != 0:
            raise BrokenBlockError(f"{line!r} ended with {status}:\n{self.output()}")
        return status

    def _until_done(self, line: str, command: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._once(line, command)
            except BrokenBlockError as error:
                not_yet = "ended with 1:" in str(error) and self._background and "pytest" not in line
                if not not_yet or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    _ACTS: dict[str, Callable[[PageRunner, Block], None]] = {  # noqa: RUF012 - a table, never changed
        "python": _python,
        "toml": _toml,
        "sh": _sh,
        "text": _text,
        "json": _json,
        "go": _excerpt,
        "rust": _excerpt,
    }


def parse_command(arguments: list[str]) -> None:
    """Follow a command line through the real parser without running it."""
    command: click.Command = cli
    context = click.Context(cli, info_name="broker-bridge")
    rest = arguments
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, rest)
        if found is None:
            raise BrokenBlockError(f"there is no command {arguments}")
        context, command = click.Context(found, parent=context, info_name=found.name), found
    try:
        command.parse_args(context, list(rest))
    except click.ClickException as error:
        raise BrokenBlockError(f"broker-bridge {shlex.join(arguments)}: {error.format_message()}") from error


def _check_named(words: list[str]) -> None:
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in words[1:]:
            if "=" not in target and not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
                raise BrokenBlockError(f"the Makefile has no target {target!r}")
    for word in words[1:]:
        in_repository = re.fullmatch(r"(compose|examples|schemas|docs|benchmarks)/[\w./-]+|constraints\.txt", word)
        if in_repository and not (ROOT / word).exists():
            raise BrokenBlockError(f"there is no {word} in the repository")


def _die_with_parent() -> None:
    """In the child: end when the test process ends, also when it is killed (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
