"""The composition root: the only module that names adapters. Everything else is given what it works with.

Adapters are imported when they are opened, so that a command pays only for what it uses.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from broker_bridge.clock import Clock, SystemClock
from broker_bridge.config import BridgeConfig, HttpTarget, KafkaSection, PythonTarget, RouteConfig, TopicTarget
from broker_bridge.consumer import Handler
from broker_bridge.contracts.codec import Codec
from broker_bridge.contracts.contract import Contract
from broker_bridge.contracts.directory import SchemaDirectory
from broker_bridge.contracts.naming import SubjectNaming
from broker_bridge.contracts.upcasters import load_upcasters
from broker_bridge.errors import ConfigError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.observability import names
from broker_bridge.observability.logging import get_logger
from broker_bridge.observability.metrics import WorkerMetrics
from broker_bridge.producer import Producer
from broker_bridge.transport.base import Transport
from broker_bridge.worker.attempt import Attempt
from broker_bridge.worker.conflict import PayloadComparison
from broker_bridge.worker.health import HealthServer
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.route_worker import RouteWorker
from broker_bridge.worker.supervisor import Worker
from broker_bridge.worker.targets.base import Target

if TYPE_CHECKING:
    from broker_bridge.contracts.registry_source import RegistrySource
    from broker_bridge.idempotency.degraded import DegradedStore
    from broker_bridge.idempotency.late_start import LateStartStore
    from broker_bridge.outbox.metrics import RelayMetrics
    from broker_bridge.outbox.outbox import Outbox
    from broker_bridge.outbox.relay import OutboxRelay, RelaySettings

RELAY_REQUEST_BYTES = 1_048_576
"""What an outbox takes fits in it; a larger limit of a topic's own is for whoever raises ``max_record_bytes``."""

WORKER_REQUEST_BYTES = 2_000_000
"""A worker's copies of records carry headers of its own and must not be refused for them; see ``worker.topics``."""


def open_transport(config: BridgeConfig, *, max_request_bytes: int = 1_000_000) -> Transport:
    """Kafka as ``[kafka]`` says. Connects when a client of it starts."""
    from broker_bridge.transport.kafka import KafkaTransport

    return KafkaTransport(kafka_settings(config.kafka, config.bridge.service, max_request_bytes=max_request_bytes))


def kafka_settings(section: KafkaSection, client_id: str, *, max_request_bytes: int = 1_000_000) -> Any:
    """``[kafka]`` as the adapter's settings."""
    from broker_bridge.transport.kafka_settings import KafkaSettings

    given: dict[str, Any] = {
        name: getattr(section, name)
        for name in ("bootstrap", "security_protocol", "username", "password", "allow_plaintext", "compression")
    }
    if section.sasl_mechanism is not None:
        given["sasl_mechanism"] = section.sasl_mechanism
    for name in ("ca_file", "cert_file", "key_file"):
        given[name] = None if getattr(section, name) is None else str(getattr(section, name))
    return KafkaSettings(
        **given,
        client_id=client_id,
        session_timeout_ms=section.session_timeout_ms,
        heartbeat_interval_ms=min(3_000, section.session_timeout_ms // 3),
        rebalance_timeout_ms=section.rebalance_timeout_ms,
        max_request_bytes=max_request_bytes,
    )


def open_store(config: BridgeConfig) -> IdempotencyStore:
    """Redis as ``[redis]`` says. Connects when started."""
    from broker_bridge.idempotency.redis import RedisStore

    section = config.redis
    return RedisStore(
        section.url.get_secret_value(),
        prefix=section.prefix,
        wait_replicas=section.wait_replicas,
        allow_unsafe=["eviction"] if section.allow_eviction else [],
    )


def open_codec(
    config: BridgeConfig, *, routes: Iterable[RouteConfig] = (), waits: bool = True, drafts: bool = False
) -> Codec:
    """The contracts of ``[bridge] schemas``, or of ``[registry]``, and the upcasters. With ``drafts``, files without an
    id are passed over, and of a registry nothing is taken from the folder.

    Of a registry, what ``routes`` name is fetched at once; later, a call waits for what it lacks only if ``waits``.
    That is for commands, which register nothing either.
    Raises ``ContractError`` where the directory is damaged or a contract is not there, ``ConfigError`` where an
    upcaster cannot be, ``RegistryError`` where the registry is away and nothing was kept.
    """
    named = config.bridge.upcasters
    registry = None
    if config.registry.url:
        registry = _open_registry(config, may_register=not waits, with_folder=not drafts)
    codec = Codec(
        registry or SchemaDirectory(config.bridge.schemas, drafts=drafts),
        naming=SubjectNaming(config.bridge.subjects),
        upcasters=load_upcasters(named) if named else None,
        drafts=drafts,
    )
    if registry is not None:
        for route in routes:
            _fetch_contracts(codec, registry, route)
        registry.waits = waits
    return codec


def _open_registry(config: BridgeConfig, *, may_register: bool, with_folder: bool) -> RegistrySource:
    from broker_bridge.contracts.registry_cache import SchemaCache
    from broker_bridge.contracts.registry_client import RegistryClient
    from broker_bridge.contracts.registry_source import RegistrySource

    section, folder = config.registry, config.bridge.schemas
    return RegistrySource(
        RegistryClient(section),
        cache=SchemaCache(section.cache, section.urls) if section.cache is not None else None,
        folder=SchemaDirectory(folder, drafts=True) if with_folder and folder.is_dir() else None,
        auto_register=section.auto_register and may_register,
        unknown_ttl_s=section.unknown_ttl_ms / 1000,
    )


def _fetch_contracts(codec: Codec, registry: RegistrySource, route: RouteConfig) -> None:
    if route.contract is not None:
        registry.recall(codec.contract_for(route.topic, route.contract.subject, route.contract.version))
    if route.output is not None:
        codec.contract_for(route.output.topic, route.output.subject, route.output.version)


def open_producer(
    config: BridgeConfig, *, transport: Transport | None = None, codec: Codec | None = None, clock: Clock | None = None
) -> Producer:
    """The embeddable producer."""
    return Producer(
        transport or open_transport(config),
        codec or open_codec(config, waits=False),
        source=config.producer.source,
        clock=clock or SystemClock(),
        delivery_timeout_ms=config.kafka.delivery_timeout_ms,
        wire_form=config.producer.wire_form,
    )


def open_outbox(config: BridgeConfig, *, table: str = "bridge_outbox") -> Outbox:
    """The outbox of a service, with the contracts and the source of ``config``."""
    from broker_bridge.outbox.outbox import Outbox

    producer = config.producer
    return Outbox(open_codec(config, waits=False), source=producer.source, table=table, wire_form=producer.wire_form)


def make_outbox_relay(
    config: BridgeConfig,
    database_url: str,
    *,
    settings: RelaySettings | None = None,
    metrics: RelayMetrics | None = None,
    transport: Transport | None = None,
) -> OutboxRelay:
    """A relay from the outbox in ``database_url`` to ``[kafka]``. Raises ``ConfigError``."""
    from broker_bridge.database.session import open_database
    from broker_bridge.outbox.relay import OutboxRelay

    transport = transport or open_transport(config, max_request_bytes=RELAY_REQUEST_BYTES)
    return OutboxRelay(
        open_database(database_url),
        transport.producer(delivery_timeout_ms=config.kafka.delivery_timeout_ms),
        owner=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        clock=SystemClock(),
        log=get_logger("broker_bridge.outbox"),
        settings=settings,
        metrics=metrics,
    )


def make_target(route: RouteConfig, *, clock: Clock, handler: Handler[Any] | None = None) -> Target:
    """The target that ``[route.target]`` names, or ``handler`` where one is given."""
    from broker_bridge.worker.targets.python import PythonHandlerTarget, load_handler

    if handler is not None:
        return PythonHandlerTarget(handler)
    match route.target:
        case HttpTarget() as http:
            from broker_bridge.worker.targets.http import HttpEndpointTarget

            return HttpEndpointTarget(http, concurrency=route.concurrency, clock=clock)
        case PythonTarget() as python:
            return PythonHandlerTarget(load_handler(python.handler))
        case TopicTarget() as topic:
            from broker_bridge.worker.targets.topic import TopicForwardTarget

            return TopicForwardTarget(topic)


def make_worker(
    config: BridgeConfig,
    *,
    routes: list[str] | None = None,
    handlers: dict[str, Handler[Any]] | None = None,
    transport: Transport | None = None,
    store: IdempotencyStore | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    codec: Codec | None = None,
    observe: Callable[[RouteConfig, Target], Target] | None = None,
) -> Worker:
    """A worker for the routes of ``config`` (or those named). ``handlers`` replace targets, by route name; ``observe``
    may put something around each target.

    Raises ``ConfigError`` where there is no route, or none of that name.
    """
    chosen = chosen_routes(config, routes)
    clock = clock or SystemClock()
    transport = transport or open_transport(config, max_request_bytes=WORKER_REQUEST_BYTES)
    store = store or open_store(config)
    codec = codec or open_codec(config, routes=chosen, waits=False)
    metrics = WorkerMetrics(service=config.bridge.service)
    store, store_of = _stores(chosen, store, clock=clock, metrics=metrics)
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    made = []
    for route in chosen:
        metrics.route(route.name)
        pipeline = Pipeline.of(
            route,
            worker=worker_id,
            service=config.bridge.service,
            release=config.bridge.release,
            clock=clock,
            rng=rng or random.Random(secrets.randbits(64)),  # noqa: S311 - nonces and jitter, no secrets
            metrics=metrics,
            log=get_logger("broker_bridge.worker").bind(route=route.name, group=route.group),
        )
        target = make_target(route, clock=clock, handler=(handlers or {}).get(route.name))
        if observe is not None:
            target = observe(route, target)
        made.append(
            RouteWorker(
                pipeline,
                transport=transport,
                store=store_of[route.name],
                target=target,
                attempt=Attempt(pipeline, target, codec, wire_form=config.producer.wire_form),
                comparison=PayloadComparison(transport, codec, route.topic, _read_as(codec, route)),
                producer=transport.producer(delivery_timeout_ms=config.kafka.delivery_timeout_ms),
                member=f"{config.kafka.member}.{route.name}" if config.kafka.member else None,
            )
        )
    worker = Worker(made, store, worker_id=worker_id)
    if config.health.listen is not None:
        worker.health = HealthServer(
            config.health.listen, live=worker.live, ready=worker.ready, metrics=metrics, details=worker.details
        )
    return worker


def _read_as(codec: Codec, route: RouteConfig) -> Contract | None:
    section = route.contract
    return None if section is None else codec.contract_for(route.topic, section.subject, section.version)


def _stores(
    routes: list[RouteConfig], store: IdempotencyStore, *, clock: Clock, metrics: WorkerMetrics
) -> tuple[IdempotencyStore, dict[str, IdempotencyStore]]:
    """What the worker starts and stops, and what each route claims from: by ``claims.on_redis_down`` something around
    ``store``, so that the engine need not know of the policy."""
    if all(route.claims.on_redis_down == "block" for route in routes):
        return store, {route.name: store for route in routes}
    from broker_bridge.idempotency.late_start import LateStartStore

    late = LateStartStore(store, log=get_logger("broker_bridge.idempotency"))
    store_of: dict[str, IdempotencyStore] = {}
    for route in routes:
        store_of[route.name] = late
        if route.claims.on_redis_down != "block":
            store_of[route.name] = _degraded(route, late, clock=clock, metrics=metrics)
    return late, store_of


def _degraded(route: RouteConfig, late: LateStartStore, *, clock: Clock, metrics: WorkerMetrics) -> DegradedStore:
    from broker_bridge.idempotency.absence import Flag
    from broker_bridge.idempotency.degraded import DegradedStore

    def counted(flag: Flag, count: int) -> None:
        match flag:
            case Flag.FAILED:
                metrics.store_error(route.name, count)
            case Flag.UNGUARDED:
                metrics.window(route.name, names.W5_FAILED_OPEN, count)
            case Flag.COLLIDED | Flag.DROPPED:
                metrics.unguarded_claim(route.name, flag.value, count)

    assert route.claims.on_redis_down != "block"
    log = get_logger("broker_bridge.idempotency").bind(route=route.name, group=route.group)
    made = DegradedStore(late, clock, policy=route.claims.on_redis_down, log=log, counted=counted)
    late.before_stop.append(made.stop)
    return made


def chosen_routes(config: BridgeConfig, names: list[str] | None) -> list[RouteConfig]:
    """The routes of those names, all without any. Raises ``ConfigError`` where there is none, or none of a name."""
    if not config.routes:
        raise ConfigError("there is no [[route]] to run", remedy="add a [[route]] with a topic and a target")
    known = {route.name: route for route in config.routes}
    for name in names or []:
        if name not in known:
            raise ConfigError(f"there is no route {name!r}", remedy=f"routes are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(config.routes)
