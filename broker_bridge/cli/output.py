"""What every command shares: ``--json`` and ``--config``, printing results, running coroutines.

Results go to stdout, everything else (progress, warnings, errors) to stderr, so that a pipe gets results only.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from broker_bridge.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from broker_bridge.config import BridgeConfig

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

AS_JSON: Final = "broker_bridge.as_json"
DEFAULT_CONFIG: Final = "bridge.toml"
PLAIN_WIDTH: Final = 200
"""Width of tables: wide enough not to fold what people copy and scripts cut up."""


def json_option(command: Command) -> Command:
    """``--json``: the command receives ``as_json``, and ``emit`` and ``Progress`` follow it by themselves."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> bool:
        context.find_root().meta[AS_JSON] = value
        return value

    option = click.option("--json", "as_json", is_flag=True, callback=remember, help="Print the result as JSON.")
    return option(command)


def config_option(command: Command) -> Command:
    """``--config``: the command receives ``config_path``; read it with ``read_config``."""
    option = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=DEFAULT_CONFIG,
        envvar="BROKER_BRIDGE_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )
    return option(command)


def read_config(config_path: Path) -> BridgeConfig:
    """The configuration with this process's environment over it. Raises ``ConfigError``."""
    from broker_bridge.config import load_config

    return load_config(config_path, os.environ)


def wants_json() -> bool:
    """Whether the running command was given ``--json``."""
    context = click.get_current_context(silent=True)
    return bool(context is not None and context.find_root().meta.get(AS_JSON))


def emit(
    result: object,
    *,
    human: str | RenderableType | Callable[[Console], None] | None = None,
    as_json: bool | None = None,
) -> None:
    """Print a result: ``result`` with ``--json``, otherwise ``human`` (a text, something rich can show, or a
    function that prints on the console it is given; without it ``result`` itself)."""
    if wants_json() if as_json is None else as_json:
        click.echo(to_json(result, pretty=sys.stdout.isatty()))
    elif human is None or isinstance(human, str):
        click.echo(printable(human if human is not None else str(result), keep_newlines=True))
    elif callable(human):
        human(console())
    else:
        console().print(human)


def note(text: str) -> None:
    """A remark for people, on stderr; nothing with ``--json``."""
    if not wants_json():
        click.echo(printable(text, keep_newlines=True), err=True)


def console(*, stderr: bool = False) -> Console:
    """A rich console on stdout (or stderr) that is plain text where no terminal is.

    What goes to stdout is as wide in a terminal as in a pipe. A narrow terminal wraps a long row itself and gives it
    back whole when it is copied; rich would fold every cell of it, ids and commands among them.
    """
    from rich.console import Console

    class ResultConsole(Console):
        """Texts in one piece; a reader that went away is the business of ``main``, as for all that is printed."""

        def print(self, *objects: Any, **how: Any) -> None:
            """As rich does, but lines of text are never wrapped."""
            if all(isinstance(one, str) for one in objects):
                how.setdefault("soft_wrap", True)
            super().print(*objects, **how)

        def on_broken_pipe(self) -> None:
            """Rich would leave with 1, which here means: the answer is no."""
            raise  # noqa: PLE0704 - rich calls this where it caught the error

    if stderr:
        width = None if sys.stderr.isatty() else PLAIN_WIDTH
        return Console(file=sys.stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
    return ResultConsole(file=sys.stdout, width=PLAIN_WIDTH, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> RenderableType:
    """A table for ``emit(human=…)``. ``right`` names the columns of numbers. Cells are escaped."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable("" if cell is None else str(cell))) for cell in row))
    return made


def to_json(value: object, *, pretty: bool = False) -> str:
    """JSON of results: named tuples and dataclasses by field, bytes as hex, secrets masked."""
    return json.dumps(plain(value), ensure_ascii=False, indent=2 if pretty else None)


def plain(value: object) -> object:
    """``value`` as JSON types."""
    if value is None or (isinstance(value, str | bool | int | float) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return value.name.lower() if isinstance(value, int) else plain(value.value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine, on uvloop where it is installed.

    The first Ctrl-C cancels the coroutine, which may clean up; then KeyboardInterrupt leaves here. A second one does
    not wait. Where a handler is stuck the loop is left open, for closing it would wait for the handler.
    """
    from broker_bridge.errors import HandlerStuckError

    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        result = runner.run(main)
    except HandlerStuckError:
        raise
    except BaseException:
        runner.close()
        raise
    runner.close()
    return result


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
