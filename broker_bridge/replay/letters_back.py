"""From a planned item and the letter found for it to the record that brings it back, if it is the planned one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from broker_bridge import headers as h
from broker_bridge.core.dead_letter import DeadLetter, write_redrive
from broker_bridge.core.identity import payload_fingerprint
from broker_bridge.core.redrive_copy import RedriveCopies
from broker_bridge.core.replay_plan import PlanItem, difference
from broker_bridge.core.replay_state import forced_key
from broker_bridge.errors import PlanRefusedError
from broker_bridge.message import OutgoingRecord
from broker_bridge.replay.plan_file import Plan
from broker_bridge.replay.sources.base import Numbered

if TYPE_CHECKING:
    from broker_bridge.replay.edit import LetterEdit


class LettersBack:
    """Makes the records of one plan. ``edit`` is the plan's, None where it has none."""

    def __init__(self, plan: Plan, edit: LetterEdit | None) -> None:
        self._header = plan.header
        self._plan_id = plan.id
        self._order = plan.header.order_header
        self._edit = edit
        self._copies = RedriveCopies(
            namespace=plan.header.topic,
            topic=plan.header.destination,
            group=plan.header.group,
            replay_id=plan.id,
            order=self._order,
        )

    def record(self, numbered: Numbered, letter: DeadLetter | None, *, now_ms: int) -> OutgoingRecord:
        """The record of an item. Raises ``PlanRefusedError`` where the letter is gone or is not what the plan says."""
        number, item = numbered
        header = self._header
        if letter is None:
            raise PlanRefusedError(
                f"the letter of {item.origin(header.topic)} is gone",
                where=self._place(item),
                remedy="retention removed it, or the topic was made anew; make a new plan of what is left",
            )
        plain = self._copies.plain_copy(number, item, letter, now_ms=now_ms)
        if plain is not None:
            return plain
        if differs := difference(item, letter, namespace=header.topic):
            raise PlanRefusedError(
                f"another record stands where the plan's was ({differs} differ)",
                where=self._place(item),
                remedy="the topic was made anew; make a new plan",
            )
        if item.sends:
            letter = self._edited(item, letter)
        if item.forces:
            letter = self._forced(item, letter)
        return write_redrive(
            letter, topic=header.destination, replay_id=self._plan_id, now_ms=now_ms, item=number, order=self._order
        )

    def _edited(self, item: PlanItem, letter: DeadLetter) -> DeadLetter:
        edited = letter if self._edit is None else self._edit.apply(letter)[0]
        if payload_fingerprint(edited.value).hex() != item.sends:
            raise PlanRefusedError(
                "the edit gives another value than when the plan was made",
                where=self._place(item),
                remedy="the contract or its upcasters were changed since; make a new plan",
            )
        return edited

    def _forced(self, item: PlanItem, letter: DeadLetter) -> DeadLetter:
        key = forced_key(item, self._plan_id)
        kept = [header for header in letter.headers if header[0] != h.IDEMPOTENCY_KEY]
        return replace(letter, headers=(*kept, (h.IDEMPOTENCY_KEY, key.encode())), idempotency_key=key)

    def _place(self, item: PlanItem) -> str:
        source = self._header.source
        return f"{source.get('topic') or source.get('path')}/{item.partition}/{item.offset}"
