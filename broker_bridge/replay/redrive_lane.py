"""The redrive lane as the replay's own memory: what a plan has sent stands there and nowhere else.

A run that was killed leaves its last acknowledged record in the lane. The next run reads the lane from where it ended
when the plan was made, and finds the number of every item that was sent (``bridge-replay-item``). No second store can
disagree with it. What is kept of it is a bit or a few numbers for each item.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from broker_bridge import headers as h
from broker_bridge.core.identity import claim_key_in, payload_fingerprint
from broker_bridge.core.replay_state import claim_of
from broker_bridge.message import Position, Record, TopicPartition
from broker_bridge.replay.plan_file import Plan
from broker_bridge.transport.base import LogReader

LISTED: Final = 20
"""Records that are not of the plan: of so many the places are kept."""
NOWHERE: Final = -1


class SentItems:
    """Which items of a plan were sent: a bit each."""

    def __init__(self, items: int) -> None:
        self._bits = bytearray((items + 7) // 8)
        self.count = 0

    def add(self, number: int) -> None:
        """This one was sent."""
        place, bit = number >> 3, 1 << (number & 7)
        if not self._bits[place] & bit:
            self._bits[place] |= bit
            self.count += 1

    def __contains__(self, number: int) -> bool:
        return bool(self._bits[number >> 3] & 1 << (number & 7))


@dataclass(slots=True)
class LaneContent:
    """What stands in the lane under a plan's id. ``offset_of`` has the offset of each item's last copy, ``NOWHERE``
    without one. ``copies`` are further copies of items. ``foreign`` records carry the plan's id and are not what the
    plan sends; the first places are listed, each with the reason."""

    offset_of: array[int]
    records: Counter[int] = field(default_factory=Counter)
    copies: int = 0
    foreign: int = 0
    foreign_at: list[tuple[Position, str]] = field(default_factory=list)

    def lane_offset(self, number: int) -> int | None:
        """Where an item's last copy is, None where it was never sent."""
        found = self.offset_of[number]
        return None if found == NOWHERE else found


async def sent_items(plan: Plan, reader: LogReader) -> SentItems:
    """What this plan has sent so far, by any run of it. A record that carries its id and is not the item that it says
    to be was not sent by any: the item is left to be sent."""
    sent, ours = SentItems(plan.end.items), plan.id.encode()
    expected: _Expected | None = None
    start, end = await _bounds(plan, reader)
    async for records in reader.read(start, end):
        for record in records:
            named = dict(record.headers)
            if named.get(h.REPLAY_ID) != ours:
                continue
            expected = expected or _Expected(plan)  # the first run finds none of its own, and need not know
            number = h.int_in(named, h.REPLAY_ITEM, NOWHERE)
            if not expected.speaks_against(number, record, named):
                sent.add(number)
    return sent


async def lane_content(plan: Plan, reader: LogReader) -> LaneContent:
    """Everything in the lane under the plan's id, each record held against the item whose number it carries."""
    expected = _Expected(plan)
    content = LaneContent(array("q", [NOWHERE]) * plan.end.items)
    start, end = await _bounds(plan, reader)
    ours = plan.id.encode()
    async for records in reader.read(start, end):
        for record in records:
            named = dict(record.headers)
            if named.get(h.REPLAY_ID) != ours:
                continue
            number = h.int_in(named, h.REPLAY_ITEM, NOWHERE)
            if reason := expected.speaks_against(number, record, named):
                content.foreign += 1
                if len(content.foreign_at) < LISTED:
                    content.foreign_at.append((record.position, reason))
                continue
            content.records[record.partition] += 1
            content.copies += content.offset_of[number] != NOWHERE
            content.offset_of[number] = record.offset
    return content


class _Expected:
    """What the plan sends under each number: 24 bytes an item, which tell its origin, its payload and its claim."""

    def __init__(self, plan: Plan) -> None:
        self._topic = plan.header.topic
        self._count = plan.end.items
        self._origin, self._payload, self._claim = (array("Q", [0]) * self._count for _ in range(3))
        for number, item in enumerate(plan.items()):
            self._origin[number] = _origin_mark(str(item.origin(self._topic)))
            self._payload[number] = int(item.sends or item.payload, 16)
            self._claim[number] = _claim_mark(claim_of(item, plan.id, namespace=self._topic))

    def speaks_against(self, number: int, record: Record, named: Mapping[str, bytes | None]) -> str:
        """Why the record is not that item; empty where it is."""
        if not 0 <= number < self._count:
            return "the plan has no such item"
        stated = h.text_in(named, h.ORIGIN) or ""
        if _origin_mark(stated) != self._origin[number]:
            return f"it is not the message of item {number}"
        if int.from_bytes(payload_fingerprint(record.value), "big") != self._payload[number]:
            return f"its value is not that of item {number}"
        # Under another key it has a claim of its own: whoever executed it, executed the message once more.
        origin = h.parse_position(stated) or record.position
        if _claim_mark(claim_key_in(named, origin, namespace=self._topic)) != self._claim[number]:
            return f"its idempotency key is not that of item {number}"
        return ""


def _origin_mark(origin: str) -> int:
    return int.from_bytes(payload_fingerprint(origin.encode()), "big")


def _claim_mark(claim: bytes) -> int:
    return int.from_bytes(claim[:8], "big")


async def _bounds(plan: Plan, reader: LogReader) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    start: dict[TopicPartition, int] = {}
    end: dict[TopicPartition, int] = {}
    for tp, (first, after) in (await reader.offsets([plan.header.destination])).items():
        recorded = plan.header.redrive_from.get(str(tp.partition), 0)
        # Beyond the end means that the lane was made anew since: then all of it may be ours.
        start[tp] = max(first, recorded) if recorded <= after else first
        end[tp] = after
    return start, end
