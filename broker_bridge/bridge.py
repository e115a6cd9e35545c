"""The bridge as part of a service: a producer, and handlers that run in the service's own process.

::

    bridge = Bridge(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379/0", schemas="schemas")

    @bridge.route("orders.placed", group="billing", contract="shop.OrderPlaced")
    async def bill(order: OrderPlaced) -> None: ...

    await bridge.create_topics(partitions=4)    # once; nothing creates topics by accident
    async with bridge.producer(source="/shop/web") as producer:
        await producer.send("orders.placed", order, key=order.customer_id, contract="shop.OrderPlaced")
    await bridge.run()
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from broker_bridge.config import BridgeConfig, OutputSection, RouteConfig, config_from, load_config
from broker_bridge.config.route import EMBEDDED
from broker_bridge.consumer import Handler, HandlerFunction
from broker_bridge.errors import ConfigError

if TYPE_CHECKING:
    from broker_bridge.outbox import Outbox
    from broker_bridge.producer import Producer
    from broker_bridge.worker.supervisor import Worker

R = TypeVar("R")


class Bridge:
    """Settings, and the handlers of this process. Opens nothing until a producer starts or ``run`` is called.

    ``kafka`` is ``host:port``, several separated by commas; ``redis`` a URL; ``schemas`` the contracts' directory.
    Everything else that
    ``bridge.toml`` can say is said with ``Bridge.load``. Raises ``ConfigError``.
    """

    def __init__(
        self,
        *,
        kafka: str = "127.0.0.1:9092",
        redis: str = "redis://127.0.0.1:6379/0",
        schemas: str | Path = "schemas",
        service: str = "broker-bridge",
        config: BridgeConfig | None = None,
    ) -> None:
        self.config = config or config_from(
            {
                "bridge": {"service": service, "schemas": str(schemas)},
                "kafka": {"bootstrap": kafka},
                "redis": {"url": redis},
                "health": {"listen": "off"},
            }
        )
        self.handlers: dict[str, Handler[Any]] = {}
        self._worker: Worker | None = None

    @classmethod
    def load(cls, path: str | Path = "bridge.toml") -> Bridge:
        """The bridge that a configuration file and the environment describe."""
        return cls(config=load_config(Path(path), os.environ))

    def handler(self, route: str) -> Callable[[HandlerFunction[R]], Handler[R]]:
        """Make an async function the target of a route that the configuration has. Raises ``ConfigError``."""
        if self.config.route(route) is None:
            known = ", ".join(found.name for found in self.config.routes) or "none"
            raise ConfigError(
                f"there is no route {route!r}", remedy=f"routes are: {known}; or declare one with route()"
            )

        def register(function: HandlerFunction[R]) -> Handler[R]:
            made = function if isinstance(function, Handler) else Handler(function)
            self.handlers[route] = made
            return made

        return register

    def route(
        self,
        topic: str,
        *,
        group: str,
        contract: str | None = None,
        version: int | None = None,
        version_field: str | None = None,
        output: OutputSection | dict[str, Any] | None = None,
        **policies: Any,
    ) -> Callable[[HandlerFunction[R]], Handler[R]]:
        """Declare a route with an async function as its target.

        ``contract`` is the subject that values are read as (``version``: the latest; ``version_field``: the field by
        which a replay knows that it is behind), ``output`` where the function's answers go.
        ``policies`` are the other keys of ``[[route]]``: ``order``, ``concurrency``, ``retry`` … Raises
        ``ConfigError``.
        """

        def register(function: HandlerFunction[R]) -> Handler[R]:
            made = function if isinstance(function, Handler) else Handler(function)
            section = {
                "name": policies.pop("name", group),
                "topic": topic,
                "group": group,
                "target": {"kind": "python", "handler": EMBEDDED},
                **policies,
            }
            if contract is not None:
                section["contract"] = {"subject": contract, "version": version, "version_field": version_field}
            if output is not None:
                section["output"] = output
            self._add(config_from({"route": [section]}).routes[0], made)
            return made

        return register

    def _add(self, route: RouteConfig, handler: Handler[Any]) -> None:
        if self.config.route(route.name) is not None:
            raise ConfigError(f"there is a route {route.name!r} already", remedy="give this one another name=…")
        self.config = self.config.model_copy(update={"routes": [*self.config.routes, route]})
        self.handlers[route.name] = handler

    def producer(self, *, source: str | None = None, wire_form: str | None = None) -> Producer:
        """A producer; ``source`` is the CloudEvents source of its events, ``wire_form`` how their values name their
        schema: ``"confluent"``, ``"header"`` or ``"single-object"``. Use it with ``async with``."""
        from broker_bridge.bootstrap import open_producer

        return open_producer(self._with_producer(source=source, wire_form=wire_form))

    def outbox(
        self, *, source: str | None = None, table: str = "bridge_outbox", wire_form: str | None = None
    ) -> Outbox:
        """An outbox: events written in the service's own transaction; the rest is as for ``producer``."""
        from broker_bridge.bootstrap import open_outbox

        return open_outbox(self._with_producer(source=source, wire_form=wire_form), table=table)

    def _with_producer(self, **given: str | None) -> BridgeConfig:
        said = {key: value for key, value in given.items() if value is not None}
        return self.config.model_copy(update={"producer": self.config.producer.model_copy(update=said)})

    async def create_topics(self, *, partitions: int, replication: int = 1) -> list[str]:
        """Create the topics and lanes of every route that do not exist, and return their names.

        ``partitions`` is for topics; lanes get as many as their source has. Raises ``TransportError``, and
        ``ConfigError`` where a lane does not fit its source.
        """
        from broker_bridge.bootstrap import open_transport
        from broker_bridge.worker.topics import ensure_topics

        admin = open_transport(self.config).admin()
        await admin.start()
        try:
            return await ensure_topics(admin, self.config.routes, partitions=partitions, replication=replication)
        finally:
            await admin.stop()

    def stop(self) -> None:
        """Ask ``run`` to drain and return."""
        if self._worker is not None:
            self._worker.stop()

    async def run(self, *, signals: bool = True, replication: int = 1) -> None:
        """Create the lanes that are missing, then deliver until ``stop``, SIGTERM or Ctrl-C.

        With ``signals=False`` signals are left to the caller. Raises ``UnsafeSettingsError`` where a topic may lose
        what it acknowledged, ``BridgeError`` where going on is impossible.
        """
        from broker_bridge.bootstrap import make_worker, open_codec, open_transport
        from broker_bridge.worker.safe_start import prepare_start

        codec = await asyncio.to_thread(open_codec, self.config, routes=self.config.routes, waits=False)
        self._worker = worker = make_worker(self.config, handlers=self.handlers, codec=codec)
        if signals:
            for wanted in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(wanted, worker.stop)
        admin = open_transport(self.config).admin()
        await admin.start()
        try:
            await prepare_start(admin, self.config, self.config.routes, replication=replication)
        finally:
            await admin.stop()
        await worker.run()
