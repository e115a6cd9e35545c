"""What the operator's commands share: one route of the configuration, opened; filters; times as people write them."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from broker_bridge.cli.operator_identity import host_name, user_name
from broker_bridge.cli.output import DEFAULT_CONFIG
from broker_bridge.clock import SystemClock
from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.errors import ConfigError, ContractError, NotFoundError, UsageError
from broker_bridge.headers import schema_header_of

if TYPE_CHECKING:
    from broker_bridge.config import BridgeConfig, RouteConfig
    from broker_bridge.contracts.codec import Decode as CodecDecode
    from broker_bridge.core.letter_filter import DecodeFields
    from broker_bridge.core.operation import Action, Operation
    from broker_bridge.idempotency.base import IdempotencyStore
    from broker_bridge.message import Header
    from broker_bridge.replay.dead_letters import DeadLetters
    from broker_bridge.replay.letter_contract import LetterContract
    from broker_bridge.replay.operations_log import OperationsLog
    from broker_bridge.replay.route import Decode, ReplayRoute
    from broker_bridge.transport.base import BatchProducer, LogReader, Transport

Command = TypeVar("Command", bound=Callable[..., Any])
Suggest = Callable[..., str]
"""``suggest("dlq", "show", place)``: the whole command line. With ``own=True`` it is about the route's own dead letters
whatever topic was asked for."""


@dataclass(slots=True)
class OperatorScope:
    """A route with its clients, started."""

    config: BridgeConfig
    route_config: RouteConfig
    route: ReplayRoute
    reader: LogReader
    store: IdempotencyStore
    producer: BatchProducer
    clock: SystemClock
    operations: OperationsLog

    def operation(
        self,
        action: Action,
        *,
        why: str = "",
        by: str = "",
        plan_id: str = "",
        plan_sha256: str = "",
        counts: Mapping[str, int] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Operation:
        """An operation on this route, now, by this user on this machine; for ``operations.record``."""
        from broker_bridge.core.operation import Operation

        return Operation(
            id=secrets.token_hex(8),
            at_ms=self.clock.now_ms(),
            action=action,
            by=by or user_name(),
            host=host_name(),
            why=why,
            route=self.route.name,
            group=self.route.group,
            plan_id=plan_id,
            plan_sha256=plan_sha256,
            counts=counts or {},
            details=details or {},
        )

    def decoder(self) -> Decode | None:
        """How a worker of this route decodes values; None where it does not."""
        from broker_bridge.bootstrap import open_codec
        from broker_bridge.config import TopicTarget

        if isinstance(self.route_config.target, TopicTarget):
            return None
        codec, contract = open_codec(self.config), self.route_config.contract
        topic = self.route_config.topic
        reader = codec.contract_for(topic, contract.subject, contract.version) if contract else None
        return lambda value, headers: codec.decode_json_ready(
            value, reader=reader, schema_header=schema_header_of(headers)
        )

    def letter_contract(self) -> LetterContract | None:
        """What the route's contract says of values; None for a route that decodes nothing."""
        from broker_bridge.bootstrap import open_codec
        from broker_bridge.config import TopicTarget
        from broker_bridge.replay.letter_contract import LetterContract

        if isinstance(self.route_config.target, TopicTarget):
            return None
        codec, contract = open_codec(self.config), self.route_config.contract
        if contract is None:
            return LetterContract(codec, None)
        reader = codec.contract_for(self.route_config.topic, contract.subject, contract.version)
        return LetterContract(codec, reader, version_field=contract.version_field)

    def fields_decoder(self) -> DecodeFields:
        """How an expression sees values: by field, times and decimals as such; under the route's contract where it has
        one, else as they were written. The codec is opened by the first value."""
        opened: list[CodecDecode] = []
        contract, topic = self.route_config.contract, self.route_config.topic

        def decode(value: bytes, headers: Sequence[Header]) -> Mapping[str, Any]:
            if not opened:
                from broker_bridge.bootstrap import open_codec

                try:
                    codec = open_codec(self.config)
                    reader = codec.contract_for(topic, contract.subject, contract.version) if contract else None
                except ContractError as error:  # of the configuration: not one letter could be decoded
                    raise ConfigError(error.detail, where=error.where, remedy=error.remedy) from error
                opened.append(codec.decoder(reader))
            return opened[0](value, schema_header_of(headers)).value

        return decode

    def dead_letters(self, topic: str | None = None, *, whoever: bool = False) -> DeadLetters:
        """The route's dead letters, or those of another dead-letter ``topic`` beside it."""
        from broker_bridge.replay.dead_letters import DeadLetters

        return DeadLetters(
            reader=self.reader,
            store=self.store,
            route=self.route.reading(topic),
            decode=self.fields_decoder(),
            clock=self.clock,
            whoever=whoever,
        )


@asynccontextmanager
async def open_scope(
    config: BridgeConfig, route_name: str | None, *, writes: bool = False
) -> AsyncIterator[OperatorScope]:
    """Connect to Kafka and Redis for one route. Raises ``NotFoundError`` where there is no such route."""
    from broker_bridge.bootstrap import WORKER_REQUEST_BYTES, open_store, open_transport
    from broker_bridge.replay.route import ReplayRoute

    route = choose_route(config, route_name)
    transport, store = open_transport(config, max_request_bytes=WORKER_REQUEST_BYTES), open_store(config)
    reader = transport.reader()
    operations = operations_of(config, transport, reader)
    producer = transport.producer(delivery_timeout_ms=config.kafka.delivery_timeout_ms)
    async with AsyncExitStack() as opened:
        clients = (reader, store, producer) if writes else (reader, store)
        for client in clients:
            opened.push_async_callback(client.stop)
            await client.start()
        opened.push_async_callback(operations.stop)
        yield OperatorScope(config, route, ReplayRoute.of(route), reader, store, producer, SystemClock(), operations)


@asynccontextmanager
async def open_operations(config: BridgeConfig) -> AsyncIterator[OperationsLog]:
    """The operations topic alone, for who needs no route and no claims."""
    from broker_bridge.bootstrap import open_transport

    transport = open_transport(config)
    reader = transport.reader()
    log = operations_of(config, transport, reader)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(reader.stop)
        await reader.start()
        opened.push_async_callback(log.stop)
        yield log


def operations_of(config: BridgeConfig, transport: Transport, reader: LogReader) -> OperationsLog:
    """The operations topic of ``[operations]``, by clients of this transport."""
    from broker_bridge.replay.operations_log import OperationsLog

    section = config.operations
    return OperationsLog(
        transport,
        reader,
        topic=section.topic,
        replication=section.replication,
        delivery_timeout_ms=config.kafka.delivery_timeout_ms,
    )


def choose_route(config: BridgeConfig, name: str | None) -> RouteConfig:
    """The named route, or the only one."""
    names = ", ".join(route.name for route in config.routes)
    if name is not None:
        found = config.route(name)
        if found is None:
            raise NotFoundError(f"there is no route {name!r}", remedy=f"routes are: {names}" if names else "")
        return found
    if len(config.routes) != 1:
        raise UsageError(f"the configuration has {len(config.routes)} routes", remedy=f"name one with --route: {names}")
    return config.routes[0]


def route_option(command: Command) -> Command:
    """``--route``: the command receives ``route_name``."""
    option = click.option("--route", "route_name", metavar="NAME", help="Which route; not needed where there is one.")
    return option(command)


def selection_options(command: Command) -> Command:
    """The filters on dead letters: the command receives them by name, for ``selection_of``."""
    options = [
        click.option("--code", "codes", multiple=True, metavar="CODE", help="Error code; may be repeated."),
        click.option("--target-code", "target_codes", multiple=True, metavar="CODE", help="The target's own code."),
        click.option(
            "--fingerprint", "fingerprints", multiple=True, metavar="HEX", help="Kind of failure, see groups."
        ),
        click.option("--key", metavar="TEXT", help="Record key or idempotency key."),
        click.option(
            "--header",
            "headers",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="A header of the message with this value, or with any; may be repeated, all must hold.",
        ),
        click.option("--partition", type=click.IntRange(min=0), help="Only this partition of the source."),
        click.option("--from-offset", type=click.IntRange(min=0), help="Source offset, inclusive."),
        click.option("--to-offset", type=click.IntRange(min=0), help="Source offset, exclusive."),
        click.option("--letter-from", type=click.IntRange(min=0), help="The letter's own offset, inclusive."),
        click.option("--letter-to", type=click.IntRange(min=0), help="The letter's own offset, exclusive."),
        click.option("--since", metavar="TIME", help='Last failure at or after: "2026-11-24T08:00:00Z", or "2h" ago.'),
        click.option("--until", metavar="TIME", help="Last failure before."),
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice([state.value for state in LetterState]),
            help="What became of it since; may be repeated.",
        ),
        click.option(
            "--where",
            metavar="EXPR",
            help="An expression over the decoded value: 'amount_cents > 1000 and currency == \"EUR\"'.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def selection_of(given: dict[str, Any]) -> Selection:
    """The selection from the options of ``selection_options``. Raises ``UsageError`` for what cannot be meant."""
    now_ms = SystemClock().now_ms()
    return Selection(
        codes=given["codes"],
        target_codes=given["target_codes"],
        fingerprints=given["fingerprints"],
        key=_not_empty(given["key"], option="--key"),
        headers=given["headers"],
        partition=given["partition"],
        from_offset=given["from_offset"],
        to_offset=given["to_offset"],
        letter_from=given["letter_from"],
        letter_to=given["letter_to"],
        since_ms=moment_ms(given["since"], now_ms=now_ms, option="--since"),
        until_ms=moment_ms(given["until"], now_ms=now_ms, option="--until"),
        states=given["states"],
        where=_not_empty(given["where"], option="--where"),
    )


def _not_empty(text: str | None, *, option: str) -> str:
    """The text of a filter. An empty one is a shell variable that was never set: it must not choose every letter."""
    if text is not None and not text.strip():
        raise UsageError(f"{option}: it is empty, and would choose everything", remedy="leave it out, or say which")
    return text or ""


def topic_option(command: Command) -> Command:
    """``--topic``: the command receives ``topic``, for ``OperatorScope.dead_letters``."""
    option = click.option(
        "--topic",
        metavar="NAME",
        help="Another dead-letter topic than the route's own: one that Kafka Connect, Kafka Streams, a share group or "
        "Spring writes.",
    )
    return option(command)


def moment_ms(text: str | None, *, now_ms: int, option: str) -> int | None:
    """A time as text: RFC 3339, or a duration that means so long ago. Raises ``UsageError``."""
    if text is None:
        return None
    try:
        return now_ms - parse_duration_ms(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option}: {text!r} is not a time", remedy='write "2026-11-24T08:00:00Z", or "2h" for two hours ago'
        ) from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def place_of(text: str) -> tuple[int, int]:
    """A dead letter's place from ``[topic/]partition/offset``. Raises ``UsageError``."""
    parts = text.replace(":", "/").split("/")[-2:]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UsageError(f"{text!r} is not a place", remedy="write partition/offset, as dlq list shows it: 0/17")
    return int(parts[0]), int(parts[1])


def ago(time_ms: int, *, now_ms: int) -> str:
    """How long ago in one unit: ``12s ago``."""
    passed_s = max(0, now_ms - time_ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if passed_s >= 2 * size:
            return f"{passed_s // size}{unit} ago"
    return f"{passed_s}s ago"


def suggester(config: BridgeConfig, config_path: Path, route: str, *, topic: str | None = None) -> Suggest:
    """Makes commands to suggest: quoted for a shell, with the configuration and route only where they are needed, and
    with the dead-letter ``topic`` that was asked for, unless ``own``."""
    needed: list[str] = []
    if str(config_path) != DEFAULT_CONFIG:
        needed += ["--config", str(config_path)]
    if len(config.routes) > 1:
        needed += ["--route", route]
    other = ["--topic", topic] if topic else []
    return lambda *parts, own=False: shlex.join(["broker-bridge", *parts, *needed, *([] if own else other)])
