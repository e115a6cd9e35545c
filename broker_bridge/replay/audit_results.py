"""Whether completed records have their results: ids expected and ids seen, on disk."""

from __future__ import annotations

from broker_bridge import headers as h
from broker_bridge.core.audit import OutputTally, output_id
from broker_bridge.message import Position
from broker_bridge.replay.audit_doubts import all_of
from broker_bridge.replay.scratch import Scratch, in_step
from broker_bridge.transport.base import LogReader

_TABLES = """
CREATE TABLE expected (id TEXT, partition INTEGER, at INTEGER);
CREATE TABLE seen (id TEXT);
"""


class Results:
    """Expected while records are entered in the books (``expect``), read and compared after them (``tally``)."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._scratch = Scratch(_TABLES)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._scratch.close()

    def expect(self, event_id: str | None, position: Position) -> None:
        """This record completed."""
        self._scratch.add("INSERT INTO expected VALUES (?, ?, ?)", (output_id(event_id, position), *position[1:]))

    async def tally(self, reader: LogReader, output_topic: str) -> OutputTally:
        """Read every result there is, and compare."""
        async for record in all_of(reader, [output_topic], {}):
            found = h.text_of(record.headers, h.CE_ID) or ""
            self._scratch.add("INSERT INTO seen VALUES (?)", (found,))
        tally = OutputTally()
        expected = self._scratch.rows("SELECT id, partition, at FROM expected ORDER BY id, partition, at")
        seen = self._scratch.rows("SELECT id, count(*) FROM seen GROUP BY id ORDER BY id")
        for _, records, results in in_step(expected, seen):
            _, partition, at = next(records, (None, None, None))
            position = None if partition is None else Position(self._topic, partition, at)
            tally.judge(position, sum(count for _, count in results))
        return tally
