"""Making a replay plan: look at every letter that is meant, and say of each whether it goes back."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from broker_bridge.clock import Clock
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.letters import LetterState, Selection
from broker_bridge.core.plan_lines import item_line, skipped_line
from broker_bridge.core.replay_plan import DEAD_LETTERS, PlanHeader, Prediction, plan_item, skipped_letter
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import ContractError, PlanRefusedError, UsageError
from broker_bridge.message import TopicPartition
from broker_bridge.replay.dead_letters import BrowsedLetter, DeadLetters
from broker_bridge.replay.route import Decode, ReplayRoute
from broker_bridge.transport.base import LogReader

UNDECODABLE_LISTED = 20

_SKIPPED = {
    LetterState.RESOLVED: "already_completed",
    LetterState.STALE: "stale",
    LetterState.DISCARDED: "discarded",
    LetterState.SUPERSEDED: "superseded",
    LetterState.REPLAYING: "in_hand",
    LetterState.CONFLICT: "key_conflicts",
}


@dataclass(slots=True, frozen=True)
class PlanWishes:
    """What the operator asked for. ``why`` is required: it stands in the plan for whoever reads it later.

    ``allow_expired`` lets letters in whose claim is gone, so that nothing stops a second effect (I19).
    ``include_undecodable`` sends back even what would fail at decoding again.
    """

    selection: Selection
    by: str
    why: str
    allow_expired: bool = False
    include_undecodable: bool = False


class Planner:
    """Makes plans for one route. ``reader`` is started by the caller; ``decode`` is None for a route without
    contract."""

    def __init__(
        self, *, letters: DeadLetters, reader: LogReader, route: ReplayRoute, clock: Clock, decode: Decode | None
    ) -> None:
        self._letters = letters
        self._reader = reader
        self._route = route
        self._clock = clock
        self._decode = decode

    @contextmanager
    def spool(self) -> Iterator[BinaryIO]:
        """Where ``draft`` keeps item lines, so that a large plan is not held in memory."""
        with tempfile.TemporaryFile() as file:
            yield file

    async def draft(self, wishes: PlanWishes, *, spool: BinaryIO) -> PlanHeader:
        """Write the item lines to ``spool``, rewound, and answer the header. Raises ``PlanRefusedError``."""
        if not wishes.why.strip():
            raise UsageError("a replay needs a reason", remedy='say why: --why "payments accepts vouchers again"')
        redrive = await self._redrive_ends()
        bounds = await self._letters.ends()
        self._check_partitions(bounds, redrive)
        counts: Counter[str] = Counter()
        undecodable_at: list[str] = []
        # One partition after the other: the items of one are sorted in memory, those of all need not be.
        with tempfile.TemporaryFile() as skipped:
            for tp in sorted(bounds):
                spool.writelines(await self._items_of(tp, bounds[tp], wishes, counts, undecodable_at, skipped))
            skipped.seek(0)
            spool.writelines(skipped)
        spool.seek(0)
        prediction = replace(Prediction(**dict[str, Any](counts)), undecodable_at=tuple(undecodable_at))
        return self._header(wishes, prediction, bounds, redrive)

    async def _items_of(
        self,
        tp: TopicPartition,
        bounds: tuple[int, int],
        wishes: PlanWishes,
        counts: Counter[str],
        undecodable_at: list[str],
        skipped: BinaryIO,
    ) -> list[bytes]:
        lines: list[tuple[int, int, bytes]] = []
        async for batch in self._letters.browse(wishes.selection, bounds={tp: bounds}):
            for browsed in batch:
                counts["selected"] += 1
                heading = self._heading(browsed, wishes)
                counts[heading] += 1
                letter = browsed.letter
                if heading == "undecodable" and len(undecodable_at) < UNDECODABLE_LISTED:
                    undecodable_at.append(str(letter.position))
                if heading == "to_replay":
                    line = item_line(plan_item(letter, namespace=self._route.topic))
                    lines.append((letter.origin.offset, letter.position.offset, line))
                else:
                    skipped.write(skipped_line(skipped_letter(letter, heading, namespace=self._route.topic)))
        return [line for _, _, line in sorted(lines)]

    def _heading(self, browsed: BrowsedLetter, wishes: PlanWishes) -> str:
        letter, state, _ = browsed
        if state in _SKIPPED:
            return _SKIPPED[state]
        if state is LetterState.UNKNOWN and not wishes.allow_expired:
            return "claim_expired"
        if letter.hops >= self._route.max_hops:
            return "over_hop_limit"
        if not wishes.include_undecodable and not self._decodes(letter):
            return "undecodable"
        return "to_replay"

    def _decodes(self, letter: DeadLetter) -> bool:
        if self._decode is None or letter.value is None:
            return True
        try:
            self._decode(letter.value, letter.headers)
        except ContractError:
            return False
        return True

    async def _redrive_ends(self) -> dict[TopicPartition, int]:
        offsets = await self._reader.offsets([self._route.redrive_topic])
        return {tp: after for tp, (_, after) in offsets.items()}

    def _check_partitions(
        self, letters: dict[TopicPartition, tuple[int, int]], redrive: dict[TopicPartition, int]
    ) -> None:
        if len(redrive) < len(letters):
            raise PlanRefusedError(
                f"the redrive lane has {len(redrive)} partitions, the dead-letter topic {len(letters)}: "
                "a replayed record must keep its partition",
                where=self._route.redrive_topic,
                remedy="broker-bridge worker topics --create makes the lanes alike",
            )

    def _header(
        self,
        wishes: PlanWishes,
        prediction: Prediction,
        bounds: dict[TopicPartition, tuple[int, int]],
        redrive: dict[TopicPartition, int],
    ) -> PlanHeader:
        route = self._route
        return PlanHeader(
            created_at=rfc3339(self._clock.now_ms()),
            by=wishes.by,
            why=wishes.why.strip(),
            route=route.name,
            group=route.group,
            topic=route.topic,
            dead_letter_topic=route.dead_letter_topic,
            destination=route.redrive_topic,
            max_hops=route.max_hops,
            allow_expired=wishes.allow_expired,
            selection=wishes.selection.as_json(),
            source={"kind": DEAD_LETTERS, "topic": route.dead_letter_topic},
            source_until={str(tp.partition): after for tp, (_, after) in sorted(bounds.items())},
            redrive_from={str(tp.partition): after for tp, after in sorted(redrive.items())},
            prediction=prediction,
        )
