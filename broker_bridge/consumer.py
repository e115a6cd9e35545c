"""Handlers: what a user writes to act on messages, embedded in a service or run by ``broker-bridge worker run``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import UnionType
from typing import Any, Generic, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from broker_bridge.errors import ConfigError, MalformedError
from broker_bridge.message import Message

R = TypeVar("R")
HandlerFunction = Callable[..., Coroutine[Any, Any, R]]
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Context(NamedTuple):
    """What a handler may want to know of the attempt it is.

    ``attempt`` counts every try from 1, also those that cost no attempt because the target was away: above 1 the effect
    may have happened already. So it may where ``crashes``, the number of workers that stopped while they held this
    message, is above 0 (window W1). ``token`` grows with every new holder of the message's key: give it to a store that
    can refuse older ones. ``deadline_ms`` is when the attempt is broken off, in ms since the epoch.
    """

    attempt: int
    crashes: int
    token: int
    group: str
    deadline_ms: int
    is_lost: Callable[[], bool] = lambda: False

    @property
    def lost(self) -> bool:
        """Whether the message belongs to another worker by now; what is still to be done should be left undone."""
        return self.is_lost()


class Handler(Generic[R]):
    """An async function with what its signature says about messages.

    The first parameter's type decides what it is given: a pydantic model, ``dict``, or ``Message[...]`` of either for
    headers and identity as well. A second parameter, if there is one, gets the ``Context``. Calling a handler calls the
    function.
    """

    def __init__(self, function: HandlerFunction[R]) -> None:
        self.function = function
        self.name = _name(function)
        if not inspect.iscoroutinefunction(function):
            raise ConfigError("a handler must be an async function", where=self.name, remedy="write: async def …")
        signature = inspect.signature(function).parameters
        parameters = [name for name, found in signature.items() if found.kind in _BY_PLACE]
        if not 1 <= len(parameters) <= 2 or len(parameters) != len(signature):
            raise ConfigError(
                f"a handler takes the message and, if it wants, a Context; this one takes "
                f"({', '.join(map(str, signature.values()))})",
                where=self.name,
            )
        annotation = _hints(function).get(parameters[0], dict)
        self._wants_message = annotation is Message or get_origin(annotation) is Message
        inner = (get_args(annotation) or (dict,))[0] if self._wants_message else annotation
        model = _model_in(inner)
        self._adapter = TypeAdapter(model) if model is not None else None
        self._wants_context = len(parameters) == 2

    async def __call__(self, *args: Any, **kwargs: Any) -> R:
        return await self.function(*args, **kwargs)

    @property
    def of_values(self) -> Callable[[Any], Coroutine[Any, Any, R]] | None:
        """The function itself, where it wants the value as it was decoded and nothing else; most do, and no
        ``Message`` need be made for them. None for all others."""
        if self._wants_message or self._wants_context:
            return None
        return self.function if self._adapter is None else self._of_model

    def _of_model(self, value: Any) -> Coroutine[Any, Any, R]:
        return self.function(value if value is None else self._validated(value))

    def handle(self, message: Message[Any], context: Context) -> Coroutine[Any, Any, R]:
        """Give the message to the function in the form it asks for. Raises ``MalformedError`` where the model
        refuses the value. To be awaited; it is not a coroutine of its own, for that is one less to run a message."""
        if self._adapter is not None and message.value is not None:
            message.value = self._validated(message.value)
        first = message if self._wants_message else message.value
        return self.function(first, context) if self._wants_context else self.function(first)

    def _validated(self, value: Any) -> Any:
        assert self._adapter is not None
        if isinstance(value, BaseModel):
            return value
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise MalformedError(
                f"{field}: {problem['msg']}",
                where=self.name,
                remedy="the handler's model and the contract disagree; change the model or evolve the contract",
            ) from error


def _name(function: Callable[..., Any]) -> str:
    """Also of what turns out to be no function at all."""
    kind = type(function)
    module = getattr(function, "__module__", kind.__module__)
    return f"{module}:{getattr(function, '__qualname__', kind.__qualname__)}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model of ``Order`` and of ``Order | None``, as a handler that also gets tombstones writes it."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds = [kind for kind in choices if kind is not type(None)]
    if len(kinds) == 1 and inspect.isclass(kinds[0]) and issubclass(kinds[0], BaseModel):
        return kinds[0]
    return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ConfigError(f"a type in the signature is not defined: {error}", where=function.__qualname__) from error


@overload
def handler(function: HandlerFunction[R]) -> Handler[R]: ...
@overload
def handler() -> Callable[[HandlerFunction[R]], Handler[R]]: ...
def handler(
    function: HandlerFunction[R] | None = None,
) -> Handler[R] | Callable[[HandlerFunction[R]], Handler[R]]:
    """Mark an async function as a handler, so that mistakes in its signature show at import.

    ``[route.target] kind = "python"`` with ``handler = "module:name"`` runs it in a worker. Raises ``ConfigError``.
    """
    return Handler if function is None else Handler(function)
