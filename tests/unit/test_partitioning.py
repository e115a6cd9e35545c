"""Partitions of keys and ranges of members, as Kafka's Java client has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.message import TopicPartition
from broker_bridge.transport.partitioning import murmur2, partition_of
from broker_bridge.transport.range_assignment import assign_ranges

GOLDEN = sorted((Path(__file__).parents[2] / "schemas" / "golden").glob("*.json"))


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden_vectors(file: Path) -> None:
    vector = json.loads(file.read_text())
    for count in (4, 12):
        assert partition_of(vector["key"].encode(), count) == vector[f"partition_of_{count}"]


@given(st.binary(max_size=40))
def test_the_hash_is_that_of_other_clients(data: bytes) -> None:
    assert murmur2(data) == reference(data)


def test_known_hashes() -> None:
    """From the tests of Kafka's own client (UtilsTest.testMurmur2), unsigned."""
    assert murmur2(b"21") == -973932308 & 0xFFFFFFFF
    assert murmur2(b"foobar") == -790332482 & 0xFFFFFFFF
    assert murmur2(b"a-little-bit-long-string") == -985981536 & 0xFFFFFFFF


def ranges(members: dict[str, list[str]], counts: dict[str, int]) -> dict[str, set[tuple[str, int]]]:
    return {member: {tuple(tp) for tp in share} for member, share in assign_ranges(members, counts).items()}


def test_the_first_members_get_one_more() -> None:
    assert ranges({"b": ["t"], "a": ["t"]}, {"t": 3}) == {"a": {("t", 0), ("t", 1)}, "b": {("t", 2)}}


def test_more_members_than_partitions() -> None:
    assert ranges({"a": ["t"], "b": ["t"], "c": ["t"]}, {"t": 2}) == {"a": {("t", 0)}, "b": {("t", 1)}, "c": set()}


def test_only_subscribers_count() -> None:
    found = ranges({"a": ["t"], "b": ["t", "u"]}, {"t": 2, "u": 2, "v": 5})
    assert found == {"a": {("t", 0)}, "b": {("t", 1), ("u", 0), ("u", 1)}}


@given(st.dictionaries(st.text("abc", min_size=1), st.just(["t", "u"]), min_size=1, max_size=6), st.integers(0, 20))
def test_co_partitioned_and_complete(members: dict[str, list[str]], count: int) -> None:
    found = assign_ranges(members, {"t": count, "u": count})
    everything = [tp for share in found.values() for tp in share]
    assert sorted(everything) == [TopicPartition(topic, number) for topic in ("t", "u") for number in range(count)]
    for share in found.values():
        assert {n for topic, n in share if topic == "t"} == {n for topic, n in share if topic == "u"}
