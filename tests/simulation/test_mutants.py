"""Engines broken on purpose: the checker must object to each within a few seeds. What cannot fail proves nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from shop_world import simulate
from shrink import invariant_of

from broker_bridge.core.claim import ClaimAnswer, ClaimStatus
from broker_bridge.core.parking import ParkingLot
from broker_bridge.core.watermark import Watermark
from broker_bridge.errors import TransportError
from broker_bridge.message import OutgoingRecord, Position
from broker_bridge.worker import outcome as outcome_module
from broker_bridge.worker.admission import Admission
from broker_bridge.worker.claim_stage import ClaimStage
from broker_bridge.worker.committer import Committer
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.partitions import Assignment, PartitionState
from broker_bridge.worker.rebuild import ParkedSetRebuild
from broker_bridge.worker.settler import Settler

SEEDS = 40
Patch = pytest.MonkeyPatch


def commits_the_highest_offset_seen(patch: Patch) -> None:
    patch.setattr(Watermark, "committable", property(lambda self: self._next))


def settles_when_claimed(patch: Patch) -> None:
    granted = ClaimStage._granted

    def early(self: ClaimStage, delivery: Delivery, answer: ClaimAnswer) -> int:
        delivery.part.watermark.settle(delivery.record.offset)
        return granted(self, delivery, answer)

    patch.setattr(ClaimStage, "_granted", early)


def commits_backwards(patch: Patch) -> None:
    commit, calls = Committer.commit, itertools.count()

    async def sometimes_older(self: Committer, states: Any) -> None:
        states = list(states)
        await commit(self, states)
        if next(calls) % 5 == 4:
            older = {s.tp: s.committed - 1 for s in states if s.committed}
            await self._consumer.commit(older) if older and not any(s.gone for s in states) else None

    patch.setattr(Committer, "commit", sometimes_older)


def parks_nobody(patch: Patch) -> None:
    patch.setattr(ParkingLot, "lane_ahead", lambda *_: None)


def does_not_rebuild_the_parked_set(patch: Patch) -> None:
    async def nothing(*_: object) -> int:
        return 0

    patch.setattr(ParkedSetRebuild, "_read", nothing)
    patch.setattr(Admission, "_read_lane_headers", _without_parking(Admission._read_lane_headers))


def _without_parking(read: Callable[..., None]) -> Callable[..., None]:
    def read_only(self: Admission, delivery: Delivery, now_ms: int) -> None:
        lot, delivery.part.parked = delivery.part.parked, ParkingLot()
        read(self, delivery, now_ms)
        delivery.part.parked = lot

    return read_only


def keeps_no_order(patch: Patch) -> None:
    serial = itertools.count()
    patch.setattr(Admission, "_order_key", lambda *_: next(serial))


def claims_nothing(patch: Patch) -> None:
    call, tokens = ClaimStage._call, itertools.count(1)

    async def always(self: ClaimStage, batch: Sequence[Delivery]) -> list[ClaimAnswer]:
        answers = await call(self, batch)
        return [
            answer if answer.status is ClaimStatus.GRANTED else ClaimAnswer(ClaimStatus.GRANTED, next(tokens))
            for answer in answers
        ]

    patch.setattr(ClaimStage, "_call", always)


def forgets_attempts(patch: Patch) -> None:
    read = Admission._read_lane_headers
    granted = ClaimStage._granted

    def fresh(self: Admission, delivery: Delivery, now_ms: int) -> None:
        read(self, delivery, now_ms)
        delivery.attempt = 0

    def fresh_again(self: ClaimStage, delivery: Delivery, answer: ClaimAnswer) -> int:
        return granted(self, delivery, answer._replace(attempt=0))

    def never_superseded(self: ClaimStage, delivery: Delivery, answer: ClaimAnswer) -> int:
        return fresh_again(self, delivery, answer._replace(token=1))

    patch.setattr(Admission, "_read_lane_headers", fresh)
    patch.setattr(ClaimStage, "_granted", fresh_again)
    patch.setattr(ClaimStage, "_superseded", never_superseded)


def tries_before_due(patch: Patch) -> None:
    read = Admission._read_lane_headers

    def early(self: Admission, delivery: Delivery, now_ms: int) -> None:
        read(self, delivery, now_ms)
        delivery.due_ms -= 500  # not at once: what parks again and again would leave virtual time no time to pass

    patch.setattr(Admission, "_read_lane_headers", early)


def takes_a_failed_send_for_done(patch: Patch) -> None:
    def answered(self: Settler, outcomes: Sequence[Any], answers: Sequence[Position | TransportError]) -> list[Any]:
        return []

    patch.setattr(Settler, "_unanswered", answered)


def ignores_that_a_dead_letter_was_not_taken(patch: Patch) -> None:
    unanswered = Settler._unanswered

    def without_letters(self: Settler, outcomes: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
        kept = [pair for pair in zip(outcomes, answers, strict=True) if not pair[0].record.topic.endswith(".dlq")]
        return unanswered(self, [pair[0] for pair in kept], [pair[1] for pair in kept])

    patch.setattr(Settler, "_unanswered", without_letters)


def completes_before_the_copy_is_acknowledged(patch: Patch) -> None:
    """The watermark moves first, then the records are sent, once."""

    async def once(self: Settler, outcomes: list[Any]) -> None:
        for found in outcomes:
            found.delivery.part.watermark.settle(found.delivery.record.offset)
        await self._committer_for_tests.commit([found.delivery.part for found in outcomes])  # type: ignore[attr-defined]
        await publish(self, outcomes)

    publish = Settler._publish
    init = Committer.__init__

    def remember(self: Committer, pipeline: Any, consumer: Any) -> None:
        init(self, pipeline, consumer)
        patch.setattr(Settler, "_committer_for_tests", self, raising=False)

    patch.setattr(Committer, "__init__", remember)
    patch.setattr(Settler, "_publish", once)


def drops_a_header_of_the_dead(patch: Patch) -> None:
    write = outcome_module.write_dead_letter

    def cut(*args: Any, **kwargs: Any) -> OutgoingRecord:
        record = write(*args, **kwargs)
        record.headers = [header for header in record.headers if header[0] != "ce_subject"]
        return record

    patch.setattr(outcome_module, "write_dead_letter", cut)


def goes_on_with_partitions_that_are_gone(patch: Patch) -> None:
    def leave_open(self: Assignment, partitions: Any) -> list[PartitionState]:
        return [state for tp in partitions if (state := self.get(tp)) is not None]

    patch.setattr(Assignment, "close", leave_open)


def drops_what_was_busy(patch: Patch) -> None:
    async def drop(self: ClaimStage, delivery: Delivery, _: ClaimAnswer) -> int:
        return self._drop(delivery, "busy", unpark=True)

    patch.setattr(ClaimStage, "_busy", drop)


def never_frees_a_key(patch: Patch) -> None:
    patch.setattr(ParkingLot, "unpark", lambda *_: None)


MUTANTS: dict[Callable[[Patch], None], set[str]] = {
    commits_the_highest_offset_seen: {"I3"},
    settles_when_claimed: {"I3"},
    commits_backwards: {"I4"},
    parks_nobody: {"I12"},
    does_not_rebuild_the_parked_set: {"I12"},
    keeps_no_order: {"I12"},
    claims_nothing: {"I8", "I9"},
    forgets_attempts: {"I15"},
    tries_before_due: {"I22"},
    takes_a_failed_send_for_done: {"I1", "I3"},
    ignores_that_a_dead_letter_was_not_taken: {"I1", "I3"},
    completes_before_the_copy_is_acknowledged: {"I3"},
    drops_a_header_of_the_dead: {"I14"},
    goes_on_with_partitions_that_are_gone: {"I20"},
    never_frees_a_key: {"I21"},
    drops_what_was_busy: {"I1", "I3"},
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_checker_objects_to(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    expected = MUTANTS[mutant]
    seen: set[str] = set()
    for seed in range(SEEDS):
        seen |= {invariant_of(text) for text in simulate(seed).found}
        if seen & expected:
            return
    raise AssertionError(f"not noticed in {SEEDS} seeds; expected one of {sorted(expected)}, saw {sorted(seen)}")
