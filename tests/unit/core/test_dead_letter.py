"""Dead letters and redrives: what goes in comes out byte for byte (I14), what the bridge adds is replaced."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import (
    MAX_HEADER_BYTES,
    DeadLetter,
    Failure,
    read_dead_letter,
    scrub,
    write_dead_letter,
    write_redrive,
)
from broker_bridge.core.retry_record import write_retry
from broker_bridge.message import Header, OutgoingRecord, Position, Record

ORIGIN = Position("orders.placed", 3, 41)
FAILURE = Failure("target_rejected", "RejectedError", "HTTP 422: card declined", "card_declined", 3, 1_000, 2_000)
NAMES = st.text(max_size=8) | st.sampled_from(
    ["ce_id", "ce_source", "idempotency-key", "traceparent", "bridge", "Bridge-x"]
)
OWN_NAMES = NAMES.filter(lambda name: not name.startswith("bridge-"))
VALUES = st.none() | st.binary(max_size=12) | st.sampled_from([b"", b"\xff\xfe", b"e-1", b"urn:orders"])
HEADERS = st.lists(st.tuples(OWN_NAMES, VALUES), max_size=8)
RECORDS = st.builds(
    Record,
    topic=st.just(ORIGIN.topic),
    partition=st.just(ORIGIN.partition),
    offset=st.just(ORIGIN.offset),
    timestamp_ms=st.integers(0, 2**62),
    key=st.none() | st.binary(max_size=12),
    value=st.none() | st.binary(max_size=40),
    headers=HEADERS,
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
FAILURES = st.builds(
    Failure,
    code=st.sampled_from(["target_rejected", "avro_malformed"]),
    error_class=st.just("RejectedError"),
    message=TEXTS,
    target_code=TEXTS,
    attempts=st.integers(0, 99),
    first_ms=st.integers(0, 2**50),
    last_ms=st.integers(0, 2**50),
)


def letter_of(record: Record, failure: Failure = FAILURE, *, message: bool = True) -> OutgoingRecord:
    """The dead letter of a record of the source topic."""
    return write_dead_letter(
        record,
        topic="payments.orders.placed.dlq",
        origin=ORIGIN,
        timestamp_ms=record.timestamp_ms,
        group="payments",
        service="worker-1",
        failure=failure,
        include_message=message,
    )


def stored(record: OutgoingRecord, *, offset: int = 7) -> Record:
    """The record as it is read back from where it was written."""
    assert record.partition is not None
    assert record.timestamp_ms is not None
    return Record(
        record.topic, record.partition, offset, record.timestamp_ms, record.key, record.value, list(record.headers)
    )


def plain(headers: list[Header] | None = None) -> Record:
    """A record of the source topic."""
    return Record(*ORIGIN, 500, b"customer", b"\x00body", headers or [])


def read_plain(headers: list[Header] | None = None) -> DeadLetter:
    """Its dead letter, read."""
    return read_dead_letter(stored(letter_of(plain(headers))))


def redriven(letter: DeadLetter, *, replay_id: str = "rp-1") -> Record:
    """Its copy in the redrive lane."""
    return stored(write_redrive(letter, topic="payments.orders.placed.redrive", replay_id=replay_id, now_ms=9_000))


@given(record=RECORDS, failure=FAILURES)
@settings(max_examples=200, deadline=None)
def test_the_record_comes_back_byte_for_byte(record: Record, failure: Failure) -> None:
    letter = read_dead_letter(stored(letter_of(record, failure)))
    assert (letter.key, letter.value, letter.timestamp_ms) == (record.key, record.value, record.timestamp_ms)
    assert list(letter.headers) == list(record.headers)
    assert (letter.origin, letter.position) == (ORIGIN, Position("payments.orders.placed.dlq", 3, 7))
    assert (letter.group, letter.service, letter.hops, letter.replay_id) == ("payments", "worker-1", 0, None)
    assert letter.idempotency_key == h.idempotency_key(record.headers, ORIGIN)
    found = letter.failure
    assert (found.code, found.attempts, found.first_ms, found.last_ms) == (
        failure.code,
        failure.attempts,
        failure.first_ms,
        failure.last_ms,
    )
    assert found.message == scrub(failure.message).decode()


@given(record=RECORDS, failures=st.lists(FAILURES, min_size=2, max_size=4))
@settings(max_examples=100, deadline=None)
def test_who_dies_again_and_again_carries_one_set_of_headers(record: Record, failures: list[Failure]) -> None:
    """Round after round: dies, is replayed, waits in a retry lane, dies. Nothing of the record changes."""
    current, ids = record, iter(range(1, 9))
    for round_, failure in enumerate(failures):
        out = write_dead_letter(
            current,
            topic="payments.orders.placed.dlq",
            origin=ORIGIN,
            timestamp_ms=record.timestamp_ms,
            group="payments",
            service="worker-1",
            failure=failure,
            include_message=True,
        )
        repeats = Counter(name for name, _ in out.headers if name.startswith("bridge-"))
        assert not [name for name, count in repeats.items() if count > 1]
        letter = read_dead_letter(stored(out))
        assert list(letter.headers) == list(record.headers)
        assert (letter.key, letter.value, letter.timestamp_ms) == (record.key, record.value, record.timestamp_ms)
        assert (letter.origin, letter.hops) == (ORIGIN, round_)
        assert letter.failure.last_ms == failure.last_ms
        assert letter.replay_id == (f"rp-{round_}" if round_ else None)
        redrive = redriven(letter, replay_id=f"rp-{next(ids)}")
        current = stored(
            write_retry(
                redrive,
                topic="payments.orders.placed.retry-2s",
                origin=ORIGIN,
                origin_timestamp_ms=record.timestamp_ms,
                group="payments",
                attempt=3,
                due_ms=11_000,
                now_ms=9_000,
                first_failure_ms=8_000,
            )
        )


def test_every_header_it_adds() -> None:
    headers: list[Header] = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("x", None)]
    assert list(letter_of(plain(headers)).headers) == [
        *headers,
        ("bridge-origin", b"orders.placed/3/41"),
        ("bridge-group", b"payments"),
        ("bridge-service", b"worker-1"),
        ("bridge-attempt", b"3"),
        ("bridge-first-failure-ms", b"1000"),
        ("bridge-last-failure-ms", b"2000"),
        ("bridge-error-code", b"target_rejected"),
        ("bridge-error-class", b"RejectedError"),
        ("bridge-target-code", b"card_declined"),
        ("bridge-fingerprint", b"5c27d914907c"),
        ("bridge-hops", b"0"),
        ("bridge-error-message", b"HTTP 422: card declined"),
        ("bridge-trace", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]


def test_goes_to_the_partition_of_its_origin_with_the_original_time() -> None:
    in_a_lane = replace(plain(), topic="payments.orders.placed.retry-2s", offset=8, timestamp_ms=77_000)
    out = write_dead_letter(
        in_a_lane,
        topic="t",
        origin=ORIGIN,
        timestamp_ms=500,
        group="g",
        service="s",
        failure=FAILURE,
        include_message=False,
    )
    assert (out.partition, out.timestamp_ms) == (ORIGIN.partition, 500)
    assert read_dead_letter(stored(out)).origin == ORIGIN


def test_the_message_is_left_out_unless_asked_for() -> None:
    assert h.ERROR_MESSAGE not in dict(letter_of(plain(), message=False).headers)


def test_what_an_outsider_says_about_replays_is_not_believed() -> None:
    claimed: list[Header] = [("bridge-hops", b"99"), ("bridge-replay-id", b"rp-0"), ("bridge-origin", b"x/0/0")]
    letter = read_plain(claimed)
    assert (letter.hops, letter.replay_id, letter.origin, letter.headers) == (0, None, ORIGIN, ())


def test_a_redrive_counts_one_hop_more_and_names_its_letter() -> None:
    letter = replace(read_plain([("ce_id", b"e-1"), ("ce_id", b"e-2")]), hops=4)
    out = write_redrive(letter, topic="payments.orders.placed.redrive", replay_id="rp-9", now_ms=9_000)
    assert list(out.headers) == [
        ("ce_id", b"e-1"),
        ("ce_id", b"e-2"),
        ("bridge-origin", b"orders.placed/3/41"),
        ("bridge-origin-timestamp-ms", b"500"),
        ("bridge-group", b"payments"),
        ("bridge-replay-id", b"rp-9"),
        ("bridge-hops", b"5"),
        ("bridge-dead-letter", b"payments.orders.placed.dlq/3/7"),
    ]
    assert (out.topic, out.partition, out.timestamp_ms) == ("payments.orders.placed.redrive", 3, 9_000)
    assert (out.key, out.value) == (b"customer", b"\x00body")


@given(record=RECORDS)
def test_identity_is_the_same_in_source_dead_letter_and_redrive(record: Record) -> None:
    first = h.identify(record, trusted=False)
    letter = read_dead_letter(stored(letter_of(record)))
    assert (letter.idempotency_key, letter.origin) == first
    assert h.identify(redriven(letter), trusted=True) == first


@given(
    headers=st.lists(
        st.tuples(
            NAMES | st.sampled_from([h.ORIGIN, h.HOPS, h.ATTEMPT, h.FINGERPRINT]),
            VALUES | st.sampled_from([b"9" * 5_000, "t/²/1".encode(), "٣".encode()]),
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_in_a_dead_letter_topic_can_be_read(headers: list[Header]) -> None:
    letter = read_dead_letter(Record("some.dlq", 1, 2, 3, None, None, headers))
    assert letter.hops >= 0
    assert letter.idempotency_key
    assert [header for header in headers if not header[0].startswith("bridge-")] == list(letter.headers)


def test_a_bare_record_reads_as_unknown() -> None:
    letter = read_dead_letter(Record("some.dlq", 1, 2, 3, None, None))
    assert (letter.failure.code, letter.origin, letter.group) == ("unknown", Position("some.dlq", 1, 2), "")
    assert (letter.failure.first_ms, letter.failure.last_ms, letter.trace) == (3, 3, None)


@pytest.mark.parametrize("text", ["a\r\nb\x1b[31mc\x00", "\ud800 lone", "\u202eevil"])
def test_scrubbed_text_has_no_control_characters(text: str) -> None:
    assert scrub(text).decode().isprintable()


@given(st.text(max_size=60), st.integers(0, 40))
def test_scrubbed_text_is_capped_at_a_character(text: str, max_bytes: int) -> None:
    found = scrub(text, max_bytes=max_bytes)
    assert len(found) <= max_bytes
    assert scrub(text).startswith(found)
    assert found.decode().isprintable()


def test_one_added_header_never_exceeds_its_cap() -> None:
    out = letter_of(plain(), replace(FAILURE, message="ü" * 5_000, target_code="x" * 5_000))
    longest = {name: len(value or b"") for name, value in out.headers}
    assert longest[h.ERROR_MESSAGE] == longest[h.TARGET_CODE] == MAX_HEADER_BYTES
    assert max(longest.values()) == MAX_HEADER_BYTES
