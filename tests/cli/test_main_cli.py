"""The installed command as a whole: help, speed, and how every kind of failure ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from broker_bridge import errors
from broker_bridge.cli.exit_codes import BY_ERROR, ExitCode, exit_code_of
from broker_bridge.cli.main import COMMANDS, cli

DEADLINE_S = 60.0
PRINT_NO_RESULT = {("worker", "run"), ("worker", "process")}
"""They run until stopped and log; everything else has a result and so ``--json``."""
HEAVY = {"aiokafka", "aiohttp", "fastavro", "prometheus_client", "pydantic", "redis", "rich", "structlog", "uvloop"}

ROUTE = """
[[route]]
name = "payments"
topic = "orders.placed"
target = { kind = "http", url = "http://127.0.0.1:9/payments" }
"""


def bridge(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command. Whatever it does, no traceback may reach the user."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_BRIDGE_")}
    done = subprocess.run(
        ["broker-bridge", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**clean, **environment},
        cwd=cwd,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The path and command of every subcommand and group that is there."""
    context = click.Context(cli)
    pending: list[tuple[tuple[str, ...], click.Command | None]] = [
        ((name,), cli.get_command(context, name)) for name in cli.list_commands(context)
    ]
    while pending:
        path, command = pending.pop()
        assert command is not None, path
        yield path, command
        if isinstance(command, click.Group):
            pending += [((*path, name), inner) for name, inner in command.commands.items()]


LEAVES = [
    pytest.param(path, id=" ".join(path))
    for path, command in sorted(every_command(), key=lambda pair: pair[0])
    if not isinstance(command, click.Group)
]


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_explains_itself_by_example_and_answers_in_json(path: tuple[str, ...]) -> None:
    done = bridge(*path, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(rf"Examples?:\n\s+broker-bridge {' '.join(path)}\b", done.stdout)
    if path not in PRINT_NO_RESULT:
        assert re.search(r"^\s+--json\b", done.stdout, re.MULTILINE)
    assert bridge(*path, "-h").stdout == done.stdout


def test_help_names_every_command_that_is_there_and_the_exit_statuses() -> None:
    done = bridge("--help")
    assert done.returncode == 0
    for name in cli.list_commands(click.Context(cli)):
        assert re.search(rf"^  {name}\s+\S", done.stdout, re.MULTILINE)
    for code in (ExitCode.NO, ExitCode.BAD_INPUT, ExitCode.NOT_FOUND, ExitCode.UNAVAILABLE, ExitCode.REFUSED):
        assert f"· {code.value} " in done.stdout
    assert "broker-bridge doctor" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom broker_bridge.cli.main import cli\ncli.main(['--help'], standalone_mode=False)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.stderr.strip() == "[]"


def test_help_is_quick() -> None:
    def cpu_s() -> float:
        before = os.times()
        bridge("--help")
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(cpu_s() for _ in range(5)) < 0.25


def test_the_version_is_told() -> None:
    done = bridge("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"broker-bridge \d+\.\d+\.\d+\n", done.stdout)


def test_without_arguments_help_is_shown_as_bad_usage() -> None:
    done = bridge()
    assert done.returncode == ExitCode.BAD_INPUT
    assert "Usage: broker-bridge" in done.stderr


def test_an_unknown_command_is_told_with_a_guess() -> None:
    done = bridge("docter")
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error[usage]: no such command 'docter'; did you mean 'doctor'?",
        "help: see: broker-bridge --help",
    ]


def test_an_unknown_option_is_told() -> None:
    done = bridge("doctor", "--jsn")
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stderr.splitlines()[0].startswith("error[usage]: No such option")
    assert done.stderr.splitlines()[1] == "help: see: broker-bridge doctor --help"


def test_a_bad_configuration_ends_with_2_and_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(ROUTE + 'concurency = 3\n[kafka]\nbootstrap = 5\npassword = "canary"\nxx = "canary"\n')
    done = bridge("worker", "run", "--config", str(path))
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == f"error[config_invalid]: {path}: 3 problems"
    assert "  line 6: route[payments].concurency: unknown key" in lines
    assert "  line 8: kafka.bootstrap = 5: must be text in quotes, not a number" in lines
    assert lines[-1] == f"help: mend each, then check with: broker-bridge doctor --config {path}"
    assert "canary" not in done.stderr


def test_a_missing_configuration_ends_with_2(tmp_path: Path) -> None:
    done = bridge("worker", "run", cwd=tmp_path)
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stderr.splitlines() == [
        "error[config_invalid]: bridge.toml: no such file",
        "help: name the configuration with --config PATH",
    ]


def test_errors_are_problem_documents_with_json(tmp_path: Path) -> None:
    done = bridge("doctor", "--json", "--nope", cwd=tmp_path)
    assert done.returncode == ExitCode.BAD_INPUT
    assert json.loads(done.stderr)["code"] == "usage"
    done = bridge("worker", "topics", "--json", cwd=tmp_path)
    problem = json.loads(done.stderr)
    assert (done.returncode, done.stdout) == (ExitCode.BAD_INPUT, "")
    assert (problem["code"], problem["detail"], problem["instance"]) == (
        "config_invalid",
        "no such file",
        "bridge.toml",
    )


def test_unsafe_settings_are_refused_with_5(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(ROUTE + '[kafka]\nbootstrap = "kafka.example:9092"\n')
    done = bridge("worker", "run", "--config", str(path))
    assert done.returncode == ExitCode.REFUSED
    assert done.stderr.startswith("error[unsafe_settings]: ")


def test_without_kafka_it_ends_with_4_and_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens: connections are refused
        taken.bind(("127.0.0.1", 0))
        bootstrap = f"127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "bridge.toml"
        path.write_text(ROUTE + f'[kafka]\nbootstrap = "{bootstrap}"\n[logging]\nlevel = "error"\n')
        done = bridge("worker", "topics", "--config", str(path))
    assert done.returncode == ExitCode.UNAVAILABLE
    first, *_, remedy, last = done.stderr.splitlines()
    assert first.startswith("error[kafka_unavailable]: ")
    assert bootstrap in first
    assert remedy == f"help: {errors.TransportError.default_remedy}"
    assert last == "see: broker-bridge explain kafka_unavailable"


# --- failures inside a command, made by a module that only these tests know ------------------------------------------

FAILING = """
import asyncio, os, sys
import click
from broker_bridge.cli.output import json_option, run_async
from broker_bridge import errors

@click.command()
@click.argument("how")
@json_option
def command(how, as_json):
    if how == "defect":
        raise RuntimeError("first line\\nsecond \\x1b[31m line")
    if how == "connection":
        raise BrokenPipeError(32, "Broken pipe")
    if how == "bare":
        raise errors.BridgeError("should not happen")
    if how == "group":
        async def fail(error):
            raise error
        async def main():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail(errors.StoreError("gone", where="127.0.0.1:1")))
        run_async(main())
    if how == "ansi":
        raise errors.NotFoundError("topic \\x1b[2Jx", where="a\\rb")
    if how == "pipe":
        for number in range(200_000):
            click.echo(f"line {number}")
    if how == "wait":
        async def main():
            try:
                print("ready", flush=True)
                await asyncio.Event().wait()
            finally:
                print("cleaned up", flush=True)
        run_async(main())
    return 1 if how == "no" else None
"""
CLI = [sys.executable, "-m", "broker_bridge.cli.main"]
RUN = (
    "import sys, broker_bridge.cli.main as main\n"
    "main.COMMANDS['failing'] = main.Lazy('failing_command', 'command', 'x')\n"
    "main.main(['failing', *sys.argv[1:]])"
)


@pytest.fixture
def failing(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Program and environment of a command that fails as asked."""
    (tmp_path / "failing_command.py").write_text(FAILING, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("BROKER_BRIDGE_DEBUG", None)
    return [sys.executable, "-c", RUN], environment


def fail(failing: tuple[list[str], dict[str, str]], *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    program, environment = failing
    return subprocess.run(
        [*program, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, env={**environment, **more}
    )


def test_a_defect_is_one_line_and_a_report_that_only_the_user_reads(
    failing: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    done = fail(failing, "defect")
    assert done.returncode == ExitCode.INTERNAL
    (report,) = tmp_path.glob("broker-bridge-crash-*.txt")
    assert done.stderr.splitlines() == [
        "error[internal]: RuntimeError: first line",
        f"help: please report it with {report}",
    ]
    assert "Traceback" in report.read_text()
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


def test_the_traceback_is_shown_to_who_asks(failing: tuple[list[str], dict[str, str]]) -> None:
    assert "Traceback" in fail(failing, "defect", BROKER_BRIDGE_DEBUG="1").stderr
    assert "Traceback" not in fail(failing, "defect", BROKER_BRIDGE_DEBUG="0").stderr


def test_an_error_without_a_kind_is_a_defect(failing: tuple[list[str], dict[str, str]]) -> None:
    assert fail(failing, "bare").returncode == ExitCode.INTERNAL


def test_an_error_out_of_a_task_group_is_told_as_itself(failing: tuple[list[str], dict[str, str]]) -> None:
    done = fail(failing, "group", "--json")
    assert done.returncode == ExitCode.UNAVAILABLE
    assert json.loads(done.stderr)["code"] == "redis_unavailable"


def test_names_from_elsewhere_cannot_play_with_the_terminal(failing: tuple[list[str], dict[str, str]]) -> None:
    done = fail(failing, "ansi")
    assert done.returncode == ExitCode.NOT_FOUND
    assert done.stderr == "error[not_found]: a\\x0db: topic \\x1b[2Jx\n"


def test_the_answer_no_is_1(failing: tuple[list[str], dict[str, str]]) -> None:
    assert (fail(failing, "no").returncode, fail(failing, "yes").returncode) == (ExitCode.NO, ExitCode.OK)


def test_a_reader_that_goes_away_is_no_drama(failing: tuple[list[str], dict[str, str]]) -> None:
    program, environment = failing
    with subprocess.Popen(
        [*program, "pipe"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "line 0\n"
        running.stdout.close()
        assert running.wait(DEADLINE_S) == ExitCode.BROKEN_PIPE
        assert running.stderr.read() == ""


def test_a_reader_of_a_table_that_goes_away_is_no_answer_no() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run([*CLI, "explain"], stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, "")


@pytest.mark.parametrize("arguments", [["explain"], ["explain", "--json"]])
def test_a_full_disk_is_no_defect(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*CLI, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "cannot be written" in done.stderr
    assert "report it" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nothing_to_fall_over(closed: str) -> None:
    shell = f'exec "$0" "$@" {closed}'
    done = subprocess.run(["sh", "-c", shell, *CLI, "explain"], stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_a_connection_that_breaks_is_not_taken_for_a_reader_that_went_away(
    failing: tuple[list[str], dict[str, str]],
) -> None:
    done = fail(failing, "connection")
    assert done.returncode == ExitCode.INTERNAL
    assert done.stderr.startswith("error[internal]: BrokenPipeError: ")


def test_ctrl_c_cleans_up_and_ends_with_130(failing: tuple[list[str], dict[str, str]]) -> None:
    program, environment = failing
    with subprocess.Popen(
        [*program, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        out, told = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, out, told) == (ExitCode.INTERRUPTED, "cleaned up\n", "interrupted\n")


def test_every_error_has_its_exit_status() -> None:
    for kind in errors.error_codes().values():
        status = next(BY_ERROR[base] for base in kind.__mro__ if base in BY_ERROR)
        assert (status == ExitCode.INTERNAL) == (kind is errors.BridgeError), kind
    assert exit_code_of(errors.SchemaUnknownError("x")) == ExitCode.NOT_FOUND
    assert exit_code_of(errors.ToolMissingError("x")) == ExitCode.NOT_FOUND
    assert exit_code_of(errors.DeliveryTimeoutError("x")) == ExitCode.UNAVAILABLE


def test_the_commands_are_those_of_the_readme() -> None:
    operators = ["dlq", "replay", "history", "outbox", "audit"]
    assert list(COMMANDS) == ["stack", "worker", "schemas", *operators, "chaos", "explain", "doctor"]
