"""Engines broken on purpose, each by one patch: what ``test_mutants`` expects the checker to object to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker_bridge.core import claim_rules
from broker_bridge.core.claim import NO_REPLAY, ClaimAnswer, ClaimRequest, ClaimStatus, StoredClaim
from broker_bridge.core.parking import ParkingLot
from broker_bridge.core.watermark import Watermark
from broker_bridge.errors import TransportError
from broker_bridge.idempotency.homeward import Homeward
from broker_bridge.idempotency.local_claims import LocalClaims
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.message import OutgoingRecord, Position
from broker_bridge.testing.history import RecordingStore
from broker_bridge.worker import attempt as attempt_module
from broker_bridge.worker import outcome as outcome_module
from broker_bridge.worker.admission import Admission
from broker_bridge.worker.attempt import Attempt
from broker_bridge.worker.claim_stage import ClaimStage
from broker_bridge.worker.committer import Committer
from broker_bridge.worker.delivery import Delivery
from broker_bridge.worker.held_keys import HeldKeys
from broker_bridge.worker.partitions import Assignment, PartitionState
from broker_bridge.worker.pipeline import Pipeline
from broker_bridge.worker.publisher import Publisher
from broker_bridge.worker.rebuild import ParkedSetRebuild
from broker_bridge.worker.settler import Settler
from broker_bridge.worker.slots import Slots
from broker_bridge.worker.stale_replays import StaleReplays

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
    def answered(self: Publisher, outcomes: Sequence[Any], answers: Sequence[Position | TransportError]) -> list[Any]:
        return []

    patch.setattr(Publisher, "_unanswered", answered)


def ignores_that_a_dead_letter_was_not_taken(patch: Patch) -> None:
    unanswered = Publisher._unanswered

    def without_letters(self: Publisher, outcomes: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
        kept = [pair for pair in zip(outcomes, answers, strict=True) if not pair[0].record.topic.endswith(".dlq")]
        return unanswered(self, [pair[0] for pair in kept], [pair[1] for pair in kept])

    patch.setattr(Publisher, "_unanswered", without_letters)


def completes_before_the_copy_is_acknowledged(patch: Patch) -> None:
    """The watermark moves first, then the records are sent, once."""

    async def once(self: Publisher, answered: list[Delivery], outcomes: list[Any]) -> Any:
        deliveries = answered + [found.delivery for found in outcomes]
        for delivery in deliveries:
            delivery.part.watermark.settle(delivery.record.offset)
        await self._committer_for_tests.commit([delivery.part for delivery in deliveries])  # type: ignore[attr-defined]
        return await publish(self, answered, outcomes)

    publish = Publisher._publish
    init = Committer.__init__

    def remember(self: Committer, pipeline: Any, consumer: Any) -> None:
        init(self, pipeline, consumer)
        patch.setattr(Publisher, "_committer_for_tests", self, raising=False)

    patch.setattr(Committer, "__init__", remember)
    patch.setattr(Publisher, "_publish", once)


def settles_repeats_of_what_is_not_answered(patch: Patch) -> None:
    """They are attached to whoever holds their claim, and done with it however that ends."""
    retire = Pipeline.retire

    def attach(self: Slots, delivery: Delivery, now_ms: int) -> None:
        original = self._p.holder(delivery)
        if original is None:
            claim_again(self, delivery, now_ms)
        else:
            self._p.unqueue(delivery)
            original.repeats = [*original.repeats, delivery]

    def with_repeats(self: Pipeline, delivery: Delivery, *, settled: bool) -> None:
        repeats, delivery.repeats = delivery.repeats, ()
        retire(self, delivery, settled=settled)
        for repeat in repeats:
            retire(self, repeat, settled=True)

    claim_again = Slots._claim_again
    patch.setattr(Slots, "_claim_again", attach)
    patch.setattr(Pipeline, "retire", with_repeats)


def retires_before_claims_are_settled(patch: Patch) -> None:
    settle = Settler._settle_claims

    async def late(self: Settler, answered: list[Delivery], outcomes: Any) -> None:
        for delivery in answered:
            delivery.part.watermark.settle(delivery.record.offset)
        await settle(self, answered, outcomes)

    patch.setattr(Settler, "_settle_claims", late)


def hands_over_before_the_acknowledgement(patch: Patch) -> None:
    """The settler goes on while the results are still on their way."""
    publish = Publisher._publish
    under_way: set[asyncio.Task[Any]] = set()

    async def meanwhile(self: Publisher, answered: list[Delivery], outcomes: list[Any]) -> Any:
        sending = asyncio.create_task(publish(self, answered, outcomes))
        under_way.add(sending)
        sending.add_done_callback(under_way.discard)
        return answered, []

    patch.setattr(Publisher, "_publish", meanwhile)


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


def frees_held_keys_too_early(patch: Patch) -> None:
    patch.setattr(HeldKeys, "_is_held", lambda *_: False)


def loses_replays(patch: Patch) -> None:
    request = Delivery.request
    patch.setattr(Delivery, "request", lambda self: request(self)._replace(replay=NO_REPLAY))


def does_not_ask_for_newer_versions(patch: Patch) -> None:
    patch.setattr(StaleReplays, "concerns", lambda *_: False)


def writes_no_versions_down(patch: Patch) -> None:
    async def forget(*_: Any, **__: Any) -> None: ...

    patch.setattr(RecordingStore, "advance", forget)


def turns_every_replay_away(patch: Patch) -> None:
    patch.setattr(attempt_module, "is_stale", lambda _, newest: newest is not None)


def keeps_the_answer_to_itself(patch: Patch) -> None:
    patch.setattr(Attempt, "_make_output", lambda *_: None)


def takes_a_conflict_for_a_duplicate(patch: Patch) -> None:
    async def drop(self: ClaimStage, delivery: Delivery, _: ClaimAnswer) -> int:
        return self._drop(delivery, "duplicate", unpark=True)

    patch.setattr(ClaimStage, "_conflict", drop)


def claims_whatever_the_payload(patch: Patch) -> None:
    claim = MemoryStore._claim_one

    def blind(self: MemoryStore, group: str, request: ClaimRequest, lease_ms: int) -> ClaimAnswer:
        stored = self._read(group, request.key)
        return claim(self, group, request._replace(fingerprint=stored.fingerprint) if stored else request, lease_ms)

    patch.setattr(MemoryStore, "_claim_one", blind)


def reads_then_writes_claims(patch: Patch) -> None:
    """GET, think, SET: what others wrote in between is overwritten. GET asks a replica that is a second late."""
    claim, read = RecordingStore.claim, MemoryStore._read

    async def slowly(self: RecordingStore, group: str, requests: Sequence[ClaimRequest], *, lease_ms: int) -> Any:
        now_s, seen = asyncio.get_running_loop().time(), vars(self).setdefault("replica", {})
        for request in requests:
            if request.key not in seen or now_s - seen[request.key][0] > 1:
                seen[request.key] = now_s, read(self, group, request.key)
        await asyncio.sleep(0.05)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(MemoryStore, "_read", lambda _, __, key: seen[key][1])
            return await claim(self, group, requests, lease_ms=lease_ms)

    patch.setattr(RecordingStore, "claim", slowly)


def does_not_fence(patch: Patch) -> None:
    patch.setattr(claim_rules, "_is_owner", lambda *_: True)


def forgets_claims_at_once(patch: Patch) -> None:
    """A time to live that is shorter than a message may come again."""
    write = RecordingStore._write

    def briefly(self: RecordingStore, group: str, key: bytes, stored: StoredClaim, _: int) -> None:
        write(self, group, key, stored, 300)

    patch.setattr(RecordingStore, "_write", briefly)


def does_not_notice_lost_claims(patch: Patch) -> None:
    patch.setattr(ClaimStage, "_look_for_losses", lambda _: None)


def falls_back_to_nothing(patch: Patch) -> None:
    patch.setattr(LocalClaims, "read", lambda *_: None)


def does_not_tell_the_store_afterwards(patch: Patch) -> None:
    patch.setattr(Homeward, "add", lambda *_: None)
