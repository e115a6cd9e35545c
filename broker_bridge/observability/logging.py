"""Structured logs: one line an event, JSON or for people, ours and those of the libraries alike.

::

    log = get_logger(__name__)
    log.info(events.WORKER_STARTED, route="payments", partitions=4)

Events are catalogued in ``events``, keys in ``names``; everything is scrubbed (``scrub``) before it is written.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from broker_bridge.observability import names
from broker_bridge.observability.scrub import as_exception, exception_fields, key_hash, masked
from broker_bridge.text import printable

__all__ = ["Format", "Level", "configure_logging", "get_logger", "key_hash"]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console", "auto"]

NOT_PAIRS: Final = frozenset({names.TIMESTAMP, names.LEVEL, names.EVENT, names.SERVICE})
"""What a line for people shows elsewhere, or not at all."""

LOGGER_NAME: Final = "logger_name"
"""How the name travels inside structlog, whose own parameter is called ``logger``."""

CHATTY_LIBRARIES: Final = ("aiokafka", "aiohttp", "asyncio", "redis", "kafka")
"""Held to warnings: below that they tell of every request, at debug level with the bytes in it."""


def configure_logging(
    level: Level = "info",
    format: Format = "auto",  # noqa: A002 - the name it has in bridge.toml
    *,
    service: str = "",
    process: int | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send all logs of the process to ``stream`` (stderr by default) in one form. May be called again.

    ``auto`` is ``console`` on a terminal and ``json`` elsewhere. ``service`` is told in every line, and so is the
    number of the ``process`` where it is one of several.
    """
    out = stream if stream is not None else sys.stderr
    for_people = format == "console" or (format == "auto" and out.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer = _console(colours=out.isatty()) if for_people else _render_json
    finish: list[Processor] = [_with_origin(service, process), _exceptions, _scrub, renderer]
    begin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key=names.TIMESTAMP),
    ]
    structlog.configure(
        processors=[*begin, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _route_libraries(out, threshold, begin, finish)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``logger=name``; follows ``configure_logging`` also when made before it."""
    return cast(FilteringBoundLogger, structlog.get_logger(**{LOGGER_NAME: name}))


def _route_libraries(out: TextIO, threshold: int, begin: list[Processor], finish: list[Processor]) -> None:
    """The standard library's logging, which libraries use, goes the same way."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
            foreign_pre_chain=[*begin, _library_logger],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)
    for library in CHATTY_LIBRARIES:
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)


def _library_logger(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event[names.LOGGER] = record.name
    return event


def _with_origin(service: str, process: int | None) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if service:
            event.setdefault(names.SERVICE, service)
        if process is not None:
            event.setdefault(names.PROCESS, process)
        return event

    return add


def _exceptions(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """``exc_info`` becomes fields that quote no data."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = as_exception(given)
    if error is not None:
        for name, value in exception_fields(error).items():
            event.setdefault(name, value)
    event.pop("exception", None)
    return event


def _scrub(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if LOGGER_NAME in event:
        event[names.LOGGER] = event.pop(LOGGER_NAME)
    clean = {printable(str(name)): masked(str(name), value) for name, value in event.items()}
    first = {name: clean.pop(name) for name in names.FIRST_KEYS if name in clean}
    return first | {name: clean[name] for name in sorted(clean)}


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return json.dumps(event, ensure_ascii=False, allow_nan=True)


def _console(*, colours: bool) -> Processor:
    """``12:00:01.234 warning  breaker.opened  route=payments reason=…``: a line a person reads at a glance."""
    tints = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}

    def tinted(text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if colours else text

    def render(_: WrappedLogger, __: str, event: MutableMapping[str, Any]) -> str:
        rest: Mapping[str, object] = {k: v for k, v in event.items() if k not in NOT_PAIRS}
        time = str(event.get(names.TIMESTAMP, ""))[11:23]
        level = str(event.get(names.LEVEL, ""))
        pairs = " ".join(
            f"{k}={v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in rest.items()
        )
        head = f"{tinted(time, '2')} {tinted(f'{level:<7}', tints.get(level, '0'))} {event.get(names.EVENT, '')}"
        return f"{head}  {tinted(pairs, '2')}" if pairs else head

    return render
