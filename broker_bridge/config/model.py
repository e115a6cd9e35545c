"""The whole of ``bridge.toml`` as frozen models: what is set once for all routes, and the list of routes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from broker_bridge.config.route import RouteConfig
from broker_bridge.config.types import (
    Address,
    Addresses,
    ConfigFile,
    ConfigPath,
    DurationMs,
    KafkaName,
    SecretUrl,
    Section,
    host_of,
    problem,
)
from broker_bridge.core.lanes import topic_name_problem

DEFAULT_SERVICE = "broker-bridge"
LONGEST_MEMBER = 100


def _module_name(name: str | None) -> str | None:
    if name is not None and not all(part.isidentifier() for part in name.split(".")):
        raise problem(f"must be the name of a module, not {name!r}", 'for example: upcasters = "shop.upcasters"')
    return name


class BridgeSection(Section):
    """``[bridge]``: the service's name and release in logs and dead letters, where the schemas are.

    ``subjects`` says under which subject a topic's records have their schema; ``upcasters`` names the module whose
    functions lead old values to newer versions.
    """

    service: str = Field(default=DEFAULT_SERVICE, min_length=1)
    release: str = ""
    schemas: ConfigPath = Path("schemas")
    subjects: Literal["record", "topic", "topic-record"] = "record"
    upcasters: Annotated[str | None, AfterValidator(_module_name)] = None


def _member(name: str) -> str:
    wrong = topic_name_problem(name)
    if wrong or len(name) > LONGEST_MEMBER:
        raise problem(wrong or f"must have at most {LONGEST_MEMBER} characters")
    return name


class KafkaSection(Section):
    """``[kafka]``: how to reach the brokers. ``delivery_timeout_ms`` bounds every send.

    ``member`` makes the worker a static member of its groups, as ``<member>.<route>``: restarted within
    ``session_timeout_ms`` it has its partitions again, and the others notice nothing. Each worker needs its own.
    """

    bootstrap: Addresses = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: ConfigFile | None = None
    cert_file: ConfigFile | None = None
    key_file: ConfigFile | None = None
    session_timeout_ms: DurationMs = Field(default=45_000, ge=1, validation_alias="session_timeout")
    rebalance_timeout_ms: DurationMs = Field(default=60_000, ge=1, validation_alias="rebalance_timeout")
    allow_plaintext: bool = False
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    delivery_timeout_ms: DurationMs = Field(default=30_000, ge=1, validation_alias="delivery_timeout")
    member: Annotated[str, AfterValidator(_member)] | None = None
    allow_unsafe_topics: bool = False


def _redis_url(url: SecretUrl) -> SecretUrl:
    if url.get_secret_value().partition("://")[0] not in ("redis", "rediss") or not host_of(url.get_secret_value()):
        raise problem(
            "must be a redis:// or rediss:// URL with a host", 'for example: url = "redis://127.0.0.1:6379/0"'
        )
    return url


class RedisSection(Section):
    """``[redis]``: where claims are kept. ``wait_replicas`` > 0 waits for that many replicas after each write."""

    url: Annotated[SecretUrl, AfterValidator(_redis_url)] = SecretUrl("redis://127.0.0.1:6379/0")
    prefix: KafkaName = "bb"
    wait_replicas: int = Field(default=0, ge=0)
    allow_eviction: bool = False
    allow_plaintext: bool = False


def _registry_urls(written: str | None) -> str | None:
    for url in (written or "").split(",") if written is not None else []:
        try:
            parts = urlsplit(url.strip())
            found = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            found = False
        if not found:
            raise problem("must be http:// or https:// URLs with a host", 'for example: url = "http://127.0.0.1:8081"')
        if parts.username is not None or parts.query or parts.fragment:
            raise problem("must have no credentials, query or fragment", "set username and password beside it")
    return written


def _off_is_none(written: object) -> object:
    return None if written == "off" else written


class RegistrySection(Section):
    """``[registry]``: a registry that speaks the Confluent REST API. Without ``url`` contracts are the folder alone.

    Several URLs, separated by commas, are one registry. ``retries`` is how often a call is repeated that failed in a
    way that may pass. ``unknown_ttl_ms`` is how long an id that the registry does not know is not asked for again.
    """

    url: Annotated[str | None, AfterValidator(_registry_urls)] = None
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    ca_file: ConfigFile | None = None
    cert_file: ConfigFile | None = None
    key_file: ConfigFile | None = None
    timeout_ms: DurationMs = Field(default=5_000, ge=1, validation_alias="timeout")
    retries: int = Field(default=3, ge=0, le=20)
    cache: Annotated[ConfigPath | None, BeforeValidator(_off_is_none)] = Path(".bridge/registry")
    unknown_ttl_ms: DurationMs = Field(default=30_000, ge=1, validation_alias="unknown_ttl")
    auto_register: bool = False
    allow_plaintext: bool = False

    @property
    def urls(self) -> list[str]:
        """The base URLs, without a slash at the end."""
        return [url.strip().rstrip("/") for url in (self.url or "").split(",") if url.strip()]


class HealthSection(Section):
    """``[health]``: where each worker answers health and metrics. Port 0 takes a free one; ``"off"`` is None."""

    listen: Annotated[Address | None, BeforeValidator(_off_is_none)] = "127.0.0.1:0"


class LoggingSection(Section):
    """``[logging]``: ``auto`` is for people on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console", "auto"] = "auto"


class ProducerSection(Section):
    """``[producer]``: the CloudEvents source of what this service writes, by default the service's name, and how its
    values say which schema wrote them."""

    source: str = Field(default=DEFAULT_SERVICE, min_length=1)
    wire_form: Literal["confluent", "header", "single-object"] = "confluent"


class OperationsSection(Section):
    """``[operations]``: the topic that keeps what operators did. ``replication`` is used where it must be created;
    without it three copies, or as many as there are brokers."""

    topic: KafkaName = "broker-bridge.operations"
    replication: int | None = Field(default=None, ge=1, le=32_767)


class BridgeConfig(Section):
    """Everything in ``bridge.toml``."""

    bridge: BridgeSection = BridgeSection()
    kafka: KafkaSection = KafkaSection()
    redis: RedisSection = RedisSection()
    registry: RegistrySection = RegistrySection()
    health: HealthSection = HealthSection()
    logging: LoggingSection = LoggingSection()
    producer: ProducerSection = ProducerSection()
    operations: OperationsSection = OperationsSection()
    routes: list[RouteConfig] = Field(default=[], validation_alias="route")

    @model_validator(mode="before")
    @classmethod
    def _sources(cls, data: Any) -> Any:
        """Fill in ``producer.source`` from the service's name, and each output's source from that."""
        if not isinstance(data, dict):
            return data
        service = _text(data.get("bridge"), "service") or DEFAULT_SERVICE
        source = _text(data.get("producer"), "source") or service
        filled = {"bridge": {}, "registry": {}, **data}  # so that default folders, too, start at the file's folder
        producer = data.get("producer", {})
        if isinstance(producer, dict) and "source" not in producer:
            filled["producer"] = {**producer, "source": source}
        key = "route" if "route" in data else "routes"
        if isinstance(data.get(key), list):
            filled[key] = [_with_source(route, source) for route in data[key]]
        return filled

    def route(self, name: str) -> RouteConfig | None:
        """The route of that name, None where there is none."""
        return next((route for route in self.routes if route.name == name), None)


def _text(section: object, key: str) -> str | None:
    found = section.get(key) if isinstance(section, dict) else getattr(section, key, None)
    return found if isinstance(found, str) else None


def _with_source(route: Any, source: str) -> Any:
    if isinstance(route, RouteConfig):
        if route.output is None or route.output.source:
            return route
        return route.model_copy(update={"output": route.output.model_copy(update={"source": source})})
    output = route.get("output") if isinstance(route, dict) else None
    if isinstance(output, dict) and "source" not in output:
        return {**route, "output": {**output, "source": source}}
    return route
