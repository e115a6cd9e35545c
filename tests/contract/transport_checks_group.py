"""What every ``GroupConsumer`` must do."""

from __future__ import annotations

import asyncio
import time

import pytest
from transport_bench import Bench, Check, Hooks, poll_until, take

from broker_bridge.errors import LeaseLostError, OffsetOutOfRangeError, TopicMissingError, TransportError
from broker_bridge.message import TopicPartition

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function  # type: ignore[attr-defined]
    return function


@check
async def starts_at_the_earliest_and_keeps_offset_order(bench: Bench) -> None:
    tp = await bench.filled(25)
    consumer = await bench.consumer(tp.topic)
    records = await take(consumer, 25, max_records=10)
    assert [record.offset for record in records] == list(range(25))
    assert [record.value for record in records] == [str(number).encode() for number in range(25)]


@check
async def never_gives_more_than_asked(bench: Bench) -> None:
    tp = await bench.filled(25)
    consumer = await bench.consumer(tp.topic)
    seen = 0
    deadline = time.monotonic() + 20
    while seen < 25:
        assert time.monotonic() < deadline
        batch = await consumer.poll(max_records=4, timeout_ms=200)
        assert len(batch) <= 4
        seen += len(batch)


@check
async def answers_empty_after_the_timeout(bench: Bench) -> None:
    consumer = await bench.consumer(await bench.topic())
    began = time.monotonic()
    assert await consumer.poll(max_records=10, timeout_ms=200) == []
    assert 0.15 <= time.monotonic() - began < 5


@check
async def wakes_when_a_record_arrives(bench: Bench) -> None:
    topic = await bench.topic()
    consumer = await bench.consumer(topic)
    waiting = asyncio.ensure_future(consumer.poll(max_records=10, timeout_ms=10_000))
    began = time.monotonic()
    await bench.write(topic, [b"now"])
    assert [record.value for record in await waiting] == [b"now"]
    assert time.monotonic() - began < 5


@check
async def refuses_a_topic_that_does_not_exist(bench: Bench) -> None:
    consumer = bench.transport.consumer(group=bench.group, topics=[f"{bench.lab.name}.nowhere"])
    with pytest.raises(TopicMissingError):
        await consumer.start()
    admin = await bench.admin()
    assert f"{bench.lab.name}.nowhere" not in await admin.topics(), "asking must not create it"


@check
async def goes_on_from_the_committed_offset(bench: Bench) -> None:
    tp = await bench.filled(10)
    first = await bench.consumer(tp.topic)
    await take(first, 10)
    await first.commit({tp: 4})
    assert await first.committed(frozenset({tp})) == {tp: 4}
    await first.stop()
    second = await bench.consumer(tp.topic)
    assert [record.offset for record in await take(second, 6)] == [4, 5, 6, 7, 8, 9]


@check
async def says_what_it_will_read_next(bench: Bench) -> None:
    tp = await bench.filled(10)
    first = await bench.consumer(tp.topic)
    assert await first.positions(frozenset({tp})) == {tp: 0}
    records = await take(first, 4, max_records=4)
    assert await first.positions(frozenset({tp})) == {tp: records[-1].offset + 1}


@check
async def commits_nothing_by_itself(bench: Bench) -> None:
    tp = await bench.filled(5)
    consumer = await bench.consumer(tp.topic)
    await take(consumer, 5)
    assert await consumer.committed(frozenset({tp})) == {tp: None}
    await consumer.stop()
    reader = await bench.reader()
    assert await reader.group_offsets(bench.group, [tp.topic]) == {tp: None}


@check
async def equal_partitions_of_two_topics_go_to_one_member(bench: Bench) -> None:
    left, right = await bench.topic(4, "a"), await bench.topic(4, "b")
    hooks = Hooks()
    one = await bench.consumer(left, right, **hooks.of("one"))
    two = await bench.consumer(left, right, **hooks.of("two"))
    await poll_until(one, lambda: hooks.count("assigned", "one") == 2, "the rebalance did not come to an end")
    shares = [consumer.assignment() for consumer in (one, two)]
    assert shares[0].isdisjoint(shares[1])
    assert shares[0] | shares[1] == {TopicPartition(topic, number) for topic in (left, right) for number in range(4)}
    for share in shares:
        numbers = sorted(tp.partition for tp in share if tp.topic == left)
        assert numbers == sorted(tp.partition for tp in share if tp.topic == right)
        assert numbers in ([0, 1], [2, 3]), "the range assignor gives neighbours"


@check
async def revokes_from_the_old_owner_before_it_assigns_to_the_new(bench: Bench) -> None:
    topic = await bench.topic(2)
    hooks = Hooks()
    one = await bench.consumer(topic, **hooks.of("one"))
    await bench.consumer(topic, **hooks.of("two"))
    await poll_until(one, lambda: hooks.count("assigned", "one") == 2, "the rebalance did not come to an end")
    everything = frozenset(TopicPartition(topic, number) for number in range(2))
    assert hooks.events[0] == ("assigned", "one", everything)
    assert hooks.events[1] == ("revoked", "one", everything)
    assert {event[:2] for event in hooks.events[2:]} == {("assigned", "one"), ("assigned", "two")}


@check
async def may_commit_while_it_revokes(bench: Bench) -> None:
    tp = await bench.filled(6)
    topic = tp.topic
    consumers = []

    async def on_revoked(partitions: frozenset[TopicPartition]) -> None:
        assert tp in consumers[0].assignment()
        await consumers[0].commit({tp: 5})

    consumers.append(await bench.consumer(topic, on_revoked=on_revoked))
    await take(consumers[0], 6)
    await consumers[0].stop()
    second = await bench.consumer(topic)
    assert [record.offset for record in await take(second, 1)] == [5]


@check
async def gives_nothing_until_the_assignment_hook_has_returned(bench: Bench) -> None:
    tp = await bench.filled(3)
    second_topic = await bench.topic(1, "b")
    gate = asyncio.Event()
    gate.set()

    async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
        await gate.wait()

    one = await bench.consumer(tp.topic, second_topic, on_assigned=on_assigned)
    await take(one, 3)
    gate.clear()
    other = bench.transport.consumer(group=bench.group, topics=[tp.topic, second_topic])
    joining = asyncio.ensure_future(bench.started(other))
    came = []
    for _ in range(40):  # long enough for the rebalance to have revoked and assigned
        came += await one.poll(max_records=10, timeout_ms=50)
    assert came == []
    gate.set()
    await joining
    seen = []
    deadline = time.monotonic() + 20
    while len(seen) < 3 and time.monotonic() < deadline:
        for consumer in (one, other):
            seen += [record.offset for record in await consumer.poll(max_records=10, timeout_ms=50)]
    assert seen == [0, 1, 2]


@check
async def raises_from_poll_what_a_hook_raised_once(bench: Bench) -> None:
    tp = await bench.filled(2)

    async def on_assigned(partitions: frozenset[TopicPartition]) -> None:
        raise ValueError("the hook is broken")

    consumer = await bench.consumer(tp.topic, on_assigned=on_assigned)
    with pytest.raises(ValueError, match="the hook is broken"):
        await consumer.poll(max_records=10, timeout_ms=200)
    assert len(await take(consumer, 2)) == 2


@check
async def refuses_to_commit_what_is_not_ours(bench: Bench) -> None:
    topic = await bench.topic(2)
    hooks = Hooks()
    one = await bench.consumer(topic, **hooks.of("one"))
    two = await bench.consumer(topic, **hooks.of("two"))
    await poll_until(one, lambda: hooks.count("assigned", "one") == 2, "the rebalance did not come to an end")
    foreign = next(iter(two.assignment()))
    [ours] = one.assignment()
    with pytest.raises(LeaseLostError):
        await one.commit({ours: 0, foreign: 0})
    stored = await two.committed(frozenset({ours, foreign}))
    assert stored == {ours: None, foreign: None}, "a refused commit writes nothing"


@check
async def a_zombie_cannot_commit_and_then_joins_anew(bench: Bench) -> None:
    tp = await bench.filled(4)
    hooks = Hooks()
    one = await bench.consumer(tp.topic, **hooks.of("one"))
    await take(one, 4)
    two = bench.transport.consumer(group=bench.group, topics=[tp.topic], **hooks.of("two"))
    await bench.lab.evict(bench.group, one)
    joining = asyncio.ensure_future(bench.started(two))
    with pytest.raises(LeaseLostError):  # by the broker, or by the member itself once it has found out
        await one.commit({tp: 2})
    await poll_until(one, lambda: hooks.count("revoked", "one") >= 1, "the zombie never learned of it")
    await poll_until(one, joining.done, "the new member did not get in")
    reader = await bench.reader()
    assert await reader.group_offsets(bench.group, [tp.topic]) == {tp: None}


@check
async def pause_holds_these_and_lets_others_flow(bench: Bench) -> None:
    topic = await bench.topic(2)
    held, free = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = await bench.consumer(topic)
    consumer.pause(frozenset({held, TopicPartition("somebody.elses", 0)}))
    consumer.pause(frozenset({held}))
    await bench.write(topic, [b"held"], partition=0)
    await bench.write(topic, [b"free"], partition=1)
    assert [record.value for record in await take(consumer, 1)] == [b"free"]
    began = time.monotonic()
    assert await consumer.poll(max_records=10, timeout_ms=300) == []
    assert time.monotonic() - began < 5, "a poll while all is paused still answers in time"
    consumer.resume(frozenset({held, free}))
    consumer.resume(frozenset({held}))
    assert [record.value for record in await take(consumer, 1)] == [b"held"]


@check
async def pause_holds_what_was_fetched_ahead(bench: Bench) -> None:
    tp = await bench.filled(20)
    consumer = await bench.consumer(tp.topic)
    first = await take(consumer, 1, max_records=5)
    consumer.pause(frozenset({tp}))
    assert await consumer.poll(max_records=50, timeout_ms=200) == []
    consumer.resume(frozenset({tp}))
    rest = await take(consumer, 20 - len(first))
    assert [record.offset for record in first + rest] == list(range(20)), "nothing skipped, nothing twice"


@check
async def pause_is_forgotten_on_revoke(bench: Bench) -> None:
    tp = await bench.filled(3)
    hooks = Hooks()
    one = await bench.consumer(tp.topic, **hooks.of("one"))
    one.pause(one.assignment())
    two = await bench.consumer(tp.topic, **hooks.of("two"))
    await two.stop()
    seen = await poll_until(one, lambda: hooks.count("revoked", "one") >= 1, "no rebalance")
    assert [record.offset for record in seen + await take(one, 3 - len(seen))] == [0, 1, 2]


@check
async def says_so_when_its_position_is_not_in_the_log(bench: Bench) -> None:
    tp = await bench.filled(10)
    first = await bench.consumer(tp.topic)
    await take(first, 10)
    await first.commit({tp: 3})
    await first.stop()
    await bench.lab.trim(tp, before=6)
    second = await bench.consumer(tp.topic)
    for _ in range(2):
        with pytest.raises(OffsetOutOfRangeError) as caught:
            await take(second, 1)
        assert caught.value.where == f"{tp.topic}/0/3"
        assert "6 to 10" in caught.value.detail
    second.pause(frozenset({tp}))
    assert await second.poll(max_records=10, timeout_ms=300) == []
    assert await second.committed(frozenset({tp})) == {tp: 3}


@check
async def starts_at_the_first_offset_left_where_nothing_was_committed(bench: Bench) -> None:
    tp = await bench.filled(10)
    await bench.lab.trim(tp, before=6)
    consumer = await bench.consumer(tp.topic)
    assert [record.offset for record in await take(consumer, 4)] == [6, 7, 8, 9]


@check
async def passes_over_offsets_without_a_record(bench: Bench) -> None:
    tp = TopicPartition(await bench.topic(), 0)
    places = await bench.lab.write_with_gaps(tp, [b"one", b"two", b"three"])
    consumer = await bench.consumer(tp.topic)
    records = await take(consumer, 3)
    assert [(record.position, record.value) for record in records] == list(
        zip(places, [b"one", b"two", b"three"], strict=True)
    )
    assert await consumer.poll(max_records=10, timeout_ms=300) == []


@check
async def stop_calls_on_revoked_once_and_is_idempotent(bench: Bench) -> None:
    topic = await bench.topic(2)
    hooks = Hooks()
    consumer = await bench.consumer(topic, **hooks.of("one"))
    await consumer.stop()
    await consumer.stop()
    assert hooks.count("revoked", "one") == 1
    assert consumer.assignment() == frozenset()
    with pytest.raises(TransportError):
        await consumer.poll(max_records=1, timeout_ms=100)


@check
async def partitions_of_one_who_left_go_to_the_others(bench: Bench) -> None:
    topic = await bench.topic(2)
    hooks = Hooks()
    one = await bench.consumer(topic, **hooks.of("one"))
    two = await bench.consumer(topic, **hooks.of("two"))
    await poll_until(one, lambda: len(one.assignment()) == 1, "no rebalance")
    await two.stop()
    await poll_until(one, lambda: len(one.assignment()) == 2, "the partitions of the other were lost")
