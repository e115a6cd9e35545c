"""Logs: one form for ours and the libraries' lines, and nothing in them that belongs to a message (I27)."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from broker_bridge.config import SecretUrl
from broker_bridge.errors import MalformedError, RejectedError, StoreError
from broker_bridge.observability import names
from broker_bridge.observability.logging import Format, Level, configure_logging, get_logger, key_hash
from broker_bridge.text import printable

CANARY = "canary-4711"
INVISIBLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Logging is the process's: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    """A stream that says a person is watching."""

    def isatty(self) -> bool:
        return True


def configured(level: Level = "info", form: Format = "json", stream: io.StringIO | None = None) -> io.StringIO:
    out = stream if stream is not None else io.StringIO()
    configure_logging(level, form, service="pay", stream=out)
    return out


def lines_of(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_has_the_stable_keys_first_and_the_time_in_utc() -> None:
    out = configured()
    structlog.contextvars.bind_contextvars(correlation_id="c-1")
    get_logger("bridge.test").info("worker_started", partitions=4, route="payments", code=None)
    (line,) = lines_of(out)
    assert list(line) == [
        "timestamp", "level", "event", "service", "logger", "route", "code", "correlation_id", "partitions",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["timestamp"]))
    assert (line["level"], line["service"], line["route"], line["partitions"]) == ("info", "pay", "payments", 4)
    assert line["correlation_id"] == "c-1"


def test_lines_below_the_level_are_not_written_and_a_logger_made_before_follows() -> None:
    early = get_logger("early")
    out = configured("warning")
    early.info("no")
    early.warning("yes")
    assert [line["event"] for line in lines_of(out)] == ["yes"]


def test_lines_of_libraries_come_in_the_same_form_and_only_from_warnings_up() -> None:
    out = configured("debug")
    logging.getLogger("aiokafka.conn").debug("request with bytes %r", CANARY)
    logging.getLogger("aiokafka.conn").warning("no broker at %s", "127.0.0.1:1")
    logging.getLogger("someone").info("hello")
    library, other = lines_of(out)
    assert (library["event"], library["logger"], library["level"]) == (
        "no broker at 127.0.0.1:1", "aiokafka.conn", "warning",
    )  # fmt: skip
    assert (other["event"], other["service"]) == ("hello", "pay")
    assert CANARY not in out.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_canary_secrets_never_appear(form: Format) -> None:
    out = configured("debug", form)
    log = get_logger("bridge.test")
    for name in sorted(names.NEVER_LOGGED):
        log.info("x", **{name: CANARY})
        log.info("x", outer={name: [CANARY]})
        log.info("x", **{name.upper(): {"a": CANARY}})
    log.info("x", raw=CANARY.encode(), view=memoryview(CANARY.encode()), many=[CANARY.encode()])
    log.info("x", url=f"redis://user:{CANARY}@host:1/0", text=f"see https://{CANARY}@host/ for more")
    log.info("x", secret_type=SecretStr(CANARY), secret_url=SecretUrl(f"redis://:{CANARY}@h/0"))
    for error in (RejectedError(f"order of {CANARY}"), MalformedError(CANARY), ValueError(CANARY), KeyError(CANARY)):
        log.info("x", failure=error)
        try:
            try:
                raise ValueError(CANARY)
            except ValueError as cause:
                raise error from cause
        except Exception:
            log.exception("failed")
            logging.getLogger("asyncio").exception("Task exception was never retrieved")
    try:
        raise ExceptionGroup(CANARY, [ValueError(CANARY)])
    except ExceptionGroup as group:
        log.error("failed", exc_info=group)
    assert CANARY not in out.getvalue()
    assert out.getvalue().count("\n") > 50


def test_the_check_above_can_fail() -> None:
    out = configured()
    get_logger("bridge.test").info("x", note=CANARY)
    assert CANARY in out.getvalue()


def test_an_exception_is_told_by_class_code_and_place_and_ours_by_its_words() -> None:
    out = configured()
    try:
        raise StoreError("connection refused", where="127.0.0.1:6379")
    except StoreError:
        get_logger("bridge.test").exception("redis_lost")
    (line,) = lines_of(out)
    assert (line["error_class"], line["code"]) == ("StoreError", "redis_unavailable")
    assert str(line["error"]).startswith("127.0.0.1:6379: connection refused")
    stack = line["stack"]
    assert isinstance(stack, list)
    assert re.fullmatch(rf"{__name__}:\d+ test_an_exception_.*", stack[-1])


def test_a_fencing_token_is_a_number_and_shown_a_text_is_masked() -> None:
    out = configured()
    get_logger("bridge.test").info("x", token=17)
    get_logger("bridge.test").info("x", token="bearer")
    assert [line["token"] for line in lines_of(out)] == [17, "***"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_are_escaped(form: Format) -> None:
    out = configured(form=form)
    nasty = "a\x1b[2Jb\rc\nd\x00e\x9bf\u202eg\u200bh\u2028i"
    get_logger("bridge.test").info(nasty, text=nasty, **{"na\x1bme": nasty}, nested={"k\x1b": [nasty]})
    logging.getLogger("lib").warning(nasty)
    text = out.getvalue()
    assert not INVISIBLE.search(text)
    assert text.count("\n") == 2
    assert "x1b[2Jb" in text


def test_long_texts_and_deep_values_are_cut() -> None:
    out = configured()
    deep: object = "end"
    for _ in range(50):
        deep = {"in": deep}
    get_logger("bridge.test").info("x", text="y" * 1_000_000, deep=deep, many=list(range(10_000)))
    (line,) = lines_of(out)
    assert len(out.getvalue()) < 5_000
    assert str(line["text"]).endswith("… (1000000 characters)")


def test_people_get_a_line_for_people_and_pipes_get_json() -> None:
    terminal = configured(form="auto", stream=Terminal())
    get_logger("bridge.test").warning("route_paused", reason="redis_down", delays=[1, 2])
    assert re.search(r"\d\d:\d\d:\d\d\.\d{3}", terminal.getvalue())
    assert "route_paused" in terminal.getvalue()
    assert "reason=redis_down" in terminal.getvalue()
    pipe = configured(form="auto")
    get_logger("bridge.test").warning("route_paused")
    assert lines_of(pipe)[0]["event"] == "route_paused"


def test_key_hashes_are_short_stable_and_not_the_key() -> None:
    assert key_hash(b"customer-7") == key_hash(b"customer-7")
    assert re.fullmatch("[0-9a-f]{12}", key_hash(b"customer-7"))
    assert len({key_hash(f"customer-{n}".encode()) for n in range(10_000)}) == 10_000
    assert (key_hash(None), key_hash(b"") != "-") == ("-", True)


def test_printable_leaves_ordinary_text_alone() -> None:
    assert printable("Grüße, 世界 · fine") == "Grüße, 世界 · fine"
    assert printable("a\nb\x1b", keep_newlines=True) == "a\nb\\x1b"
    assert printable("\ud800") == "\\ud800"
