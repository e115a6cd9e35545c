"""What an operator types: the installed command, run as such, with what it printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.child import ChildError, Children, last_json
from demo.places import ROOT, RunFolder, broker_bridge_command

COMMAND_WITHIN_S = 120.0
CONFIRM = re.compile(r"--confirm-count (\d+)")


@dataclass
class Operator:
    """Runs ``broker-bridge`` commands against the run's configuration. ``show`` gets each command and its output."""

    children: Children
    folder: RunFolder
    show: Callable[[str, str], None]
    _count: int = 0

    def run(self, *arguments: str, shown: bool = True, expect: int | None = 0) -> tuple[int, str]:
        """The exit status and what was printed. Raises ``ChildError`` when the status is not the expected one."""
        self._count += 1
        words = [*arguments, "--config", short(self.folder.config)]
        name = f"command-{self._count:02}"
        child = self.children.start(
            f"broker-bridge {shlex.join(words)}",
            [broker_bridge_command(), *words],
            log=self.folder.log(name),
            out=self.folder.root / f"{name}.out",
            cwd=ROOT,
        )
        status = child.wait(COMMAND_WITHIN_S)
        printed = child.out.read_text(encoding="utf-8")
        if shown:
            self.show(f"broker-bridge {shlex.join(words)}", printed)
        if expect is not None and status != expect:
            raise child.failure(f"ended with status {status}, not {expect}")
        return status, printed

    def json(self, *arguments: str, expect: int | None = 0) -> dict[str, Any]:
        """The result of a command with ``--json``, not shown."""
        return last_json(self.run(*arguments, "--json", shown=False, expect=expect)[1])

    def replay_declined(self) -> dict[str, Any]:
        """Plan, look, send, and wait until all of it is settled: the dead letters of declined cards, nothing else."""
        plan = short(self.folder.plan)
        why = "the card company accepts them again"
        _, planned = self.run(
            "replay", "plan", "--target-code", "card_declined", "--why", why, "--by", "demo", "--out", plan
        )
        found = CONFIRM.search(planned)
        if found is None:
            raise ChildError(f"the plan does not say how many items it has: {planned!r}")
        self.run("replay", "run", plan)
        self.run("replay", "run", plan, "--execute", "--confirm-count", found.group(1))
        self.run("replay", "verify", plan, "--wait", "--timeout", "60s")
        return self.json("replay", "status", plan)


def short(path: Path) -> str:
    """As a person at the top of the project would write it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
