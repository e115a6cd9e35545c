"""A Python handler in this process as a target."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Coroutine
from typing import Any

from broker_bridge.consumer import Context, Handler
from broker_bridge.errors import ConfigError
from broker_bridge.message import Message
from broker_bridge.worker.targets.base import Form


class PythonHandlerTarget:
    """Calls one handler."""

    form: Form = "python"

    def __init__(self, handler: Handler[Any]) -> None:
        self._handler = handler
        self.of_values = handler.of_values

    async def start(self) -> None:
        """Nothing to do."""

    def deliver(self, message: Message[Any], context: Context) -> Coroutine[Any, Any, object]:
        """Call the handler."""
        return self._handler.handle(message, context)

    async def stop(self) -> None:
        """Nothing to do."""


def load_handler(name: str) -> Handler[Any]:
    """The handler ``module:attribute``, a decorated or plain async function. The current directory is importable.

    Raises ``ConfigError`` naming what is missing.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import the handler's module: {error}",
            where=name,
            remedy="run where the module is importable, or set PYTHONPATH",
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{module_name} has no {attribute!r}", where=name)
        found = getattr(found, part)
    return found if isinstance(found, Handler) else Handler(found)
