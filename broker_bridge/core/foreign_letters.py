"""Dead letters that others wrote, read into the same value: Kafka Connect, Kafka Streams, share groups, Spring.

Each is told by its headers, record by record. They may hold anything: what does not make sense reads as missing. Their
``code`` is ``foreign_failure``, the target code what the writer says went wrong, so that their kinds group like ours.
The headers that a writer added are not the message's: they are left out of ``headers``, so of what goes back.

Header names as of: Kafka 4.4, ``DeadLetterQueueReporter`` (Connect, KIP-298), ``ExceptionHandlerUtils`` (Streams,
KIP-1034), ``ShareGroupDLQStateManager`` (share groups, KIP-1191); Spring for Apache Kafka 4.0, ``KafkaHeaders`` and
``RetryTopicHeaders``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import DeadLetter, Failure, read_dead_letter, scrub
from broker_bridge.message import Header, Position, Record

FOREIGN_CODE: Final = "foreign_failure"
"""The code of a letter that another system wrote: it has a code list of its own, or none."""
LONGEST_TARGET_CODE: Final = 200
_PARTITION_BYTES: Final = 4
_OFFSET_BYTES: Final = 8
_LARGEST_PARTITION: Final = 2**31 - 1
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_CLASS_NAME: Final = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+", re.ASCII)


class Writer(enum.StrEnum):
    """Who wrote a dead letter, where it was not the bridge."""

    CONNECT = "Kafka Connect"
    STREAMS = "Kafka Streams"
    SHARE_GROUP = "a share group"
    SPRING = "Spring"


KEEPS_HEADERS: Final = frozenset({Writer.CONNECT, Writer.SPRING})
"""Who keeps the message's own headers, and with them its identity. The others drop them: such a message is another one
to whoever goes by its idempotency key, and no claim of the original stops it."""

_PREFIXES: Final = (
    ("__connect.errors.", Writer.CONNECT),
    ("__streams.errors.", Writer.STREAMS),
    ("__dlq.errors.", Writer.SHARE_GROUP),
    ("kafka_dlt-", Writer.SPRING),
    ("kafka_original-", Writer.SPRING),
    ("kafka_exception-", Writer.SPRING),
)
_ADDED: Final[Mapping[Writer, tuple[str, ...]]] = {
    Writer.CONNECT: ("__connect.errors.",),
    Writer.STREAMS: ("__streams.errors.",),
    Writer.SHARE_GROUP: ("__dlq.errors.",),
    Writer.SPRING: (
        "kafka_dlt-",
        "kafka_original-",
        "kafka_exception-",
        "kafka_key-exception-",
        "retry_topic-",
        "springDeserializerException",
    ),
}
_STACK_TRACES: Final = (
    "__connect.errors.exception.stacktrace",
    "__streams.errors.stacktrace",
    "kafka_dlt-exception-stacktrace",
    "kafka_exception-stacktrace",
    "kafka_dlt-key-exception-stacktrace",
    "kafka_key-exception-stacktrace",
)


class _Told(NamedTuple):
    """What a writer says; empty where it does not."""

    origin: Position | None
    failed_as: str = ""
    error_class: str = ""
    message: str = ""
    service: str = ""
    group: str = ""
    attempts: int = 0
    timestamp_ms: int | None = None


def writer_of(record: Record) -> Writer | None:
    """Who wrote a record of a dead-letter topic, None for the bridge and for whom we do not know."""
    names = [name for name, _ in record.headers]
    if h.ORIGIN in names:
        return None
    return next((writer for prefix, writer in _PREFIXES for name in names if name.startswith(prefix)), None)


def read_letter(record: Record) -> DeadLetter:
    """A record of any dead-letter topic, whoever wrote it. Never an error."""
    writer = writer_of(record)
    if writer is None:
        return read_dead_letter(record)
    named = dict(record.headers)
    told = _READERS[writer](named)
    origin = told.origin or record.position
    original = tuple(header for header in record.headers if not _is_added(header, writer))
    return DeadLetter(
        position=record.position,
        origin=origin,
        group=told.group,
        failure=Failure(
            code=FOREIGN_CODE,
            error_class=_shown(told.error_class),
            message=_shown(told.message),
            target_code=_shown(told.failed_as)[:LONGEST_TARGET_CODE],
            attempts=told.attempts,
            first_ms=record.timestamp_ms,
            last_ms=record.timestamp_ms,
        ),
        service=_shown(told.service),
        hops=0,
        replay_id=None,
        trace=h.text_of(original, h.TRACEPARENT),
        key=record.key,
        value=record.value,
        headers=original,
        timestamp_ms=record.timestamp_ms if told.timestamp_ms is None else told.timestamp_ms,
        idempotency_key=h.idempotency_key(original, origin),
        record=record,
        writer=writer.value,
    )


def stack_trace(record: Record) -> str:
    """What the writer kept of the stack, as it stands there; empty where it did not."""
    named = dict(record.headers)
    return next((text for name in _STACK_TRACES if (text := _text(named, name))), "")


def lacks_payload(letter: DeadLetter) -> bool:
    """Whether key and value are not there because the writer does not copy them (a share group's default)."""
    return letter.writer == Writer.SHARE_GROUP.value and letter.key is None and letter.value is None


def _connect(named: Mapping[str, bytes | None]) -> _Told:
    def of(name: str) -> str:
        return _text(named, f"__connect.errors.{name}")

    connector, task = of("connector.name"), of("task.id")
    stage, where = of("stage"), of("class.name")
    message = of("exception.message")
    doing = f" (in {stage}{' of ' + where if where else ''})" if stage else ""
    return _Told(
        origin=_place(of("topic"), of("partition"), of("offset")),
        failed_as=of("exception.class.name"),
        error_class=of("exception.class.name"),
        message=message + doing if message else doing.strip(" ()"),
        service=f"{connector}/{task}" if connector and task else connector,
    )


def _streams(named: Mapping[str, bytes | None]) -> _Told:
    def of(name: str) -> str:
        return _text(named, f"__streams.errors.{name}")

    # the exception as Java prints it: the class, and behind a colon the message
    found = _CLASS_NAME.match(of("exception"))
    error_class = found[0] if found else ""
    return _Told(
        origin=_place(of("topic"), of("partition"), of("offset")),
        failed_as=error_class,
        error_class=error_class,
        message=of("message") or of("exception"),
    )


def _share_group(named: Mapping[str, bytes | None]) -> _Told:
    def of(name: str) -> str:
        return _text(named, f"__dlq.errors.{name}")

    return _Told(
        origin=_place(of("topic"), of("partition"), of("offset")),
        failed_as=of("message"),  # one of a few sentences of the broker
        message=of("message"),
        group=of("group"),
        attempts=_number(of("delivery.count")) or 0,
    )


def _spring(named: Mapping[str, bytes | None]) -> _Told:
    def text(*names: str) -> str:
        return next((found for name in names if (found := _text(named, f"kafka_{name}"))), "")

    def number(name: str, size: int) -> int | None:
        """Of the main topic first: behind retry topics the ``dlt`` ones are places in the last of those."""
        found = _binary(named.get(f"kafka_original-{name}"), size)
        return _binary(named.get(f"kafka_dlt-original-{name}"), size) if found is None else found

    failed = text(*(f"{of}exception-fqcn" for of in ("dlt-", "", "dlt-key-", "key-")))
    cause = text("dlt-exception-cause-fqcn", "exception-cause-fqcn")
    partition, offset = number("partition", _PARTITION_BYTES), number("offset", _OFFSET_BYTES)
    attempts = _binary(named.get("retry_topic-attempts"), _PARTITION_BYTES)
    topic = text("original-topic", "dlt-original-topic")
    return _Told(
        origin=_place(topic, "" if partition is None else str(partition), "" if offset is None else str(offset)),
        failed_as=cause or failed,  # the outer one is Spring's own wrapper
        error_class=failed,
        message=text(
            "dlt-exception-message", "exception-message", "dlt-key-exception-message", "key-exception-message"
        ),
        group=text("dlt-original-consumer-group"),
        attempts=attempts or 0,
        timestamp_ms=number("timestamp", _OFFSET_BYTES),
    )


_READERS: Final = {
    Writer.CONNECT: _connect,
    Writer.STREAMS: _streams,
    Writer.SHARE_GROUP: _share_group,
    Writer.SPRING: _spring,
}


def _is_added(header: Header, writer: Writer) -> bool:
    return header[0].startswith(_ADDED[writer]) or header[0].startswith(h.BRIDGE_PREFIX)


def _text(named: Mapping[str, bytes | None], name: str) -> str:
    return (named.get(name) or b"").decode(errors="replace")


def _shown(text: str) -> str:
    return scrub(text).decode()


def _place(topic: str, partition: str, offset: str) -> Position | None:
    in_topic, at = _number(partition), _number(offset)
    if in_topic is None or in_topic > _LARGEST_PARTITION or at is None or not _TOPIC.fullmatch(topic):
        return None
    return Position(topic, in_topic, at)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _binary(raw: bytes | None, size: int) -> int | None:
    """A number as Spring writes it: big-endian, of exactly ``size`` bytes. Negative ones are none."""
    if raw is None or len(raw) != size:
        return None
    found = int.from_bytes(raw, "big", signed=True)
    return found if found >= 0 else None
