"""What is wrong with a configuration, as values, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker_bridge.config.lines import LineIndex
from broker_bridge.config.types import masked_url
from broker_bridge.errors import ConfigError, UnsafeSettingsError
from broker_bridge.text import printable

KeyPath = tuple[str | int, ...]
"""Keys as in TOML; a number picks an entry of a list, from 0."""

SECRET_WORDS = ("pass", "pwd", "secret", "token", "credential", "api_key", "apikey", "auth", "headers", "username")
LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """One thing wrong at ``path``: ``text`` says what, ``value`` what was given (already fit to be shown).

    ``unsafe`` marks a setting that would break the guarantee. ``label`` names the route for people.
    """

    path: KeyPath
    text: str
    remedy: str = ""
    value: str | None = None
    unsafe: bool = False
    label: str = ""
    variable: str = ""
    """The environment variable at fault where no key of the file is."""


def shown(path: KeyPath, value: object) -> str | None:
    """The value as it may be printed: scalars only, secrets masked, long texts cut, controls escaped."""
    if value is None or isinstance(value, dict | list):
        return None
    if any(word in str(part).lower() for part in path for word in SECRET_WORDS):
        return "***"
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = masked_url(value)
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def dotted(path: KeyPath, label: str = "") -> str:
    """``route[payments].retry.lanes[1]``: routes by their label, other entries counted from 0."""
    text = ""
    for depth, part in enumerate(path):
        if isinstance(part, int):
            is_route = depth == 1 and path[0] == "route"
            text += f"[{label or f'#{part + 1}'}]" if is_route else f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def error_of(
    problems: Sequence[Problem],
    *,
    path: Path,
    lines: LineIndex,
    variables: Mapping[KeyPath, str],
    line: int | None = None,
) -> ConfigError:
    """One error that tells all of ``problems``, in the order of the file."""
    numbered = sorted(
        ((lines.find(p.path) if line is None else line, p) for p in problems), key=lambda pair: pair[0] or 0
    )
    kind = UnsafeSettingsError if all(p.unsafe for p in problems) else ConfigError
    if len(numbered) == 1:
        return kind(_told(*numbered[0], variables), where=str(path), remedy=numbered[0][1].remedy)
    parts = [f"{len(numbered)} problems"]
    for number, problem in numbered:
        parts.append(f"  {_told(number, problem, variables)}")
        if problem.remedy:
            parts.append(f"      {problem.remedy}")
    remedy = f"mend each, then check with: broker-bridge doctor --config {path}"
    return kind("\n".join(parts), where=str(path), remedy=remedy)


def _told(line: int | None, problem: Problem, variables: Mapping[KeyPath, str]) -> str:
    variable = problem.variable or variables.get(problem.path, "")
    if variable:
        place = f"environment variable {variable}"
    elif line is not None:
        place = f"line {line}"
    else:
        place = ""
    key = "" if problem.variable else dotted(problem.path, problem.label)
    if key and problem.value is not None:
        key = f"{key} = {problem.value}"
    return printable(": ".join(part for part in (place, key, problem.text) if part))
