"""``worker run --processes``: how many worker processes, the command that each one is, and the parent they have."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from broker_bridge.errors import ConfigError

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig, RouteConfig
    from broker_bridge.worker.crew import Crew, Member

AUTO: Final = 0
MOST: Final = 256
LOOPBACK: Final = "127.0.0.1"
MEMBER_VARIABLE: Final = "BROKER_BRIDGE_KAFKA__MEMBER"


class ProcessCount(click.ParamType[int]):
    """A number of processes; ``auto`` and 0 are as many as there are processors."""

    name = "processes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, 0 for ``auto``."""
        if isinstance(value, int):
            return value
        written = str(value).strip().lower()
        if written == "auto":
            return AUTO
        if not (written.isascii() and written.isdigit() and int(written) <= MOST):
            self.fail(f"{value!r} is no number of processes: give 1 to {MOST}, or auto", param, ctx)
        return int(written)


@dataclass(frozen=True, slots=True)
class CrewPlan:
    """What the processes of a crew are to be."""

    config_path: Path
    config: BridgeConfig
    routes: Sequence[RouteConfig]
    named: Sequence[str]
    size: int


def check_member(config: BridgeConfig) -> None:
    """Raises ``ConfigError`` where a static member's name has no room for the number of a process."""
    from broker_bridge.config.model import LONGEST_MEMBER

    room = LONGEST_MEMBER - len(f"-{MOST}")
    if config.kafka.member and len(config.kafka.member) > room:
        raise ConfigError(
            f"has {len(config.kafka.member)} characters; with several processes it may have {room}, for each adds its "
            "number",
            where="[kafka] member",
            remedy="choose a shorter one",
        )


def crew_size(wanted: int, partitions: Mapping[str, int]) -> int:
    """How many processes to run, by what was ``wanted`` and the partitions of each route; warns of those without work.

    ``auto`` takes no more than the widest route can share out.
    """
    if wanted == AUTO:
        from broker_bridge.worker.cpus import usable_cpus

        return min(usable_cpus(), max(partitions.values()))
    from broker_bridge.observability import names
    from broker_bridge.observability.logging import get_logger

    for route, count in partitions.items():
        if wanted > count:
            get_logger(__name__).warning(
                names.CONFIG_WARNING,
                reason=f"route {route}: its topic has {count} partitions, so {wanted - count} of {wanted} processes "
                "get nothing of it to do",
            )
    return wanted


def make_crew(plan: CrewPlan) -> Crew:
    """The processes of ``plan``, not yet started."""
    from broker_bridge.worker.crew import PATIENCE_S, Crew, Member

    served = plan.config.health.listen is not None
    members = [
        Member(number, socket.create_server((LOOPBACK, 0)) if served else None) for number in range(1, plan.size + 1)
    ]

    async def launch(member: Member) -> asyncio.subprocess.Process:
        health = [] if member.health is None else [member.health.fileno()]
        return await asyncio.create_subprocess_exec(
            *command_of(plan, member.number, health),
            stdin=asyncio.subprocess.PIPE,
            env=environment_of(plan, member.number),
            pass_fds=health,
        )

    return Crew(members, launch, patience_s=longest_end_s(plan.routes) + PATIENCE_S)


def command_of(plan: CrewPlan, number: int, health: Sequence[int]) -> list[str]:
    """``-P`` because the installed command, too, does not import from the current directory."""
    command = [sys.executable, "-P", "-m", "broker_bridge.cli.main", "worker", "process", "--number", str(number)]
    command += ["--config", str(plan.config_path)]
    for name in plan.named:
        command += ["--route", name]
    for descriptor in health:
        command += ["--health-fd", str(descriptor)]
    return command


def environment_of(plan: CrewPlan, number: int) -> dict[str, str]:
    """This process's own, and a name of its own for each static member of a group."""
    member = plan.config.kafka.member
    return {**os.environ, **({MEMBER_VARIABLE: f"{member}-{number}"} if member else {})}


def write_whole_lines() -> None:
    """Have every line leave in one call, however Python was told to buffer: others write to the same pipe, and the
    kernel keeps apart what comes in one."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


def longest_end_s(routes: Sequence[RouteConfig]) -> float:
    """Seconds that the slowest route may take to drain and to leave a handler behind."""
    return max(route.shutdown.drain_ms + route.shutdown.grace_ms for route in routes) / 1000
