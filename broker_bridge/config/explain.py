"""What pydantic found wrong, in the words of a person who wrote the file."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from broker_bridge.config.model import BridgeConfig
from broker_bridge.config.problems import KeyPath, Problem, shown
from broker_bridge.config.route import HttpTarget, PythonTarget, TopicTarget

TYPE_NAMES: Final = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in [ ]",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path in quotes",
    "secret_type": "text in quotes",
}
BOUNDS: Final = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
TARGETS: Final = (HttpTarget, PythonTarget, TopicTarget)
UNIT_SUFFIXES: Final = ("_ms", "_s", "_seconds")


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys a section has in TOML, with their fields."""
    return {str(info.validation_alias or name): info for name, info in model.model_fields.items()}


def models_in(annotation: object) -> list[type[BaseModel]]:
    """The sections an annotation may hold: one, or the members of a union; also inside a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, list, Annotated):
        return [model for argument in get_args(annotation) for model in models_in(argument)]
    return []


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section, where the annotation is exactly one and no list."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def explained(error: ValidationError, data: Mapping[str, Any]) -> list[Problem]:
    """Every problem of ``error``. ``data`` is what was validated, to name routes by."""
    return [_problem(details, data) for details in error.errors(include_url=False)]


def route_label(data: Mapping[str, Any], index: int) -> str:
    """The name of the route at ``index``, empty where it has none that can be shown."""
    routes = data.get("route")
    route = routes[index] if isinstance(routes, list) and index < len(routes) else None
    name = route.get("name") if isinstance(route, dict) else None
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 60 else ""


def _problem(details: ErrorDetails, data: Mapping[str, Any]) -> Problem:
    path, owners = _walk(details["loc"])
    text, remedy, value = _words(details, path, owners)
    label = route_label(data, path[1]) if len(path) > 1 and isinstance(path[1], int) else ""
    return Problem(path, text, remedy=remedy, value=value, label=label)


def _walk(loc: Sequence[str | int]) -> tuple[KeyPath, list[type[BaseModel]]]:
    """The TOML path of a pydantic location (which also names union members), and what may hold its last key."""
    path: list[str | int] = []
    owners: list[type[BaseModel]] = [BridgeConfig]
    inside: list[type[BaseModel]] = [BridgeConfig]
    for part in loc:
        if isinstance(part, int):
            path.append(part)
            continue
        tagged = [model for model in inside if len(inside) > 1 and model.model_fields["kind"].default == part]
        if tagged:
            inside = tagged
            continue
        path.append(part)
        owners = inside or owners
        fields = [keys_of(model)[part] for model in inside if part in keys_of(model)]
        inside = [model for info in fields for model in models_in(info.annotation)]
    return tuple(path), owners


def _words(details: ErrorDetails, path: KeyPath, owners: list[type[BaseModel]]) -> tuple[str, str, str | None]:
    """Text, remedy and value to show."""
    kind, given = details["type"], details["input"]
    context = details.get("ctx", {})
    value = shown(path, given)
    key = str(path[-1]) if path else ""
    if kind == "bridge":
        return context["text"], context["remedy"], value
    if kind == "extra_forbidden":
        return "unknown key", _of_another_kind(key, owners) or _meant(key, _all_keys(owners)), None
    if kind in ("missing", "union_tag_not_found"):
        if kind == "union_tag_not_found":
            return "has no kind", 'add kind = "http", "python" or "topic"', None
        return "is required, but missing", f"add {key} = …" if not models_in(_annotation(key, owners)) else "", None
    if kind == "union_tag_invalid":
        return (
            "must be one of 'http', 'python', 'topic'",
            _meant(context["tag"], ("http", "python", "topic")),
            (shown(path, context["tag"])),
        )
    if kind == "literal_error":
        choices = [choice for choice in _choices(_annotation(key, owners)) if isinstance(choice, str)]
        near = difflib.get_close_matches(str(given).lower(), choices, n=1)
        near = near or [choice for choice in choices if choice.lower() == str(given).lower()]
        return f"must be one of {context['expected'].replace(' or ', ', ')}", _did_you_mean(near), value
    if kind in TYPE_NAMES:
        remedy = "write [[route]] with two brackets, one for each route" if path == ("route",) else ""
        return f"must be {TYPE_NAMES[kind]}, not {_kind_of(given)}", remedy, value
    if kind in BOUNDS:
        words, bound = BOUNDS[kind]
        return f"must be {words} {context[bound]}", "", value
    if kind == "string_too_short":
        return "must not be empty", "", value
    return details["msg"].lower(), "", value


def _annotation(key: str, owners: list[type[BaseModel]]) -> object:
    return next((keys_of(owner)[key].annotation for owner in owners if key in keys_of(owner)), None)


def _choices(annotation: object) -> Iterator[object]:
    for argument in get_args(annotation):
        if get_args(argument):
            yield from _choices(argument)
        else:
            yield argument


def _all_keys(owners: list[type[BaseModel]]) -> list[str]:
    return [key for owner in owners for key in keys_of(owner)]


def _of_another_kind(key: str, owners: list[type[BaseModel]]) -> str:
    kinds = [kind.model_fields["kind"].default for kind in TARGETS if key in keys_of(kind)]
    return f"{key} belongs to kind = {' or '.join(map(repr, kinds))}" if kinds and owners[0] in TARGETS else ""


def _meant(key: str, known: Sequence[str]) -> str:
    for suffix in UNIT_SUFFIXES:
        bare = key.removesuffix(suffix)
        if bare != key and bare in known:
            return f'did you mean {bare!r}? Units go into the value: {bare} = "30s"'
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return _did_you_mean(near) or f"known here: {', '.join(sorted(known))}"


def _did_you_mean(near: Sequence[str]) -> str:
    return f"did you mean {near[0]!r}?" if near else ""


def _kind_of(value: object) -> str:
    names: list[tuple[type, str]] = [
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number with a fraction"),
        (str, "text"),
        (list, "a list"),
        (dict, "a table"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")
