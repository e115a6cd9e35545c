"""Every error code has its page in docs/runbooks/, whole, with commands that exist; docs/runbooks.md lists them all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest
from page_runner import BrokenBlockError, parse_command
from pages import ROOT, blocks_of

from broker_bridge.cli.main import cli
from broker_bridge.cli.runbook import SECTIONS, read_runbook
from broker_bridge.errors import error_codes
from broker_bridge.observability import events

FOLDER = ROOT / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
INDEX = (ROOT / "docs" / "runbooks.md").read_text()
FEWEST_WORDS = {"What happened": 12, "Why": 5, "What it means for the records": 3, "What to do next": 4}
EVENTS = {value for value in vars(events).values() if isinstance(value, str)}

_TOPIC = {"--topic", "--bootstrap-server", "--command-config"}
TOOLS: dict[str, set[str] | None] = {
    "kafka-topics.sh": {*_TOPIC, "--describe", "--list", "--under-min-isr-partitions", "--unavailable-partitions"},
    "kafka-configs.sh": {"--bootstrap-server", "--describe", "--all", "--entity-type", "--entity-name"},
    "kafka-consumer-groups.sh": {
        *(*_TOPIC, "--describe", "--group", "--members", "--verbose"),
        *("--reset-offsets", "--to-earliest", "--dry-run"),
    },
    "kafka-get-offsets.sh": {*_TOPIC, "--time"},
    "kafka-acls.sh": {*_TOPIC, "--list"},
    "kafka-broker-api-versions.sh": {"--bootstrap-server"},
    "redis-cli": {"--no-raw"},
    "psql": set(),
    "pip": set(),
    "redis-server": {"--version"},
    "git": {"--oneline"},
    "journalctl": {"--since"},
    **dict.fromkeys(("curl", "df", "echo", "env", "free", "fuser", "getent")),
    **dict.fromkeys(("grep", "head", "java", "ls", "sha256sum", "ss", "tail")),
}
"""What pages may use beside broker-bridge, with the long options they may give it; None: those are not looked at."""
SHOWS_ONLY = {"--reset-offsets": "--dry-run"}
"""What proves a cause changes nothing: these options need that one."""
CHANGES = re.compile(r"\b(DEL|SET|FLUSHALL|FLUSHDB|CONFIG SET|--execute|--alter|--delete|--add)\b")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that pages name, for options whose file must exist."""
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    (tmp_path / "new.avsc").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaints(code: str, text: str) -> list[str]:
    """What is wrong with a page."""
    page = read_runbook(code, text)
    found = [] if text.startswith(f"# {code}\n") else ["does not begin with its code"]
    if not re.fullmatch(r"[^\n]{20,160}\.", page.summary):
        found.append("has no sentence below its code that tells the whole, for the index")
    if tuple(page.sections) != SECTIONS:
        found.append(f"has the sections {list(page.sections)}")
    for heading, fewest in FEWEST_WORDS.items():
        if len(page.sections.get(heading, "").split()) < fewest:
            found.append(f"says nothing under {heading!r}")
    if not page.commands:
        found.append("has no command that proves the cause")
    found += [f"shows a command that changes something: {line}" for line in page.commands if CHANGES.search(line)]
    for line in page.commands:
        found += wrong_with(line)
    for mention in mentions(text):
        found += wrong_mention(mention)
    found += [f"names the code {named!r}" for named in re.findall(r"--code (\w+)", text) if named not in error_codes()]
    return found


def wrong_with(line: str) -> Iterator[str]:
    """Why a command line of a console block cannot be run as it stands."""
    for words in programs(line):
        if words[0] == "broker-bridge":
            if "--help" in words or "--version" in words:
                yield from wrong_mention(shlex.join(words))
                continue
            try:
                parse_command(words[1:])
            except (BrokenBlockError, click.ClickException) as error:
                yield f"{line!r}: {error}"
        elif words[0] not in TOOLS:
            yield f"{line!r}: {words[0]} is no program that pages may use"
        else:
            yield from wrong_options(words, TOOLS[words[0]])
            yield from wrong_event(words if "worker.log" in words else [])


def wrong_event(words: list[str]) -> Iterator[str]:
    """Log events that a line looks for and no release writes: they stand in quotes there, as in the log."""
    for quoted in re.findall(r'"([^"]+)"', " ".join(words)):
        yield from (f"there is no log event {name}" for name in re.findall(r"[a-z_]{4,}", quoted) if name not in EVENTS)


def wrong_options(words: list[str], known: set[str] | None) -> Iterator[str]:
    given = {word for word in words if re.match(r"--\w", word)}
    if known is not None:
        yield from (f"{words[0]} has no option {option}" for option in sorted(given - known))
    yield from (f"{one} without {other}" for one, other in SHOWS_ONLY.items() if one in given and other not in given)


def programs(line: str) -> Iterator[list[str]]:
    """The programs of a line, each with its arguments; what is set for them, and comments, left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    rest = list(lexer)
    while rest:
        words = list(takewhile(lambda word: word not in ("|", "&&", ";"), rest))
        rest = rest[len(words) + 1 :]
        program = [word for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word) or index > 0]
        if program:
            yield program


def mentions(text: str) -> list[str]:
    """Commands of ours in the prose."""
    return re.findall(r"`(broker-bridge [^`]+)`", text)


def wrong_mention(mention: str) -> Iterator[str]:
    """Why a command that is only named does not exist: its path and options count, what it needs does not."""
    rest = shlex.split(mention)[1:]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(context, rest[0])
        if inner is None:
            yield f"{mention!r}: there is no command {rest[0]!r}"
            return
        command, rest = inner, rest[1:]
    known = {"--help", *(option for each in command.params for option in (*each.opts, *each.secondary_opts))}
    yield from (f"{mention!r}: no option {word}" for word in rest if word.startswith("--") and word not in known)


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert sorted(PAGES) == sorted(error_codes())


@pytest.mark.parametrize("code", PAGES)
def test_a_page_is_whole_and_its_commands_exist(code: str, shop: Path) -> None:
    assert complaints(code, PAGES[code]) == []


def test_the_index_has_a_line_for_each_page_that_says_what_the_page_says() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (.+) \|$", INDEX, re.MULTILINE)
    lines = {code: said for code, target, said in rows if code == target}
    assert sorted(lines) == sorted(PAGES)
    assert len(rows) == len(lines)
    assert lines == {code: read_runbook(code, text).summary for code, text in PAGES.items()}


def test_the_commands_of_the_index_can_be_typed(shop: Path) -> None:
    lines = [line.removeprefix("$ ") for block in blocks_of(INDEX) for line in block.body.splitlines()]
    assert len(lines) >= 14
    assert [wrong for line in lines for wrong in wrong_with(line)] == []


def test_nothing_points_to_where_the_sections_were() -> None:
    """They had anchors in runbooks.md; each is a page now."""
    folders = [ROOT / name for name in ("docs", "broker_bridge", "compose", "examples", "tests", "benchmarks")]
    files = [ROOT / "README.md", *(path for folder in folders for path in folder.rglob("*"))]
    kinds = {".md", ".py", ".toml", ".yml", ".yaml", ".go", ".rs", ".html"}
    texts = ((path, path.read_text(errors="replace")) for path in files if path.suffix in kinds and path.is_file())
    left = {(path.name, code) for path, text in texts for code in re.findall(r"runbooks\.md#(\w+)", text)}
    assert [(name, code) for name, code in sorted(left) if code in error_codes()] == []


BROKEN = {
    "another code": ("# target_timeout", "# target_timout", "does not begin"),
    "no summary": ("No answer came within the route's `timeout`: the effect may have happened.\n", "", "no sentence"),
    "a section is missing": ("## Why", "## Wherefore", "has the sections"),
    "sections in another order": ("## What happened", "## What to do first", "has the sections"),
    "an option that is not there": ("groups --code", "groups --cod", "No such option"),
    "a command that is not there": ("dlq groups", "dlq group", "No such command"),
    "a value that is no value": ("$ broker-bridge dlq groups", "$ broker-bridge dlq groups --partition x", "valid int"),
    "a code that is not there": ("plan --code target_timeout", "plan --code target_timout", "names the code"),
    "an option that is only named": ("plan --code", "plan --cod", "no option --cod"),
    "another program": ("$ curl -s ", "$ wget ", "is no program"),
    "an option of Kafka's tools": ("$ curl -s ", "$ kafka-topics.sh --zookeeper ", "no option --zookeeper"),
    "a proof that changes something": ("$ curl -s ", "$ redis-cli FLUSHALL ", "changes something"),
    "a reset that is not a dry run": ("$ curl -s ", "$ kafka-consumer-groups.sh --reset-offsets ", "without --dry-run"),
    "a log event that is not there": ("$ curl -s ", "$ grep '\"breaker_opend\"' worker.log; curl ", "no log event"),
    "no command": ("```console", "```text", "no command"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_page_that_is_wrong_is_noticed(what: str, shop: Path) -> None:
    before, after, said = BROKEN[what]
    page = PAGES["target_timeout"]
    assert before in page
    found = complaints("target_timeout", page.replace(before, after))
    assert any(said in complaint for complaint in found), found
