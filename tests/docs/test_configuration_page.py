"""docs/configuration.md names every key, each with its true default, and no key that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, section
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from broker_bridge.config import route as r
from broker_bridge.config.explain import keys_of, section_of
from broker_bridge.config.model import BridgeConfig
from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.core.size import parse_size_bytes

PAGE = (ROOT / "docs" / "configuration.md").read_text()
SECTIONS: dict[str, type[BaseModel]] = {
    **{f"[{key}]": found for key, info in keys_of(BridgeConfig).items() if (found := section_of(info.annotation))},
    "[[route]]": r.RouteConfig,
    "[route.contract]": r.ContractSection,
    'kind = "http"': r.HttpTarget,
    'kind = "python"': r.PythonTarget,
    'kind = "topic"': r.TopicTarget,
    "[route.output]": r.OutputSection,
    "[route.retry]": r.RetrySection,
    "[route.claims]": r.ClaimSection,
    "[route.breaker]": r.BreakerSection,
    "[route.dead_letter]": r.DeadLetterSection,
    "[route.shutdown]": r.ShutdownSection,
    "[route.lanes]": r.LanesSection,
}
ELSEWHERE = {
    ("[producer]", "source"): "`bridge.service`",
    ("[[route]]", "group"): "the name",
    ("[route.output]", "source"): "`producer.source`",
    ("[route.output]", "type"): "`subject`",
}
"""Defaults that come from other settings."""


def rows(page: str, heading: str) -> dict[str, str]:
    """The keys under a heading with the default as written."""
    own = re.split(r"^#+ ", section(page, heading), flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", own, re.MULTILINE))


def problems(page: str) -> list[str]:
    found = []
    for heading, model in SECTIONS.items():
        try:
            written = rows(page, heading)
        except KeyError:
            found.append(f"no section {heading}")
            continue
        keys = keys_of(model)
        found += [f"{heading} {key}: not documented" for key in keys if key not in written]
        found += [f"{heading} {key}: no such key" for key in written if key not in keys]
        found += [
            f"{heading} {key}: default is not {written[key]}"
            for key, info in keys.items()
            if key in written and not is_default(heading, key, info, written[key])
        ]
    return found


def is_default(heading: str, key: str, info: FieldInfo, written: str) -> bool:
    if (heading, key) in ELSEWHERE:
        return written == ELSEWHERE[heading, key]
    if info.is_required():
        return written == "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return written == "its defaults"
    if default is None:
        return written == "none"
    value = written.strip("`")
    if isinstance(default, bool):
        return value == str(default).lower()
    if isinstance(default, int) and value.startswith('"'):
        parse = parse_size_bytes if "bytes" in key else parse_duration_ms
        return parse(value.strip('"')) == default
    if isinstance(default, str | Path):
        return value == f'"{default}"'
    if hasattr(default, "get_secret_value"):
        return value == f'"{default.get_secret_value()}"'
    return value == str(default)


def test_the_page_says_what_the_models_say() -> None:
    assert problems(PAGE) == []


def test_every_section_of_a_route_is_known_here() -> None:
    nested = {key for key, info in keys_of(r.RouteConfig).items() if section_of(info.annotation)}
    assert {f"[route.{key}]" for key in nested} <= {*SECTIONS, "[route.target]"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('| `session_timeout` | `"45s"`', '| `session_timeout` | `"30s"`', "[kafka] session_timeout: default is not"),
        ("| `crash_limit` | `3`", "| `crash_limt` | `3`", "[route.claims] crash_limit: not documented"),
        ("| `probes` | `1`", "| `probes` | `1` | x |\n| `probez` | `1`", "[route.breaker] probez: no such key"),
        ("### [route.shutdown]", "### shutdown", "no section [route.shutdown]"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(before: str, after: str, said: str) -> None:
    assert before in PAGE
    assert any(problem.startswith(said) for problem in problems(PAGE.replace(before, after)))
