"""Dead letters that Kafka Connect, Kafka Streams, share groups and Spring wrote, as they write them."""

from __future__ import annotations

import random

import pytest

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import Failure, read_dead_letter, write_dead_letter, write_redrive
from broker_bridge.core.fingerprint import fingerprint
from broker_bridge.core.foreign_letters import (
    FOREIGN_CODE,
    LONGEST_TARGET_CODE,
    Writer,
    lacks_payload,
    read_letter,
    stack_trace,
    writer_of,
)
from broker_bridge.message import Header, Position, Record

OWN: list[Header] = [("ce_id", b"o-1"), ("ce_source", b"/shop/orders"), ("traceparent", b"00-aa-bb-01")]
ORIGIN = Position("orders", 3, 4_000_000_000)
NAMING = "org.apache.kafka.connect.errors.DataException"

CONNECT: list[Header] = [
    ("__connect.errors.topic", b"orders"),
    ("__connect.errors.partition", b"3"),
    ("__connect.errors.offset", b"4000000000"),
    ("__connect.errors.connector.name", b"orders-to-s3"),
    ("__connect.errors.task.id", b"2"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.class.name", b"io.confluent.connect.avro.AvroConverter"),
    ("__connect.errors.exception.class.name", NAMING.encode()),
    ("__connect.errors.exception.message", b"Failed to deserialize \x1b[31mdata"),
    ("__connect.errors.exception.stacktrace", b"org.apache...\n\tat x.Y(Z.java:1)"),
]
STREAMS: list[Header] = [
    ("__streams.errors.exception", b"java.lang.IllegalStateException: no such customer: 7"),
    ("__streams.errors.message", b"no such customer: 7"),
    ("__streams.errors.stacktrace", b"java.lang...\n\tat x.Y(Z.java:1)"),
    ("__streams.errors.topic", b"orders"),
    ("__streams.errors.partition", b"3"),
    ("__streams.errors.offset", b"4000000000"),
]
SHARE: list[Header] = [
    ("__dlq.errors.topic", b"orders"),
    ("__dlq.errors.partition", b"3"),
    ("__dlq.errors.offset", b"4000000000"),
    ("__dlq.errors.group", b"share-1"),
    ("__dlq.errors.delivery.count", b"5"),
    ("__dlq.errors.message", b"Offset rejected by client."),
]
SPRING: list[Header] = [
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalArgumentException"),
    ("kafka_dlt-exception-message", b"Listener failed; bad order"),
    ("kafka_dlt-exception-stacktrace", b"org.spring...\n\tat x.Y(Z.java:1)"),
    ("kafka_dlt-original-topic", b"orders"),
    ("kafka_dlt-original-partition", (3).to_bytes(4, "big")),
    ("kafka_dlt-original-offset", (4_000_000_000).to_bytes(8, "big")),
    ("kafka_dlt-original-timestamp", (1_790_000_000_000).to_bytes(8, "big")),
    ("kafka_dlt-original-timestamp-type", b"CreateTime"),
    ("kafka_dlt-original-consumer-group", b"billing"),
]
ALL = {Writer.CONNECT: CONNECT, Writer.STREAMS: STREAMS, Writer.SHARE_GROUP: SHARE, Writer.SPRING: SPRING}


def a_record(headers: list[Header], **changes: object) -> Record:
    given = {"key": b"customer-7", "value": b"\x00order", **changes}
    return Record("other.dlq", 0, 17, 1_790_000_500_000, headers=headers, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("writer", list(Writer))
def test_whoever_wrote_it_the_message_is_what_it_was(writer: Writer) -> None:
    letter = read_letter(a_record(OWN + ALL[writer]))
    assert letter.writer == writer.value
    assert (letter.position, letter.origin) == (Position("other.dlq", 0, 17), ORIGIN)
    assert (letter.key, letter.value, letter.headers) == (b"customer-7", b"\x00order", tuple(OWN))
    assert letter.idempotency_key == "/shop/orders#o-1"
    assert letter.failure.code == FOREIGN_CODE
    assert letter.failure.fingerprint == fingerprint(FOREIGN_CODE, letter.failure.target_code)
    back = write_redrive(letter, topic="redrive", replay_id="rp-1", now_ms=5)
    assert back.partition == ORIGIN.partition
    assert [header for header in back.headers if not header[0].startswith("bridge-")] == OWN


@pytest.mark.parametrize(
    ("writer", "target_code", "message", "service", "group", "attempts"),
    [
        (Writer.CONNECT, NAMING, "Failed to deserialize  [31mdata (in VALUE_CONVERTER", "orders-to-s3/2", "", 0),
        (Writer.STREAMS, "java.lang.IllegalStateException", "no such customer: 7", "", "", 0),
        (Writer.SHARE_GROUP, "Offset rejected by client.", "Offset rejected by client.", "", "share-1", 5),
        (Writer.SPRING, "java.lang.IllegalArgumentException", "Listener failed; bad order", "", "billing", 0),
    ],
)
def test_what_went_wrong(
    writer: Writer, target_code: str, message: str, service: str, group: str, attempts: int
) -> None:
    letter = read_letter(a_record(ALL[writer]))
    failure = letter.failure
    assert failure.target_code == target_code
    assert failure.message.startswith(message)
    assert (letter.service, letter.group, failure.attempts) == (service, group, attempts)
    assert (letter.timestamp_ms, failure.last_ms) == (
        1_790_000_000_000 if writer is Writer.SPRING else 1_790_000_500_000,
        1_790_000_500_000,
    )


def test_stack_traces_are_there_for_who_asks() -> None:
    for writer, headers in ALL.items():
        assert ("at x.Y(Z.java:1)" in stack_trace(a_record(headers))) is (writer is not Writer.SHARE_GROUP)
        assert "Z.java" not in repr(read_letter(a_record(headers)))


def test_behind_springs_retry_topics_the_place_is_that_of_the_main_topic() -> None:
    headers = [
        ("kafka_original-topic", b"orders"),
        ("kafka_original-partition", (3).to_bytes(4, "big")),
        ("kafka_original-offset", (4_000_000_000).to_bytes(8, "big")),
        ("kafka_exception-fqcn", b"a.B"),
        ("retry_topic-attempts", (4).to_bytes(4, "big")),
        ("retry_topic-backoff-timestamp", b"\x01\x02"),
        ("springDeserializerExceptionValue", b"\xac\xed"),
        ("kafka_dlt-original-topic", b"orders-retry-1"),
        ("kafka_dlt-original-offset", (7).to_bytes(8, "big")),
    ]
    letter = read_letter(a_record(OWN + headers))
    assert (letter.origin, letter.failure.attempts, letter.failure.target_code) == (ORIGIN, 4, "a.B")
    assert letter.headers == tuple(OWN)


def test_our_own_letters_stay_ours_whatever_the_message_carried() -> None:
    source = Record("orders", 0, 5, 1, key=b"k", value=b"v", headers=OWN + CONNECT)
    failure = Failure("target_rejected", "R", "m", "card_expired", 1, 2, 3)
    written = write_dead_letter(
        source,
        topic="g.orders.dlq",
        origin=source.position,
        timestamp_ms=1,
        group="g",
        service="s",
        failure=failure,
        include_message=True,
    )
    record = Record("g.orders.dlq", 0, 9, 1, written.key, written.value, written.headers)
    assert writer_of(record) is None
    letter = read_letter(record)
    assert (letter.failure, letter.writer, letter.origin) == (failure, "", source.position)
    assert letter.headers == tuple(OWN + CONNECT), "byte for byte what was produced"
    assert letter == read_dead_letter(record)


def test_a_share_group_that_copies_nothing_has_nothing_to_send_back() -> None:
    assert lacks_payload(read_letter(a_record(SHARE, key=None, value=None)))
    assert not lacks_payload(read_letter(a_record(SHARE, value=None)))
    assert not lacks_payload(read_letter(a_record(CONNECT, key=None, value=None)))


@pytest.mark.parametrize("seed", range(40))
def test_garbage_reads_as_missing(seed: int) -> None:
    dice = random.Random(seed)
    junk = [
        None,
        b"",
        b"\xff\xfe",
        b"-1",
        b"9" * 30,
        "²".encode(),
        b"1/2",
        b"\x00" * 4,
        b"\xff" * 4,
        b"\xff" * 8,
        b"x" * 9_000,
    ]
    for headers in ALL.values():
        broken = [(name, dice.choice(junk) if dice.random() < 0.7 else value) for name, value in OWN + headers]
        dice.shuffle(broken)
        letter = read_letter(a_record(broken))
        assert letter.origin == letter.position or letter.origin.topic in ("orders", "-1", "9" * 30)
        assert 0 <= letter.origin.partition < 2**31
        assert letter.origin.offset >= 0
        assert len(letter.failure.target_code) <= LONGEST_TARGET_CODE
        assert letter.failure.message.isprintable()
        assert len(letter.failure.fingerprint) == 12
        assert letter.idempotency_key


def test_who_is_not_known_is_read_as_ours() -> None:
    letter = read_letter(a_record([("x", b"y")]))
    assert (letter.writer, letter.failure.code, letter.origin) == ("", "unknown", letter.position)
    assert h.idempotency_key(letter.headers, letter.origin) == "kafka://other.dlq/0/17"
