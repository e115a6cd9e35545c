"""Several processes started, kept and ended together: real ones, but tiny."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker_bridge.core.restart_policy import RestartPolicy
from broker_bridge.errors import WorkerProcessError
from broker_bridge.worker.crew import Crew, Member, MemberState, ended_how

WORKS = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({status}))
pathlib.Path({mark!r}).touch()
sys.stdin.read()
"""
IGNORES = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({mark!r}).touch()
sys.stdin.read()
"""
QUICK = RestartPolicy(first_delay_ms=1, longest_delay_ms=2, steady_ms=600_000, most_short_lives=3)


class Play:
    """A crew whose members run these programs; each life leaves a mark ``<member>-<life>`` once it is at work."""

    def __init__(self, folder: Path, *programs: str, patience_s: float = 60.0) -> None:
        self.folder, self.programs = folder, programs
        self.lives = [0] * len(programs)
        members = [Member(number) for number, _ in enumerate(programs, 1)]
        self.crew = Crew(members, self.launch, patience_s=patience_s, policy=QUICK)

    async def launch(self, member: Member) -> asyncio.subprocess.Process:
        self.lives[member.number - 1] += 1
        program = self.programs[member.number - 1].replace("{mark!r}", repr(str(self.mark(member))))
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", program.replace("{status}", "0"), stdin=asyncio.subprocess.PIPE
        )

    def mark(self, member: Member) -> Path:
        return self.folder / f"{member.number}-{self.lives[member.number - 1]}"

    def at_work(self) -> bool:
        """Whether every member's present life is."""
        return all(self.lives) and all(self.mark(member).exists() for member in self.crew.members)


async def eventually(holds: Callable[[], bool], *, within_s: float = 60.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s:g} s"
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def pids(crew: Crew) -> list[int]:
    return [member.process.pid for member in crew.members if member.process is not None]


async def test_all_end_when_asked_and_the_worst_status_counts(tmp_path: Path) -> None:
    play = Play(tmp_path, WORKS, WORKS.replace("{status}", "6"))
    running = asyncio.create_task(play.crew.run())
    await eventually(play.at_work)
    assert [member.state for member in play.crew.members] == [MemberState.RUNNING] * 2
    play.crew.stop()
    play.crew.stop()
    assert await running == 6
    assert all(map(gone, pids(play.crew)))
    assert play.lives == [1, 1]


async def test_one_that_dies_is_started_again_and_the_others_stay(tmp_path: Path) -> None:
    play = Play(tmp_path, WORKS, WORKS)
    running = asyncio.create_task(play.crew.run())
    await eventually(play.at_work)
    stays, dies = pids(play.crew)
    os.kill(dies, 9)
    await eventually(lambda: play.lives == [1, 2] and play.at_work())
    assert pids(play.crew)[0] == stays
    assert [member.restarts for member in play.crew.members] == [0, 1]
    play.crew.stop()
    assert await running == 0, "a death that was made good is not what the command ends with"


async def test_one_that_keeps_dying_ends_all_with_the_reason(tmp_path: Path) -> None:
    play = Play(tmp_path, WORKS, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(WorkerProcessError) as caught:
        await play.crew.run()
    assert caught.value.detail == "worker process 2 ended early 3 times in a row, at last by SIGKILL"
    assert play.lives == [1, 3]
    assert all(map(gone, pids(play.crew)))


async def test_what_no_restart_mends_ends_all_with_its_status(tmp_path: Path) -> None:
    play = Play(tmp_path, WORKS, "raise SystemExit(3)")
    assert await play.crew.run() == 3
    assert play.lives == [1, 1]
    assert all(map(gone, pids(play.crew)))


async def test_one_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    play = Play(tmp_path, WORKS, IGNORES, patience_s=0.2)
    running = asyncio.create_task(play.crew.run())
    await eventually(play.at_work)
    play.crew.stop()
    assert await running == 137


async def test_a_program_that_cannot_be_started_counts_as_one_that_died(tmp_path: Path) -> None:
    async def launch(_: Member) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(tmp_path / "nowhere")

    with pytest.raises(WorkerProcessError, match="3 times in a row, at last with status 126"):
        await Crew([Member(1)], launch, patience_s=1.0, policy=QUICK).run()


async def test_a_stop_does_not_wait_for_the_next_start(tmp_path: Path) -> None:
    play = Play(tmp_path, "raise SystemExit(70)")
    play.crew = Crew(
        play.crew.members,
        play.launch,
        patience_s=1.0,
        policy=RestartPolicy(first_delay_ms=3_600_000, longest_delay_ms=3_600_000),
    )
    running = asyncio.create_task(play.crew.run())
    await eventually(lambda: play.crew.members[0].state is MemberState.WAITING)
    play.crew.stop()
    assert await running == 0
    assert play.lives == [1]


def test_how_a_process_ended_in_words() -> None:
    assert [ended_how(status) for status in (70, -9, -64)] == ["with status 70", "by SIGKILL", "by SIGRTMAX"]
    assert ended_how(-99) == "by signal 99"
