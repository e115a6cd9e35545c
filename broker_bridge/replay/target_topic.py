"""Reading what a target did from a topic: each record there is the result of one effect.

Which message it was the effect of, its headers say. Without being told which, the first of these that is there is
taken: ``causation-id`` (the event's id), ``idempotency-key``, ``ce_id`` without its ``.out``, ``correlation-id``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from broker_bridge import headers as h
from broker_bridge.core.reconcile import TargetLine
from broker_bridge.message import Record
from broker_bridge.replay.audit_doubts import all_of
from broker_bridge.transport.base import LogReader

_SUFFIX = ".out"


async def read_target_topic(
    reader: LogReader, topic: str, *, id_header: str | None = None
) -> AsyncIterator[TargetLine | None]:
    """A line for each record, numbered through, at the record's time; None for one that names no message.

    Raises ``TopicMissingError``.
    """
    number = 0
    async for record in all_of(reader, [topic], {}):
        number += 1
        yield result_line(record, number=number, id_header=id_header)


def result_line(record: Record, *, number: int, id_header: str | None) -> TargetLine | None:
    """What one record says."""
    named = dict(record.headers)
    key = h.text_in(named, id_header) if id_header else _cause(named)
    if not key:
        return None
    origin = h.text_in(named, h.ORIGIN)
    return TargetLine(
        number=number,
        key=key,
        attempt=h.int_in(named, h.ATTEMPT, 1),
        replay_id=h.text_in(named, h.REPLAY_ID),
        origin=h.parse_position(origin) if origin else None,
        at_ms=record.timestamp_ms,
        result_id=h.text_in(named, h.CE_ID),
        is_event_id=True,
    )


def _cause(named: Mapping[str, bytes | None]) -> str | None:
    for name in (h.CAUSATION_ID, h.IDEMPOTENCY_KEY):
        if found := h.text_in(named, name):
            return found
    own = h.text_in(named, h.CE_ID) or ""
    return own.removesuffix(_SUFFIX) if own.endswith(_SUFFIX) else h.text_in(named, h.CORRELATION_ID)
