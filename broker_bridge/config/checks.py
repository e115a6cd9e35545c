"""Checks across settings: what each section allows on its own, but not together or not beyond this machine.

A route is checked as soon as it is sound in itself, also where others are not, so that one run tells everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from broker_bridge.config.explain import route_label
from broker_bridge.config.model import BridgeConfig, KafkaSection, OperationsSection, RedisSection, RegistrySection
from broker_bridge.config.problems import Problem, shown
from broker_bridge.config.route import HttpTarget, RouteConfig, TopicTarget
from broker_bridge.config.types import host_of, is_loopback, split_address
from broker_bridge.core.duration import format_duration
from broker_bridge.core.lanes import topic_name_problem

SMALLEST_MARGIN_MS: Final = 100
MARGIN_SHARE: Final = 10
"""A deadline must end this part of the outer one before it (a tenth): room to write down what came of the work."""

NamedRoute = tuple[int, RouteConfig]


def margin_ms(limit_ms: int) -> int:
    """What must be left of ``limit_ms`` when the inner deadline passes (I18, I20)."""
    return max(SMALLEST_MARGIN_MS, limit_ms // MARGIN_SHARE)


def cross_problems(data: Mapping[str, Any], config: BridgeConfig | None, context: Mapping[str, Any]) -> list[Problem]:
    """Every contradiction. Without a whole ``config`` the sound parts of ``data`` are checked."""
    if config is not None:
        routes = list(enumerate(config.routes))
        kafka, redis, registry = config.kafka, config.redis, config.registry
        operations: OperationsSection | None = config.operations
    else:
        routes = list(_sound_routes(data, context))
        kafka = _sound(KafkaSection, data.get("kafka", {}), context)
        redis = _sound(RedisSection, data.get("redis", {}), context)
        registry = _sound(RegistrySection, data.get("registry", {}), context)
        operations = _sound(OperationsSection, data.get("operations", {}), context)
    found: list[Problem] = []
    if kafka is not None:
        found += kafka_problems(kafka)
    if redis is not None:
        found += redis_problems(redis)
    if registry is not None:
        found += registry_problems(registry)
    for index, route in routes:
        found += [*route_problems(index, route), *drain_problems(index, route, kafka)]
    found += between_routes(routes)
    if operations is not None:
        found += operations_problems(operations, routes)
    labelled = [p for p in found if len(p.path) > 1 and isinstance(p.path[1], int)]
    others = [p for p in found if p not in labelled]
    return [*others, *(replace(p, label=route_label(data, int(p.path[1])) or p.label) for p in labelled)]


def _sound_routes(data: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[NamedRoute]:
    routes = data.get("route")
    for index, raw in enumerate(routes if isinstance(routes, list) else []):
        route = _sound(RouteConfig, raw, context)
        if route is not None:
            yield index, route


def _sound(model: type[Any], raw: object, context: Mapping[str, Any]) -> Any:
    try:
        return model.model_validate(raw, by_alias=True, by_name=False, context=dict(context))
    except ValidationError:
        return None


def kafka_problems(kafka: KafkaSection) -> Iterator[Problem]:
    """Credentials that do not fit the protocol, and plaintext that leaves this machine."""
    uses_sasl = kafka.security_protocol.startswith("SASL")
    if uses_sasl:
        for key in ("sasl_mechanism", "username", "password"):
            if getattr(kafka, key) is None:
                text = f"is required with security_protocol = {kafka.security_protocol!r}"
                yield Problem(("kafka", key), text, remedy=f"add {key}, or BROKER_BRIDGE_KAFKA__{key.upper()}")
    elif kafka.username is not None or kafka.password is not None:
        key = "username" if kafka.username is not None else "password"
        text = f"is never sent with security_protocol = {kafka.security_protocol!r}"
        yield Problem(("kafka", key), text, remedy='set security_protocol = "SASL_SSL"')
    if (kafka.cert_file is None) != (kafka.key_file is None):
        key = "key_file" if kafka.key_file is None else "cert_file"
        yield Problem(("kafka", key), "is required, since certificate and key go together")
    yield from _plaintext_problems(kafka)


def _plaintext_problems(kafka: KafkaSection) -> Iterator[Problem]:
    if kafka.allow_plaintext or kafka.security_protocol.endswith("SSL"):
        return
    hosts = [split_address(address.strip())[0] for address in kafka.bootstrap.split(",")]
    beyond = [host for host in hosts if not is_loopback(host)]
    if beyond:
        text = f"{beyond[0]} is not this machine, and {kafka.security_protocol} would send records unencrypted"
        remedy = 'set security_protocol = "SASL_SSL" (or "SSL"), or allow_plaintext = true under [kafka]'
        value = shown(("bootstrap",), kafka.bootstrap)
        yield Problem(("kafka", "bootstrap"), text, remedy=remedy, value=value, unsafe=True)


def redis_problems(redis: RedisSection) -> Iterator[Problem]:
    """Plaintext that leaves this machine."""
    url = redis.url.get_secret_value()
    host = host_of(url)
    if url.startswith("redis://") and not is_loopback(host) and not redis.allow_plaintext:
        text = f"{host} is not this machine, and redis:// would send claims and the password unencrypted"
        remedy = "use rediss://, or set allow_plaintext = true under [redis]"
        yield Problem(("redis", "url"), text, remedy=remedy, value=repr(str(redis.url)), unsafe=True)


def registry_problems(registry: RegistrySection) -> Iterator[Problem]:
    """Credentials that do not go together, and plaintext that leaves this machine."""
    for one, other in (("username", "password"), ("cert_file", "key_file")):
        has_one, has_other = (getattr(registry, key) is not None for key in (one, other))
        if has_one != has_other:
            missing, given = (other, one) if has_one else (one, other)
            yield Problem(("registry", missing), f"is required, since {given} is set")
    if registry.token is not None and registry.username is not None:
        text = "is a bearer token, which cannot be sent beside username and password"
        yield Problem(("registry", "token"), text, remedy="keep one of them")
    beyond = [url for url in registry.urls if url.startswith("http://") and not is_loopback(host_of(url))]
    if beyond and not registry.allow_plaintext:
        text = f"{host_of(beyond[0])} is not this machine, and http:// would send schemas and credentials unencrypted"
        remedy = "use https://, or set allow_plaintext = true under [registry]"
        yield Problem(("registry", "url"), text, remedy=remedy, value=shown(("url",), registry.url), unsafe=True)


def route_problems(index: int, route: RouteConfig) -> Iterator[Problem]:
    """Contradictions inside one route."""
    at = ("route", index)
    yield from _limit_problems(index, route)
    yield from _topic_problems(index, route)
    if route.dead_letter.on_dead == "hold" and (route.order != "key" or not route.retry.lanes_ms):
        text = "needs order = 'key' and a retry lane, for held keys wait in the last lane"
        remedy = 'add [route.retry] lanes = ["1m"], or set on_dead = "release"'
        yield Problem((*at, "dead_letter", "on_dead"), text, remedy=remedy, value="'hold'")
    if route.order == "partition" and route.retry.lanes_ms:
        text = "needs retry without lanes: a message in a lane would be overtaken by the rest of its partition"
        remedy = "remove lanes under [route.retry]; in_place attempts hold the partition, as many as you give"
        yield Problem((*at, "order"), text, remedy=remedy, value="'partition'")
    if route.contract and route.contract.version_field:
        yield from _version_problems(at, route)
    if isinstance(route.target, HttpTarget) and route.target.allow_hosts:
        host = host_of(route.target.url)
        if host not in route.target.allow_hosts:
            text = f"does not list the host of the target's own url, {host}"
            yield Problem((*at, "target", "allow_hosts"), text, remedy=f"add {host!r} to the list, or leave it out")
    if isinstance(route.target, HttpTarget) and route.target.batch > route.concurrency:
        text = f"can never be reached with concurrency = {route.concurrency}: no more are at the target at once"
        remedy = "raise concurrency to a few times batch, so that several requests are under way"
        yield Problem((*at, "target", "batch"), text, remedy=remedy, value=str(route.target.batch))


def _version_problems(at: tuple[str, int], route: RouteConfig) -> Iterator[Problem]:
    """Which version was completed last is known only where values are read, and messages of a key never overlap."""
    place = (*at, "contract", "version_field")
    if isinstance(route.target, TopicTarget):
        yield Problem(place, "needs a target that values are decoded for; a topic gets bytes", remedy="leave it out")
    if route.order == "none":
        text = "needs order = 'key' or 'partition': without order two messages of a key may overlap"
        yield Problem(place, text, remedy="set order = 'key', or leave it out")


def _limit_problems(index: int, route: RouteConfig) -> Iterator[Problem]:
    at = ("route", index)
    if route.concurrency > route.max_in_flight:
        text = f"must not be more than max_in_flight, which is {route.max_in_flight}"
        yield Problem((*at, "concurrency"), text, value=str(route.concurrency))
    if route.poll_records > route.max_in_flight:
        text = f"must not be more than max_in_flight, which is {route.max_in_flight}"
        yield Problem((*at, "poll_records"), text, value=str(route.poll_records))
    retry, breaker = route.retry, route.breaker
    if retry.base_ms > retry.max_ms:
        text = f"must not be longer than max, which is {format_duration(retry.max_ms)}"
        yield Problem((*at, "retry", "base"), text, value=f'"{format_duration(retry.base_ms)}"')
    for earlier, later in zip(retry.lanes_ms, retry.lanes_ms[1:], strict=False):
        if later <= earlier:
            text = f"must grow: {format_duration(later)} comes after {format_duration(earlier)}"
            yield Problem((*at, "retry", "lanes"), text, remedy='for example: lanes = ["2s", "10s", "1m"]')
            break
    if breaker.min_failures > breaker.window:
        text = f"can never be reached in a window of {breaker.window} outcomes"
        yield Problem((*at, "breaker", "min_failures"), text, value=str(breaker.min_failures))
    if breaker.open_ms > breaker.max_open_ms:
        text = f"must not be longer than max_open, which is {format_duration(breaker.max_open_ms)}"
        yield Problem((*at, "breaker", "open"), text, value=f'"{format_duration(breaker.open_ms)}"')


def _topic_problems(index: int, route: RouteConfig) -> Iterator[Problem]:
    at = ("route", index)
    own = {route.topic: "the route's own topic", **dict.fromkeys(_lanes(route), "a lane of this route")}
    written = {"output": route.output.topic if route.output else None}
    if isinstance(route.target, TopicTarget):
        written["target"] = route.target.topic
    for section, topic in written.items():
        if topic is not None and topic in own:
            text = f"is {own[topic]}: the route would feed itself for ever"
            yield Problem((*at, section, "topic"), text, remedy="choose another topic", value=repr(topic))
    for lane in _lanes(route):
        wrong = topic_name_problem(lane)
        if wrong:
            text = f"its lane {lane[:40]}… {wrong}"
            yield Problem((*at, "topic"), text, remedy="shorten group or topic: lanes are named {group}.{topic}.{lane}")
            break


def drain_problems(index: int, route: RouteConfig, kafka: KafkaSection | None) -> Iterator[Problem]:
    """Draining must end before the group gives the partitions away (I20)."""
    if kafka is None:
        return
    limit_ms = kafka.rebalance_timeout_ms
    most_ms = limit_ms - margin_ms(limit_ms)
    if route.shutdown.drain_ms > most_ms:
        text = (
            f"must end {format_duration(margin_ms(limit_ms))} before kafka.rebalance_timeout, which is"
            f" {format_duration(limit_ms)}, or partitions are taken away while work is in hand (I20)"
        )
        remedy = f'set drain to at most "{format_duration(max(most_ms, 0))}", or a longer rebalance_timeout'
        value = f'"{format_duration(route.shutdown.drain_ms)}"'
        yield Problem(("route", index, "shutdown", "drain"), text, remedy=remedy, value=value)


def between_routes(routes: Iterable[NamedRoute]) -> Iterator[Problem]:
    """Names used twice, two routes that would share offsets, and lanes with one name for two routes."""
    names: dict[str, int] = {}
    pairs: dict[tuple[str, str], str] = {}
    lanes: dict[str, str] = {}
    for index, route in routes:
        at = ("route", index)
        if route.name in names:
            text = f"is also the name of route #{names[route.name] + 1}"
            yield Problem((*at, "name"), text, remedy="give each route its own name", value=repr(route.name))
        names.setdefault(route.name, index)
        pair = (route.group, route.topic)
        if pair in pairs:
            text = (
                f"route {pairs[pair]!r} already reads {route.topic!r} as group {route.group!r}; offsets are per group"
            )
            yield Problem((*at, "group"), text, remedy="give one of them another group", value=repr(route.group))
        elif clash := next((lane for lane in _lanes(route) if lane in lanes), None):
            text = f"its lane {clash!r} is also one of route {lanes[clash]!r}"
            yield Problem((*at, "group"), text, remedy="give one of them another group", value=repr(route.group))
        pairs.setdefault(pair, route.name)
        lanes.update(dict.fromkeys(_lanes(route), route.name))


def operations_problems(operations: OperationsSection, routes: Iterable[NamedRoute]) -> Iterator[Problem]:
    """A topic of operations that is also a route's: its records would be delivered, or mixed with events."""
    for _, route in routes:
        owned = [route.topic, *_lanes(route)]
        owned += [route.output.topic] if route.output else []
        owned += [route.target.topic] if isinstance(route.target, TopicTarget) else []
        if operations.topic in owned:
            text = f"is also a topic of route {route.name!r}: operations are not events"
            place = ("operations", "topic")
            yield Problem(place, text, remedy="give operations a topic of their own", value=repr(operations.topic))


def _lanes(route: RouteConfig) -> list[str]:
    return route.lane_names.all(route.retry.lanes_ms)


def config_warnings(config: BridgeConfig) -> list[str]:
    """What is allowed but will surprise someone; each a sentence with its remedy."""
    found: list[str] = []
    topics_of: dict[str, set[str]] = {}
    for route in config.routes:
        topics_of.setdefault(route.group, set()).add(route.topic)
        needed_ms = max(route.lanes.retention_ms, sum(route.retry.lanes_ms))
        if route.claims.ttl_ms < needed_ms:
            ttl, kept = format_duration(route.claims.ttl_ms), format_duration(needed_ms)
            found.append(
                f"route[{route.name}].claims.ttl: claims live {ttl}, but dead letters are kept {kept}:"
                " a late replay may repeat an effect (W4, I19); lengthen claims.ttl or shorten lanes.retention"
            )
    for group, topics in topics_of.items():
        if len(topics) > 1:
            found.append(
                f"group {group!r} is used by routes of {len(topics)} topics: a rebalance of one pauses the others;"
                " give each route its own group"
            )
    if not config.routes:
        found.append("no [[route]] is configured: a worker would have nothing to do")
    return found
