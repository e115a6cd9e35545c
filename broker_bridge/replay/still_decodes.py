"""Whether the newest records of a topic, or its dead letters, would still decode under a new version of a contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker_bridge.core.dead_letter import read_dead_letter
from broker_bridge.errors import ContractError, TopicMissingError
from broker_bridge.headers import schema_header_of
from broker_bridge.message import Header, TopicPartition
from broker_bridge.transport.base import LogReader

MAX_EXAMPLES: Final = 5

Decode = Callable[[bytes, bytes | None], object]
"""From a value, and the header that names its schema, to anything; raises ContractError."""


@dataclass(slots=True)
class Sample:
    """What became of the records that were looked at.

    ``failed`` decode today and would no longer, ``unreadable`` do not decode today either, ``empty`` have no value.
    """

    route: str
    topic: str
    dead_letters: bool
    read: int = 0
    decoded: int = 0
    failed: int = 0
    unreadable: int = 0
    empty: int = 0
    examples: list[str] = field(default_factory=list)


async def still_decodes(sample: Sample, reader: LogReader, *, today: Decode, then: Decode, limit: int) -> Sample:
    """Fills ``sample`` from at most ``limit`` records, the newest of each partition. ``reader`` is started.

    A topic that is not there yet has no records. Raises TransportError.
    """
    async for place, value, headers in _newest(sample, reader, limit):
        sample.read += 1
        if value is None:
            sample.empty += 1
            continue
        name = schema_header_of(headers)
        problem = _refused(then, value, name)
        if problem is None:
            sample.decoded += 1
        elif _refused(today, value, name) is not None:
            sample.unreadable += 1
        else:
            sample.failed += 1
            if len(sample.examples) < MAX_EXAMPLES:
                sample.examples.append(f"{place}: {problem}")
    return sample


def _refused(decode: Decode, value: bytes, name: bytes | None) -> str | None:
    try:
        decode(value, name)
    except ContractError as error:
        return str(error)
    return None


async def _newest(
    sample: Sample, reader: LogReader, limit: int
) -> AsyncIterator[tuple[str, bytes | None, Sequence[Header]]]:
    try:
        bounds = await reader.offsets([sample.topic])
    except TopicMissingError:
        return
    each = max(1, limit // max(1, len(bounds)))
    starts = {tp: max(first, end - each) for tp, (first, end) in bounds.items()}
    ends: dict[TopicPartition, int] = {tp: end for tp, (_, end) in bounds.items()}
    async for batch in reader.read(starts, ends):
        for record in batch:
            headers: Sequence[Header] = record.headers
            if sample.dead_letters:
                headers = read_dead_letter(record).headers
            yield f"{record.topic}/{record.partition}/{record.offset}", record.value, headers
