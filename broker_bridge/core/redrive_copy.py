"""The record that brings a dead letter back, written from the letter's bytes as they are.

Of a million letters nearly all are exactly what the plan says, and that shows in their bytes: nothing need be decoded,
and what the lane needs is there in the form in which it is written. 9 µs a letter instead of 24. Whatever is not plain
is left to ``core.dead_letter.write_redrive``, which writes the same.
"""

from __future__ import annotations

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import claim_key_in, payload_fingerprint
from broker_bridge.core.replay_plan import PlanItem, key_hash
from broker_bridge.message import Header, OutgoingRecord, Position


class RedriveCopies:
    """Writes the records of one plan. ``namespace`` is its source topic, ``topic`` its redrive lane, ``order`` what its
    records say of newer messages of their keys."""

    def __init__(self, *, namespace: str, topic: str, group: str, replay_id: str, order: str) -> None:
        self._namespace = namespace
        self._topic = topic
        self._group = group.encode()
        self._group_header: Header = (h.GROUP, self._group)
        self._replay_header: Header = (h.REPLAY_ID, replay_id.encode())
        self._order_header: Header = (h.ORDER, order.encode())

    def plain_copy(self, number: int, item: PlanItem, letter: DeadLetter, *, now_ms: int) -> OutgoingRecord | None:
        """The record of item ``number``, None where it must be looked at more closely: the letter may not be the
        planned one, or is to be changed."""
        record = letter.record
        if record is None or item.sends or item.forces or item.origin_topic:
            return None
        named = dict(record.headers)
        origin = Position(self._namespace, item.origin_partition, item.origin_offset)
        stated = b"%s/%d/%d" % (self._namespace.encode(), item.origin_partition, item.origin_offset)
        value, key = record.value, record.key
        is_planned = (
            named.get(h.ORIGIN) == stated
            and record.offset == item.offset
            and record.partition == item.partition
            and named.get(h.HOPS) == b"%d" % item.hops
            and named.get(h.ERROR_CODE) == item.code.encode()
            and named.get(h.GROUP) == self._group
            and payload_fingerprint(value).hex() == item.payload
            and claim_key_in(named, origin, namespace=self._namespace).hex() == item.claim
            and key_hash(key) == item.key_hash
        )
        if not is_planned or letter.writer or h.EDITED_FROM in named:
            return None
        headers = [header for header in record.headers if not header[0].startswith(h.BRIDGE_PREFIX)]
        headers += (
            (h.ORIGIN, stated),
            (h.ORIGIN_TIMESTAMP_MS, b"%d" % record.timestamp_ms),
            self._group_header,
            self._replay_header,
            (h.HOPS, b"%d" % (item.hops + 1)),
            (h.DEAD_LETTER, b"%s/%d/%d" % (record.topic.encode(), record.partition, record.offset)),
            (h.REPLAY_ITEM, b"%d" % number),
            self._order_header,
        )
        return OutgoingRecord(self._topic, value, key, headers, item.origin_partition, now_ms)
