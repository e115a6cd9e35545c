"""Environment over file: ``BROKER_BRIDGE_KAFKA__BOOTSTRAP`` stands for ``[kafka] bootstrap``.

Two underscores part section and key, one joins words inside either. Only the sections that exist once can be
overridden, not routes. A variable that names no setting is an error, so that a slip of the pen is not silently ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from broker_bridge.config.explain import keys_of, section_of
from broker_bridge.config.model import BridgeConfig
from broker_bridge.config.problems import KeyPath, Problem

PREFIX: Final = "BROKER_BRIDGE_"
NOT_SETTINGS: Final = frozenset({"BROKER_BRIDGE_DEBUG", "BROKER_BRIDGE_CONFIG"})
"""Variables of the command line itself."""


@dataclass(frozen=True)
class Overlay:
    """The merged data, which variable set which key, and the variables that name nothing."""

    data: dict[str, Any]
    variables: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def settings() -> dict[str, tuple[str, str, FieldInfo]]:
    """Every variable that is understood, with section, key and field."""
    found: dict[str, tuple[str, str, FieldInfo]] = {}
    for section, info in keys_of(BridgeConfig).items():
        model = section_of(info.annotation)
        if model is None:
            continue
        for key, inner in keys_of(model).items():
            found[f"{PREFIX}{section.upper()}__{key.upper()}"] = (section, key, inner)
    return found


def overlay(raw: Mapping[str, Any], environ: Mapping[str, str]) -> Overlay:
    """``raw`` with the variables of ``environ`` over it; ``raw`` itself stays as it is."""
    known = settings()
    result = Overlay(dict(raw))
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        if variable in known:
            _apply(result, variable, environ[variable], known[variable])
        elif _meant_as_setting(variable):
            bare = [name.removeprefix(PREFIX) for name in known]
            near = difflib.get_close_matches(variable.removeprefix(PREFIX), bare, n=1, cutoff=0.75)
            remedy = f"did you mean {PREFIX}{near[0]}?" if near else f"settings are named {PREFIX}<SECTION>__<KEY>"
            result.problems.append(Problem((), "names no setting", remedy=remedy, variable=variable))
    return result


def _meant_as_setting(variable: str) -> bool:
    """Whether it looks like a setting: other programs may use the prefix for variables of their own."""
    if variable in NOT_SETTINGS:
        return False
    section = variable.removeprefix(PREFIX).split("_", 1)[0].lower()
    return "__" in variable or section in keys_of(BridgeConfig)


def _apply(result: Overlay, variable: str, written: str, setting: tuple[str, str, FieldInfo]) -> None:
    section, key, info = setting
    table = result.data.get(section, {})
    if not isinstance(table, dict):
        return  # the file is wrong there, and will be told so
    result.data[section] = {**table, key: _typed(written, info)}
    result.variables[(section, key)] = variable


def _typed(written: str, info: FieldInfo) -> object:
    """Numbers and true/false as such; everything else stays text, for the field's own rules to judge."""
    for plain in (bool, int, float):
        if info.annotation is plain:
            try:
                return TypeAdapter[object](plain).validate_python(written)
            except ValidationError:
                return written
    return written
