"""The redrive lane as the replay's own memory: what a plan has sent stands there and nowhere else.

A run that was killed leaves its last acknowledged record in the lane. The next run reads the lane from where it ended
when the plan was made, and finds every record with the plan's id. No second store can disagree with it.
"""

from __future__ import annotations

from broker_bridge import headers as h
from broker_bridge.message import TopicPartition
from broker_bridge.replay.plan_file import Plan
from broker_bridge.transport.base import LogReader

Sent = dict[tuple[int, int], int]
"""Place of a dead letter → offset of its last copy in the redrive lane (same partition)."""


async def sent_by(plan: Plan, reader: LogReader) -> Sent:
    """What this plan has sent so far, by any run of it."""
    lane = plan.header.destination
    start: dict[TopicPartition, int] = {}
    end: dict[TopicPartition, int] = {}
    for tp, (first, after) in (await reader.offsets([lane])).items():
        recorded = plan.header.redrive_from.get(str(tp.partition), 0)
        # Beyond the end means that the lane was made anew since: then all of it may be ours.
        start[tp] = max(first, recorded) if recorded <= after else first
        end[tp] = after
    sent: Sent = {}
    async for records in reader.read(start, end):
        for record in records:
            if h.text_of(record.headers, h.REPLAY_ID) != plan.id:
                continue
            letter = h.parse_position(h.text_of(record.headers, h.DEAD_LETTER) or "")
            if letter is not None:
                sent[letter.partition, letter.offset] = record.offset
    return sent
