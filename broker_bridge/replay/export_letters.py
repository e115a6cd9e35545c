"""Exporting dead letters: every one that is selected, with what became of it, one batch in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress

from broker_bridge.core.exported_letter import letter_line
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.errors import ContractError
from broker_bridge.replay.dead_letters import BrowsedLetter, DeadLetters
from broker_bridge.replay.export import ExportWriter
from broker_bridge.replay.route import Decode

Progress = Callable[[ExportWriter], None]


async def export_letters(
    letters: DeadLetters,
    selection: Selection,
    writer: ExportWriter,
    *,
    decode: Decode | None = None,
    progress: Progress | None = None,
) -> Counter[LetterState]:
    """Write the selected letters that are there when the call begins, each partition in the order of its log, and count
    them by state. ``decode`` adds the values as JSON where they decode."""
    states: Counter[LetterState] = Counter()
    async with aclosing(letters.browse(selection)) as batches:
        async for batch in batches:
            for browsed in batch:
                writer.add(_line(browsed, decode))
                states[browsed.state] += 1
            if progress is not None:
                progress(writer)
    return states


def _line(browsed: BrowsedLetter, decode: Decode | None) -> bytes:
    letter = browsed.letter
    assert letter.record is not None  # it was read from a topic
    decoded = None
    if decode is not None and letter.value is not None:
        with suppress(ContractError):  # the bytes are there
            decoded = decode(letter.value, letter.headers)
    return letter_line(letter.record, letter, state=browsed.state.value, decoded=getattr(decoded, "value", decoded))
