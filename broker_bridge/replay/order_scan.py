"""Which letters have a newer message of their record key that was completed: the source topic is read again for it.

Only records whose key is that of a selected letter are looked at, 16 bytes a key. Two keys with one 8-byte hash are
taken for one (of a million keys, in one plan of 37 million): then a letter may be called out of order that is not.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from hashlib import blake2b
from typing import NamedTuple

from broker_bridge import headers as h
from broker_bridge.core.claim import DISCARDED_DETAIL, STALE_DETAIL, ClaimState, ClaimView, pack_origin
from broker_bridge.core.identity import claim_key
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.replay.claims import with_claims
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.transport.base import LogReader

_NOT_EXECUTED = (STALE_DETAIL, DISCARDED_DETAIL)


def key_number(key: bytes) -> int:
    """The hash of a record key as a number."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


class _Seen(NamedTuple):
    """A record whose key is asked about: its partition, the slot of its key there, its offset and its claim's key."""

    partition: int
    slot: int
    offset: int
    claim: bytes


class OrderScan:
    """Keys are watched first, then the topic is read once, then asked about. ``reader`` and ``store`` are started."""

    def __init__(self, *, reader: LogReader, store: IdempotencyStore, route: ReplayRoute) -> None:
        self._reader = reader
        self._store = store
        self._route = route
        self._keys: dict[int, array[int]] = {}
        self._newest: dict[int, array[int]] = {}
        self._lowest: dict[int, int] = {}

    def watch(self, partition: int, offset: int, key: int) -> None:
        """Ask about this key (``key_number``) of this partition of the source topic, from ``offset`` on."""
        keys = self._keys.get(partition)
        if keys is None:
            keys = self._keys[partition] = array("Q")
        keys.append(key)
        self._lowest[partition] = min(offset, self._lowest.get(partition, offset))

    async def read(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read the topic from the lowest watched offset to what the group has committed. ``progress`` is told how many
        offsets are passed, and of how many. What retention has removed is not looked at."""
        start, end = await self._bounds()
        for partition, keys in self._keys.items():
            self._keys[partition] = _distinct(keys)
            self._newest[partition] = array("q", [-1]) * len(self._keys[partition])
        records = self._reader.read(start, end)
        seen = self._watched(records, start, end, progress)
        looked_up = with_claims(seen, key_of=lambda one: one.claim, store=self._store, group=self._route.group)
        async with aclosing(seen), aclosing(looked_up):
            async for batch in looked_up:
                for one, claim in batch:
                    if self._was_executed(one, claim):
                        newest = self._newest[one.partition]
                        newest[one.slot] = max(newest[one.slot], one.offset)

    def has_newer(self, partition: int, offset: int, key: int) -> bool:
        """Whether a message of this key behind ``offset`` was completed."""
        keys = self._keys[partition]
        index = bisect_left(keys, key)
        return index < len(keys) and keys[index] == key and self._newest[partition][index] > offset

    async def _bounds(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        topic = self._route.topic
        bounds = await self._reader.offsets([topic])
        committed = await self._reader.group_offsets(self._route.group, [topic])
        start, end = {}, {}
        for partition, lowest in self._lowest.items():
            tp = TopicPartition(topic, partition)
            first, after = bounds.get(tp, (0, 0))
            start[tp] = max(first, lowest + 1)
            end[tp] = min(after, committed.get(tp) or 0)
        return {tp: at for tp, at in start.items() if at < end[tp]}, end

    async def _watched(
        self,
        records: AsyncIterator[list[Record]],
        start: dict[TopicPartition, int],
        end: dict[TopicPartition, int],
        progress: Callable[[int, int], None] | None,
    ) -> AsyncGenerator[list[_Seen], None]:
        total, passed = sum(end[tp] - at for tp, at in start.items()), 0
        async for batch in records:
            yield [one for one in map(self._seen, batch) if one is not None]
            passed += len(batch)
            if progress is not None:
                progress(min(passed, total), total)

    def _seen(self, record: Record) -> _Seen | None:
        if record.key is None:
            return None
        keys, number = self._keys[record.partition], key_number(record.key)
        index = bisect_left(keys, number)
        if index == len(keys) or keys[index] != number:
            return None
        identity = h.identify(record, trusted=False)
        claim = claim_key(identity.idempotency_key, namespace=self._route.topic)
        return _Seen(record.partition, index, record.offset, claim)

    def _was_executed(self, one: _Seen, claim: ClaimView | None) -> bool:
        """Whether this very record completed: not a duplicate of an earlier one, and not turned away."""
        return (
            claim is not None
            and claim.state is ClaimState.COMPLETED
            and claim.detail not in _NOT_EXECUTED
            and claim.origin == pack_origin(*Position(self._route.topic, one.partition, one.offset))
        )


def _distinct(keys: Iterable[int]) -> array[int]:
    found: array[int] = array("Q")
    last = -1
    for key in sorted(keys):
        if key != last:
            found.append(key)
            last = key
    return found
