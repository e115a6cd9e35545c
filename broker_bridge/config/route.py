"""One ``[[route]]``: which topic goes to which target under which policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from broker_bridge.config.types import DurationMs, KafkaName, Section, SizeBytes, masked_url, problem
from broker_bridge.core.duration import UNITS_MS
from broker_bridge.core.lanes import LaneNames, topic_name_problem

Count = Annotated[int, Field(ge=1)]
SHORTEST_LEASE_MS = 1_000
EMBEDDED = "embedded:handler"
"""The handler of a route that was declared in code."""


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise problem(f"must be an http:// or https:// URL with a host, not {masked_url(url)!r}")
    if "@" in parts.netloc:
        raise problem("must not carry a user or password", "send credentials in [route.target] headers")
    return url


def _origin(url: str) -> str:
    """Scheme, host and port, whatever the path."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _handler(name: str) -> str:
    module, colon, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise problem(f"must be module:function, not {name!r}", 'for example: handler = "shop.handlers:capture"')
    return name


def _header_names(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise problem(f"{name!r} is not a header name")
        if name.lower() in ("content-length", "transfer-encoding"):
            raise problem(f"{name!r} is written by the bridge: another value would tear requests apart")
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise problem(f"the value of {name!r} holds a control character")
    return headers


def _renewable(lease_ms: int) -> int:
    if lease_ms < SHORTEST_LEASE_MS:
        raise problem("must be at least 1s, so that it can be renewed in time")
    return lease_ms


class HttpTarget(Section):
    """An HTTP endpoint: each message is a POST to ``url``, answered within ``timeout_ms``.

    ``headers`` are sent with each request; their values are taken for secrets. ``allow_hosts`` empty means: only the
    host of ``url``. With ``batch`` more than 1, up to so many messages that were not tried before go in one POST.
    """

    kind: Literal["http"] = "http"
    url: Annotated[str, AfterValidator(_http_url)]
    timeout_ms: DurationMs = Field(default=10_000, ge=1, validation_alias="timeout")
    headers: Annotated[dict[str, str], AfterValidator(_header_names)] = Field(default={}, repr=False)
    allow_hosts: list[str] = Field(default=[])
    max_response_bytes: SizeBytes = Field(default=1 << 20, ge=1)
    batch: int = Field(default=1, ge=1, le=1_000)


class PythonTarget(Section):
    """A handler in this process, ``module:attribute``, that answers within ``timeout_ms``."""

    kind: Literal["python"] = "python"
    handler: Annotated[str, AfterValidator(_handler)]
    timeout_ms: DurationMs = Field(default=20_000, ge=1, validation_alias="timeout")


class TopicTarget(Section):
    """Another topic: to the partition of the same number, or to the one the key decides."""

    kind: Literal["topic"] = "topic"
    topic: KafkaName
    partitions: Literal["same", "key"] = "key"


Target = Annotated[HttpTarget | PythonTarget | TopicTarget, Field(discriminator="kind")]


class ContractSection(Section):
    """The schema that messages are read as; without ``version`` the latest.

    ``version_field`` names the whole number that grows with every change of what a record key stands for: a replay
    then never puts an older state over a newer one.
    """

    subject: str = Field(min_length=1)
    version: int | None = Field(default=None, ge=1)
    version_field: str | None = Field(default=None, min_length=1)


class OutputSection(Section):
    """Where the target's answers are published and under which contract.

    ``key`` names the field of the answer that becomes the record key; without it the source's key is kept. ``source``
    is the CloudEvents source, by default that of ``[producer]``; ``type`` the CloudEvents type, by default the
    record's full name. ``wire_form`` says how the value names its schema, by default as ``[producer]`` has it.
    """

    topic: KafkaName
    subject: str = Field(min_length=1)
    version: int | None = Field(default=None, ge=1)
    key: str | None = Field(default=None, min_length=1)
    source: str = ""
    type: str | None = Field(default=None, min_length=1)
    wire_form: Literal["confluent", "header", "single-object"] | None = None


class RetrySection(Section):
    """Attempts at the source (``in_place``, the first included) with full backoff between them, then the lanes.

    The n-th wait is ``min(max_ms, base_ms * 2**(n-1))``, of which the share ``jitter`` is random. Each of
    ``lanes_ms`` is one more attempt, made that long after the one before.

    Within ``budget_window_ms``, all workers together give one target at most ``budget_ratio`` times its first attempts,
    plus ``budget_floor_per_s`` a second, of further attempts and replays; what is beyond it waits.
    """

    in_place: Count = 3
    base_ms: DurationMs = Field(default=100, validation_alias="base")
    max_ms: DurationMs = Field(default=5_000, validation_alias="max")
    jitter: float = Field(default=0.5, ge=0, le=1)
    lanes_ms: list[Annotated[DurationMs, Field(ge=1)]] = Field(default=[], validation_alias="lanes")
    budget_ratio: float = Field(default=0.2, ge=0, le=10, validation_alias="budget")
    budget_floor_per_s: float = Field(default=10, gt=0, le=1_000_000, validation_alias="budget_floor")
    budget_window_ms: DurationMs = Field(default=10_000, ge=1_000, le=300_000, validation_alias="budget_window")


class ClaimSection(Section):
    """Idempotency claims: a claim in work holds for ``lease_ms``, a settled one is remembered for ``ttl_ms``.

    A lease is renewed while its message is in hand, at most until the target's deadline is well over (I18), so a
    handler of minutes does with a lease of seconds; a short lease means a quick takeover from a worker that died.
    """

    lease_ms: Annotated[DurationMs, AfterValidator(_renewable)] = Field(default=30_000, validation_alias="lease")
    ttl_ms: DurationMs = Field(default=7 * UNITS_MS["d"], ge=1, validation_alias="ttl")
    crash_limit: Count = 3
    on_redis_down: Literal["block", "fallback", "fail_open"] = "block"


class BreakerSection(Section):
    """When failures count as an outage of the target.

    Of the last ``window`` outcomes at least ``min_failures`` and the share ``failure_ratio`` failed, over at least
    ``min_keys`` different keys. Then no delivery for ``open_ms``, doubled each time the ``probes`` fail, up to
    ``max_open_ms``.
    """

    window: Count = 50
    min_failures: Count = 5
    min_keys: Count = 3
    failure_ratio: float = Field(default=0.5, gt=0, le=1)
    open_ms: DurationMs = Field(default=1_000, ge=1, validation_alias="open")
    max_open_ms: DurationMs = Field(default=30_000, ge=1, validation_alias="max_open")
    probes: Count = 1


class DeadLetterSection(Section):
    """What a dead letter tells (``message`` adds the scrubbed error text) and how often it may be replayed.

    With ``on_dead = "hold"`` later messages of the key wait in the last retry lane until the dead letter was replayed.
    More than ``limit`` dead letters within ``limit_window_ms`` stop the route; 0 sets no limit.
    """

    message: bool = False
    on_dead: Literal["release", "hold"] = "release"
    max_hops: Count = 5
    limit: int = Field(default=1_000, ge=0)
    limit_window_ms: DurationMs = Field(default=60_000, ge=1, validation_alias="limit_window")


class ShutdownSection(Section):
    """How long work in hand may go on after SIGTERM or when a partition is given up, and how long a handler that is
    cancelled then may take to end; after that the worker ends without it."""

    drain_ms: DurationMs = Field(default=20_000, validation_alias="drain")
    grace_ms: DurationMs = Field(default=5_000, validation_alias="grace")


class LanesSection(Section):
    """How long the lanes keep their records. Partitions are always as many as the source topic has.

    The default is a day less than that of ``claims.ttl_ms``, so that a replayed dead letter still meets its claim
    (I19).
    """

    retention_ms: DurationMs = Field(default=6 * UNITS_MS["d"], ge=1, validation_alias="retention")


class RouteConfig(Section):
    """One route. ``group`` is the consumer group, by default the route's name."""

    name: KafkaName
    topic: KafkaName
    group: KafkaName = ""
    order: Literal["key", "partition", "none"] = "key"
    concurrency: Count = 16
    max_in_flight: Count = 2_000
    max_in_flight_bytes: SizeBytes = Field(default=64 << 20, ge=1)
    poll_records: Count = 500
    commit_interval_ms: DurationMs = Field(default=500, ge=1, validation_alias="commit_interval")
    contract: ContractSection | None = None
    target: Target
    output: OutputSection | None = None
    retry: RetrySection = RetrySection()
    claims: ClaimSection = ClaimSection()
    breaker: BreakerSection = BreakerSection()
    dead_letter: DeadLetterSection = DeadLetterSection()
    shutdown: ShutdownSection = ShutdownSection()
    lanes: LanesSection = LanesSection()

    @model_validator(mode="before")
    @classmethod
    def _group_is_name(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "group" in data:
            return data
        name = data.get("name")
        sound = isinstance(name, str) and topic_name_problem(name) is None
        return {**data, "group": name if sound else "unnamed"}  # a bad name is reported once, as the name

    @property
    def lane_names(self) -> LaneNames:
        """The names of this route's lanes."""
        return LaneNames(self.group, self.topic)

    @property
    def target_identity(self) -> str:
        """What attempts are budgeted by, so that every route and worker with the same target shares: an HTTP origin, a
        handler, a topic. A handler embedded in a service is known by its group and topic."""
        match self.target:
            case HttpTarget() as http:
                return _origin(http.url)
            case TopicTarget() as topic:
                return f"topic:{topic.topic}"
            case PythonTarget() as python if python.handler == EMBEDDED:
                return f"python:{self.group}/{self.topic}"
            case PythonTarget() as python:
                return f"python:{python.handler}"

    @property
    def target_timeout_ms(self) -> int:
        """How long one attempt at the target may take; 0 for a topic, which has Kafka's delivery deadline."""
        return 0 if isinstance(self.target, TopicTarget) else self.target.timeout_ms
