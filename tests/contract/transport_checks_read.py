"""What every ``LogReader`` and ``TopicAdmin`` must do."""

from __future__ import annotations

import pytest
from transport_bench import Bench, Check, placed, read_all, take

from broker_bridge.errors import OffsetOutOfRangeError, TopicMissingError, TransportError
from broker_bridge.message import OutgoingRecord, Position, TopicPartition
from broker_bridge.transport.base import TopicSpec

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function  # type: ignore[attr-defined]
    return function


@check
async def offsets_are_the_bounds_of_the_log(bench: Bench) -> None:
    tp = await bench.filled(10)
    empty = TopicPartition(await bench.topic(1, "b"), 0)
    await bench.lab.trim(tp, before=4)
    reader = await bench.reader()
    assert await reader.offsets([tp.topic, empty.topic]) == {tp: (4, 10), empty: (0, 0)}
    with pytest.raises(TopicMissingError):
        await reader.offsets([f"{tp.topic}.nowhere"])
    assert f"{tp.topic}.nowhere" not in await (await bench.admin()).topics()


@check
async def offsets_at_a_time(bench: Bench) -> None:
    topic = await bench.topic(2)
    at = 1_790_000_000_000
    records = [OutgoingRecord(topic, b"", partition=0, timestamp_ms=at + 1_000 * number) for number in range(5)]
    placed(await (await bench.producer()).send_batch(records))
    reader = await bench.reader()
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert await reader.offsets_at([topic], timestamp_ms=at + 2_000) == {one: 2, two: 0}
    assert await reader.offsets_at([topic], timestamp_ms=at + 2_001) == {one: 3, two: 0}
    assert await reader.offsets_at([topic], timestamp_ms=at + 9_000) == {one: 5, two: 0}


@check
async def reads_exactly_what_is_between(bench: Bench) -> None:
    topic = await bench.topic(2)
    for number in range(2):
        await bench.write(topic, [b"%d" % value for value in range(50)], partition=number)
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    reader = await bench.reader()
    records = await read_all(reader, {one: 10, two: 0}, {one: 20, two: 3})
    assert [record.offset for record in records if record.partition == 0] == list(range(10, 20))
    assert [record.offset for record in records if record.partition == 1] == [0, 1, 2]
    assert await read_all(reader, {one: 5}, {one: 5}) == []
    assert await read_all(reader, {}, {}) == []
    assert len(await read_all(reader, {one: 40}, {one: 1_000})) == 10, "an end past the log's is the log's"


@check
async def reading_ends_where_the_last_offsets_hold_no_record(bench: Bench) -> None:
    tp = TopicPartition(await bench.topic(), 0)
    places = await bench.lab.write_with_gaps(tp, [b"one", b"two"])
    reader = await bench.reader()
    [(first, end)] = (await reader.offsets([tp.topic])).values()
    assert end > places[-1].offset + 1
    records = await read_all(reader, {tp: first}, {tp: end})
    assert [(record.position, record.value) for record in records] == list(zip(places, [b"one", b"two"], strict=True))
    assert await read_all(reader, {tp: places[-1].offset + 1}, {tp: end}) == []


@check
async def reading_what_was_removed_is_an_error(bench: Bench) -> None:
    tp = await bench.filled(10)
    await bench.lab.trim(tp, before=4)
    reader = await bench.reader()
    with pytest.raises(OffsetOutOfRangeError):
        await read_all(reader, {tp: 2}, {tp: 8})
    assert [record.offset for record in await read_all(reader, {tp: 4}, {tp: 8})] == [4, 5, 6, 7]


@check
async def a_read_may_be_left_early(bench: Bench) -> None:
    tp = await bench.filled(10)
    reader = await bench.reader()
    async for batch in reader.read({tp: 0}, {tp: 10}):
        assert batch
        break
    assert len(await read_all(reader, {tp: 0}, {tp: 10})) == 10


@check
async def fetches_scattered_records_in_the_order_asked(bench: Bench) -> None:
    topic = await bench.topic(2)
    for number in range(2):
        await bench.write(topic, [b"%d/%d" % (number, value) for value in range(1_000)], partition=number)
    reader = await bench.reader()
    asked = [
        Position(topic, 1, 999),
        Position(topic, 0, 0),
        Position(topic, 0, 1_000),
        Position(topic, 1, 3),
        Position(topic, 0, 150),
        Position(topic, 0, 700),
        Position(topic, 1, 999),
    ]
    found = await reader.fetch(asked)
    assert [record.value if record else None for record in found] == [
        b"1/999",
        b"0/0",
        None,
        b"1/3",
        b"0/150",
        b"0/700",
        b"1/999",
    ]
    assert await reader.fetch([]) == []
    with pytest.raises(TopicMissingError):
        await reader.fetch([Position(f"{topic}.nowhere", 0, 0)])


@check
async def fetch_knows_holes_and_removed_records(bench: Bench) -> None:
    tp = TopicPartition(await bench.topic(), 0)
    places = await bench.lab.write_with_gaps(tp, [b"one", b"two", b"three"])
    await bench.lab.trim(tp, before=places[1].offset)
    reader = await bench.reader()
    hole = Position(*tp, places[1].offset + 1)
    found = await reader.fetch([places[0], places[1], hole, places[2]])
    assert [record.value if record else None for record in found] == [None, b"two", None, b"three"]


@check
async def fetching_goes_on_where_it_ended_and_elsewhere(bench: Bench) -> None:
    """In the order of the log, back to the beginning, in another partition, over both; what is written meanwhile, and
    what is removed."""
    topic = await bench.topic(2)
    for number in range(2):
        await bench.write(topic, [b"%d/%d" % (number, value) for value in range(600)], partition=number)
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    reader = await bench.reader()

    async def fetched(*ranges: tuple[TopicPartition, int, int]) -> list[bytes | None]:
        found = await reader.fetch([Position(*tp, offset) for tp, a, b in ranges for offset in range(a, b)])
        return [record.value if record else None for record in found]

    def written(tp: TopicPartition, start: int, end: int) -> list[bytes | None]:
        return [b"%d/%d" % (tp.partition, value) for value in range(start, end)]

    for start in range(0, 600, 200):
        assert await fetched((one, start, start + 200)) == written(one, start, start + 200)
    assert await fetched((one, 0, 100)) == written(one, 0, 100)
    assert await fetched((two, 0, 100)) == written(two, 0, 100)
    assert await fetched((one, 100, 200), (two, 500, 600)) == written(one, 100, 200) + written(two, 500, 600)
    assert await fetched((two, 100, 300), (one, 200, 300)) == written(two, 100, 300) + written(one, 200, 300)
    await bench.write(topic, [b"1/%d" % value for value in range(600, 700)], partition=1)
    assert await fetched((two, 550, 701)) == [*written(two, 550, 700), None]
    await bench.lab.trim(one, before=400)
    assert await fetched((one, 0, 10), (one, 400, 500)) == [None] * 10 + written(one, 400, 500)


@check
async def group_offsets_are_what_the_group_committed(bench: Bench) -> None:
    topic = await bench.topic(2)
    await bench.write(topic, [b"", b""], partition=1)
    reader = await bench.reader()
    one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert await reader.group_offsets(f"{bench.group}.unknown", [topic]) == {one: None, two: None}
    consumer = await bench.consumer(topic)
    await take(consumer, 2)
    await consumer.commit({two: 1})
    assert await reader.group_offsets(bench.group, [topic]) == {one: None, two: 1}
    with pytest.raises(TopicMissingError):
        await reader.group_offsets(bench.group, [f"{topic}.nowhere"])


@check
async def ensure_creates_what_is_missing_and_leaves_the_rest(bench: Bench) -> None:
    admin = await bench.admin()
    one, two = f"{bench.lab.name}.one", f"{bench.lab.name}.two"
    assert await admin.ensure([TopicSpec(one, 3)]) == [one]
    assert await admin.ensure([TopicSpec(one, 2), TopicSpec(two, 1)]) == [two], "more partitions than asked are fine"
    assert await admin.ensure([TopicSpec(one, 3), TopicSpec(two, 1)]) == []
    with pytest.raises(TransportError, match="3 partitions"):
        await admin.ensure([TopicSpec(one, 4), TopicSpec(f"{one}.not", 1)])
    assert await admin.describe([one, two, f"{one}.not"]) == {one: 3, two: 1, f"{one}.not": None}
    listed = await admin.topics()
    assert {one, two} <= set(listed)
    assert listed == sorted(listed)
    assert not [topic for topic in listed if topic.startswith("__")], "internal topics stay hidden"


@check
async def a_topic_keeps_the_settings_it_was_created_with(bench: Bench) -> None:
    admin, name = await bench.admin(), f"{bench.lab.name}.kept"
    await admin.ensure([TopicSpec(name, 1, 1, {"retention.ms": "-1"})])
    await admin.ensure([TopicSpec(name, 1, 1, {"retention.ms": "1000"})])
    assert (await admin.settings(name))["retention.ms"] == "-1"
    assert await admin.broker_count() >= 1


@check
async def sound_topics_raise_no_alarm(bench: Bench) -> None:
    topic = await bench.topic()
    assert await (await bench.admin()).unsafe_settings([topic, f"{topic}.nowhere"]) == []


@check
async def clients_stop_twice_and_refuse_work_before_start(bench: Bench) -> None:
    for client in (await bench.admin(), await bench.reader()):
        await client.stop()
        await client.stop()
    for _ in range(10):
        reader = bench.transport.reader()
        await reader.start()
        await reader.stop()
