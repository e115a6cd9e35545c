"""The ``broker-bridge`` command: finds its subcommands only when asked for, and turns every failure into a sentence."""

from __future__ import annotations

import difflib
import errno
import importlib
import importlib.util
import json
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from broker_bridge import errors
from broker_bridge.cli.exit_codes import ExitCode, exit_code_of
from broker_bridge.errors import BridgeError, UsageError
from broker_bridge.text import printable
from broker_bridge.worker.garbage import rare_collections

PROGRAM: Final = "broker-bridge"
COMPLETE_VARIABLE: Final = "_BROKER_BRIDGE_COMPLETE"
DEBUG_VARIABLE: Final = "BROKER_BRIDGE_DEBUG"
TOLD_WHOLE: Final = frozenset({"config_invalid", "not_found", "port_taken", "usage"})
"""Codes whose messages leave nothing to be explained."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Lazy(NamedTuple):
    """Where a subcommand is defined, and what ``--help`` says of it without importing it."""

    module: str
    attribute: str
    summary: str


COMMANDS: Final = {
    "stack": Lazy("broker_bridge.cli.stack", "group", "Start, look at and stop a local Kafka and Redis."),
    "worker": Lazy("broker_bridge.cli.worker", "group", "Deliver messages to their targets."),
    "schemas": Lazy("broker_bridge.cli.schemas", "group", "List, check and register Avro schemas."),
    "dlq": Lazy("broker_bridge.cli.dlq", "group", "Look into the dead letters."),
    "replay": Lazy("broker_bridge.cli.replay", "group", "Plan and run replays of dead letters."),
    "history": Lazy("broker_bridge.cli.history", "command", "Show what operators did, when and why."),
    "outbox": Lazy("broker_bridge.cli.outbox", "group", "Relay events of a transactional outbox to Kafka."),
    "audit": Lazy("broker_bridge.cli.audit", "command", "Account for every message of a route."),
    "chaos": Lazy("broker_bridge.cli.chaos", "group", "Try a route under faults, on a private stack."),
    "explain": Lazy("broker_bridge.cli.explain", "command", "Explain an error code, and what to do about it."),
    "doctor": Lazy("broker_bridge.cli.doctor", "command", "Check configuration, servers and tools."),
}


class LazyGroup(click.Group):
    """A group whose members are imported when they run, so that help does not pay for Kafka, Avro and Redis."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands that are installed, in the order of a first encounter."""
        return [name for name, lazy in COMMANDS.items() if importlib.util.find_spec(lazy.module) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand itself, None where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        lazy = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.module}.{lazy.attribute} is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess where there is no such subcommand."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            near = difflib.get_close_matches(args[0], known, n=1)
            guess = f"did you mean {near[0]!r}?" if near else f"commands are: {', '.join(known)}"
            ctx.fail(f"no such command {args[0]!r}; {guess}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of subcommands, from the table above instead of from their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


def _version() -> str:
    from importlib.metadata import version

    return version("broker-bridge")


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"broker-bridge {_version()}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done · 1 the answer is no · 2 bad usage or input · 3 not running or not found · "
    "4 a server is unavailable · 5 refused for safety · 6 ended without a handler · 7 worker processes kept "
    "ending · 70 internal error · 130 interrupted.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@click.option("--debug", is_flag=True, help=f"Show the traceback of an internal error ({DEBUG_VARIABLE}=1).")
def cli(*, debug: bool) -> None:
    """A durable buffer between services over Kafka: ordered, idempotent delivery and replay that proves it worked.

    \b
    Example:
      broker-bridge stack up
      broker-bridge doctor --config bridge.toml
      broker-bridge worker run --config bridge.toml
    """
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_streams()
    with rare_collections():  # while modules are imported there is no garbage: 40 ms of a worker's start
        try:
            status = _run(given)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            status = ExitCode.BROKEN_PIPE
        except OSError as error:
            _forget_stdout()
            status = _tell_no_room(error, as_json="--json" in given)
    if status == ExitCode.STUCK:
        os._exit(status)  # leaving in any other way waits for the handler
    sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    as_json = "--json" in arguments
    try:
        result = _completion() if COMPLETE_VARIABLE in os.environ else _invoke(arguments)
    except click.exceptions.Exit as wish:
        return wish.exit_code
    except click.ClickException as error:
        return _tell_usage(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError as error:
        if _reader_gone():
            raise
        return _tell_defect(error, as_json=as_json)  # a connection's, which should have come as an error of ours
    except BaseExceptionGroup as group:
        return _tell_group(group, as_json=as_json)
    except BridgeError as error:
        return _tell(error, as_json=as_json)
    except OSError as error:
        if error.filename:
            return _tell_file(error, as_json=as_json)
        tell = _tell_no_room if error.errno in NO_ROOM else _tell_defect
        return tell(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a user
        return _tell_defect(error, as_json=as_json)
    return result if isinstance(result, int) and not isinstance(result, bool) else ExitCode.OK


def _invoke(arguments: Sequence[str]) -> object:
    """Click's own ``main`` would answer a broken pipe with 1, which here means: the answer is no."""
    _hush_libraries()
    with cli.make_context(PROGRAM, list(arguments)) as context:
        return cli.invoke(context)


def _completion() -> int:
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, PROGRAM, COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE])


def _hush_libraries() -> None:
    """Without any handler Python prints the warnings of libraries as they are, beside the one message of ours."""
    logging.getLogger().addHandler(logging.NullHandler())


def _tell(error: BridgeError, *, as_json: bool) -> int:
    if type(error) is BridgeError:
        return _tell_defect(error, as_json=as_json)
    _show_traceback(error)
    _print_error(error.code, error.where, error.detail, error.remedy, problem=error.problem(), as_json=as_json)
    if not as_json and error.code not in TOLD_WHOLE and type(error).__module__.startswith(errors.__name__):
        print(f"see: {PROGRAM} explain {error.code}", file=sys.stderr)
    return exit_code_of(error)


def _print_error(code: str, where: str, detail: str, remedy: str, *, problem: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(problem, ensure_ascii=False), file=sys.stderr)
        return
    text = ": ".join(part for part in (f"error[{code}]", where, detail) if part)
    print(printable(text, keep_newlines=True), file=sys.stderr)
    if remedy:
        print(printable(f"help: {remedy}", keep_newlines=True), file=sys.stderr)


def _tell_usage(error: click.ClickException, *, as_json: bool) -> int:
    """Click's own complaints in the same form, with the place to read on."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"see: {context.command_path} --help" if context is not None else ""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return ExitCode.BAD_INPUT
    detail = error.format_message()
    problem = {"type": "urn:broker-bridge:error:usage", "code": "usage", "detail": detail, "retriable": False}
    _print_error("usage", "", detail, remedy, problem=problem, as_json=as_json)
    return ExitCode.BAD_INPUT


def _tell_group(group: BaseExceptionGroup[BaseException], *, as_json: bool) -> int:
    """Several tasks failed at once: the first failure that was meant speaks for all, a defect before it."""
    leaves = list(_leaves(group))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    meant = [leaf for leaf in leaves if isinstance(leaf, BridgeError)]
    if meant and len(meant) == len(leaves):
        return _tell(meant[0], as_json=as_json)
    return _tell_defect(group, as_json=as_json)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _tell_file(error: OSError, *, as_json: bool) -> int:
    """A folder that is not there or not ours to write, a full disk: only sockets' errors name no file."""
    told = UsageError(
        f"the file cannot be used: {error.strerror}",
        where=str(error.filename),
        remedy="check the path, whose it is, and that the disk has room",
    )
    return _tell(told, as_json=as_json)


def _tell_no_room(error: OSError, *, as_json: bool) -> int:
    """Writing failed for want of room; which file it was, the error does not say."""
    told = UsageError(
        f"the output cannot be written: {error.strerror}",
        remedy="make room where stdout, the output file or the temporary files go; then look what was done before "
        "you run it again",
    )
    return _tell(told, as_json=as_json)


def _tell_defect(error: BaseException, *, as_json: bool) -> int:
    """A defect of ours: one line, and the traceback in a file only this user can read."""
    _show_traceback(error)
    detail = f"{type(error).__name__}: {error}".splitlines()[0] if str(error) else type(error).__name__
    report = _crash_report(error)
    remedy = f"please report it with {report}" if report else f"set {DEBUG_VARIABLE}=1 to see where"
    problem = {**BridgeError(detail, remedy=remedy).problem(), "report": report}
    _print_error(BridgeError.code, "", detail, remedy, problem=problem, as_json=as_json)
    return ExitCode.INTERNAL


def _crash_report(error: BaseException) -> str | None:
    try:
        import platform
        import tempfile
        import traceback

        handle, path = tempfile.mkstemp(prefix="broker-bridge-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"broker-bridge {_version()}, Python {platform.python_version()}, {platform.platform()}\n\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return path


def _show_traceback(error: BaseException) -> None:
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        import traceback

        traceback.print_exception(error, file=sys.stderr)


def _reader_gone() -> bool:
    """Whether what we print to is a pipe that nobody reads any more."""
    watched = select.poll()
    for stream in (sys.stdout, sys.stderr):
        watched.register(stream.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))


def _open_closed_streams() -> None:
    """Whoever starts us with stdout closed (``>&-``) gets /dev/null: the next socket would be taken for stdout."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - lives as long as we


def _forget_stdout() -> None:
    """Nobody reads stdout any more: keep the interpreter from complaining when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
