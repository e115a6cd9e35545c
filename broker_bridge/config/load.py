"""Reading ``bridge.toml`` and the environment into a ``BridgeConfig``, or saying everything that is wrong at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from broker_bridge.config.checks import cross_problems
from broker_bridge.config.environment import overlay
from broker_bridge.config.explain import explained
from broker_bridge.config.lines import LineIndex
from broker_bridge.config.model import BridgeConfig
from broker_bridge.config.problems import Problem, error_of
from broker_bridge.config.types import BASE_DIR
from broker_bridge.errors import ConfigError

LARGEST_BYTES: Final = 1 << 20
"""A configuration beyond this is some other file."""

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")


def load_config(path: Path, environ: Mapping[str, str], *, may_miss: bool = False) -> BridgeConfig:
    """The configuration in ``path`` with the ``BROKER_BRIDGE_<SECTION>__<FIELD>`` variables of ``environ`` over it.

    With ``may_miss`` a file that is not there is taken for an empty one.

    Raises ``ConfigError`` that lists every problem: key, line, value given, remedy; ``UnsafeSettingsError`` where the
    only problems are settings that would break the guarantee.
    """
    text = "" if may_miss and not path.exists() else _read(path)
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, str(error)) from None
    return _validated(raw, environ, path, LineIndex(text))


def config_from(raw: Mapping[str, Any], *, base_dir: Path | None = None) -> BridgeConfig:
    """The same from values in code: the sections and keys of ``bridge.toml`` as a mapping. No environment is read.

    Relative paths start at ``base_dir``, by default the current directory. Raises as ``load_config`` does.
    """
    return _validated(dict(raw), {}, (base_dir or Path.cwd()) / "<configuration in code>", LineIndex(""))


def _validated(raw: dict[str, Any], environ: Mapping[str, str], path: Path, lines: LineIndex) -> BridgeConfig:
    overlaid = overlay(raw, environ)
    context = {BASE_DIR: path.parent}
    problems = list(overlaid.problems)
    config: BridgeConfig | None = None
    try:
        config = BridgeConfig.model_validate(overlaid.data, by_alias=True, by_name=False, context=context)
    except ValidationError as error:
        problems += explained(error, overlaid.data)
    problems += cross_problems(overlaid.data, config, context)
    if problems or config is None:
        raise error_of(problems, path=path, lines=lines, variables=overlaid.variables)
    return config


def _read(path: Path) -> str:
    remedy = "name the configuration with --config PATH"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise ConfigError("is larger than 1 MiB, so it is no bridge.toml", where=str(path), remedy=remedy)
        return content.decode()
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), remedy=remedy) from None
    except IsADirectoryError:
        raise ConfigError("is a folder, not a file", where=str(path), remedy=remedy) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", where=str(path), remedy=remedy) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None


def _not_toml(path: Path, message: str) -> ConfigError:
    place = _PLACE.search(message)
    said = _PLACE.sub("", message)
    said = said[:1].lower() + said[1:]
    line = int(place[1]) if place and place[1] else None
    problem = Problem(
        (), f"is not TOML: {said}", remedy="see https://toml.io for how tables, text and lists are written"
    )
    return error_of([problem], path=path, lines=LineIndex(""), variables={}, line=line)
