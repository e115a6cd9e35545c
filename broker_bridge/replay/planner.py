"""Making a replay plan: look at every letter that is meant, once, and say of each whether it goes back.

Lines are sorted on disk, so that a million letters need no more memory than a thousand::

    source ── heading, edit, version ──▶ sorted lines ── is a newer one completed? ──▶ plan

Items of one partition are in the order of their origins. Partitions take turns, ``BLOCK`` items each: a canary sees all
of them, and a run reads and writes all at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from broker_bridge.clock import Clock
from broker_bridge.core.dead_letter import DeadLetter
from broker_bridge.core.identity import payload_fingerprint, version_key
from broker_bridge.core.newest_version import ReplayOrder, is_stale
from broker_bridge.core.replay_choice import TO_REPLAY, heading, is_forced
from broker_bridge.core.replay_plan import COMPLETED, DEAD_AGAIN, PlanHeader, Prediction, plan_item, skipped_letter
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import ContractError, PlanRefusedError, UsageError
from broker_bridge.idempotency.base import IdempotencyStore
from broker_bridge.message import TopicPartition
from broker_bridge.replay.edit import Change, LetterEdit
from broker_bridge.replay.letter_contract import LetterContract
from broker_bridge.replay.order_scan import OrderScan, key_number
from broker_bridge.replay.plan_draft import Flag, PlanDraft
from broker_bridge.replay.route import ReplayRoute
from broker_bridge.replay.sources.base import Candidate, LetterSource
from broker_bridge.transport.base import LogReader

LISTED: Final = 20
"""Places that a prediction lists of each kind."""
DEFAULT_RATE: Final = 500.0
"""Records a second."""

_STAYS: Final = frozenset({"over_hop_limit", "undecodable", "patch_failed"})
"""What keeps a letter from going back that stands for its message. By force, or without claims, an older one could."""

Told = Callable[[str, int, int | None], None]
"""What is read now, how much of it is passed, and of how much, None where nobody knows."""


@dataclass(slots=True, frozen=True)
class PlanWishes:
    """What the operator asked for. ``why`` is required: it stands in the plan for whoever reads it later.

    ``allow_expired`` lets letters in whose claim is gone, so that nothing stops a second effect (I19).
    ``include_undecodable`` sends back even what would fail at decoding again. ``force`` executes completed messages
    again. ``order`` None: ``skip-stale`` where the route keeps versions, else ``as-is``. Without ``order_check`` the
    source topic is not read for newer messages. ``edit`` as in ``PlanHeader``.
    """

    by: str
    why: str
    allow_expired: bool = False
    include_undecodable: bool = False
    force: bool = False
    order: ReplayOrder | None = None
    order_check: bool = True
    edit: Mapping[str, Any] | None = None
    rate_per_s: float = DEFAULT_RATE


class _Chosen(NamedTuple):
    """A letter that goes back: as it is, as it is sent, and what is known of its value."""

    candidate: Candidate
    sent: DeadLetter
    changes: tuple[Change, ...]
    predicted: str
    by_upcaster: bool
    version: int | None


class Planner:
    """Makes plans for one route of what ``source`` has. ``reader`` and ``store`` are started by the caller.

    ``contract`` is None for a route that decodes nothing. ``folder`` is where lines are kept meanwhile.
    """

    def __init__(
        self,
        *,
        source: LetterSource,
        reader: LogReader,
        store: IdempotencyStore,
        route: ReplayRoute,
        clock: Clock,
        contract: LetterContract | None,
        folder: Path | None = None,
    ) -> None:
        self._source = source
        self._reader = reader
        self._store = store
        self._route = route
        self._clock = clock
        self._contract = contract
        self._folder = folder

    async def draft(
        self, wishes: PlanWishes, *, spool: BinaryIO, diff: BinaryIO | None = None, told: Told | None = None
    ) -> PlanHeader:
        """Write the lines to ``spool``, rewound, what edits change to ``diff``, and answer the header.

        Raises ``UsageError``, ``PlanRefusedError``, and what the source raises.
        """
        order = self._order(wishes)
        edit = LetterEdit.of(wishes.edit, self._contract)
        redrive = await self._reader.offsets([self._route.redrive_topic])
        drafting = _Drafting(self, wishes, edit, lanes=len(redrive))
        with closing(PlanDraft(self._folder)) as draft:
            async with aclosing(self._source.select()) as batches:
                async for batch in batches:
                    await drafting.take(batch, draft)
                    if told is not None:
                        told("letters", drafting.counts["selected"], None)
            scan = drafting.scan
            if drafting.watched:
                await scan.read(None if told is None else lambda done, total: told("order", done, total))
            diff_hash = draft.write(spool, diff, order=order, has_newer=scan.has_newer, counts=drafting.counts)
        spool.seek(0)
        prediction = drafting.prediction()
        return self._header(
            wishes,
            order,
            prediction,
            until=await self._source.until(),
            redrive=redrive,
            edit=None if wishes.edit is None else {**wishes.edit, "diff_sha256": diff_hash},
        )

    def _order(self, wishes: PlanWishes) -> ReplayOrder:
        keeps_versions = self._contract is not None and self._contract.version_field is not None
        if not wishes.why.strip():
            raise UsageError("a replay needs a reason", remedy='say why: --why "payments accepts vouchers again"')
        if wishes.rate_per_s <= 0:
            raise UsageError(f"a rate of {wishes.rate_per_s} records a second never ends")
        if wishes.order is None:
            return ReplayOrder.SKIP_STALE if keeps_versions else ReplayOrder.AS_IS
        if wishes.order is ReplayOrder.SKIP_STALE and not keeps_versions:
            raise UsageError(
                "the route's contract has no version field, so that no worker can tell which message is stale",
                remedy="name it in [route.contract] version_field, or say --order hold or --order as-is",
            )
        if wishes.order is ReplayOrder.HOLD and not wishes.order_check:
            raise UsageError("what is to be held back is not known without looking", remedy="drop --no-order-check")
        return wishes.order

    def _header(
        self,
        wishes: PlanWishes,
        order: ReplayOrder,
        prediction: Prediction,
        *,
        until: Mapping[str, int],
        redrive: Mapping[TopicPartition, tuple[int, int]],
        edit: Mapping[str, Any] | None,
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
            source=self._source.described,
            selection=self._source.selection,
            source_until=until,
            redrive_from={str(tp.partition): after for tp, (_, after) in sorted(redrive.items())},
            order=order.value,
            allow_expired=wishes.allow_expired,
            force=wishes.force,
            edit=edit,
            rate_per_s=wishes.rate_per_s,
            expected_s=round(prediction.to_replay / wishes.rate_per_s, 1),
            prediction=prediction,
        )


class _Drafting:
    """One draft while it is made: decides on letters, batch by batch, and counts."""

    def __init__(self, planner: Planner, wishes: PlanWishes, edit: LetterEdit | None, *, lanes: int) -> None:
        self._route = planner._route
        self._store = planner._store
        self._contract = planner._contract
        self._wishes = wishes
        self._edit = edit
        self._lanes = lanes
        self.scan = OrderScan(reader=planner._reader, store=planner._store, route=planner._route)
        self.counts: Counter[str] = Counter()
        self.watched = 0
        self._undecodable_at: list[str] = []
        self._patch_failed_at: list[str] = []

    async def take(self, batch: list[Candidate], draft: PlanDraft) -> None:
        """Decide on these letters."""
        wishes, namespace = self._wishes, self._route.topic
        chosen: list[_Chosen] = []
        for candidate in batch:
            found: str | _Chosen = heading(
                candidate.state,
                hops=candidate.letter.hops,
                max_hops=self._route.max_hops,
                is_pending=candidate.is_pending,
                allow_expired=wishes.allow_expired,
                force=wishes.force,
            )
            if found == TO_REPLAY:
                found = self._look_into(candidate)
            if isinstance(found, str):
                self.counts[found] += 1
                draft.skip(skipped_letter(candidate.letter, found, namespace=namespace))
                if found in _STAYS:
                    draft.add(plan_item(candidate.letter, namespace=namespace), key=None, flags=Flag.STAYS, changes=())
            else:
                chosen.append(found)
        self.counts["selected"] += len(batch)
        newest = await self._newest(chosen)
        for one, version in zip(chosen, newest, strict=True):
            self._keep(one, version, draft)

    def prediction(self) -> Prediction:
        """What was counted."""
        return Prediction(
            **dict[str, Any](self.counts),
            undecodable_at=tuple(self._undecodable_at),
            patch_failed_at=tuple(self._patch_failed_at),
        )

    def _look_into(self, candidate: Candidate) -> _Chosen | str:
        """Edit and decode."""
        letter = sent = candidate.letter
        changes: tuple[Change, ...] = ()
        if letter.origin.partition >= self._lanes:
            raise PlanRefusedError(
                f"the redrive lane has {self._lanes} partitions, a letter is of partition {letter.origin.partition}: "
                "a replayed record must keep its partition",
                where=self._route.redrive_topic,
                remedy="broker-bridge worker topics --create makes the lanes alike",
            )
        if self._edit is not None:
            try:
                sent, changes = self._edit.apply(letter)
            except ContractError as error:
                _list(self._patch_failed_at, f"{letter.position}: {error.detail}")
                return "patch_failed"
        if self._contract is None or sent.value is None:
            return _Chosen(candidate, sent, changes, COMPLETED, by_upcaster=False, version=None)
        try:
            reading = self._contract.read(sent.value, sent.headers)
        except ContractError:
            _list(self._undecodable_at, str(letter.position))
            if not self._wishes.include_undecodable:
                return "undecodable"
            return _Chosen(candidate, sent, changes, DEAD_AGAIN, by_upcaster=False, version=None)
        return _Chosen(candidate, sent, changes, COMPLETED, reading.by_upcaster, reading.version)

    async def _newest(self, chosen: list[_Chosen]) -> list[int | None]:
        """The newest completed version of each record key, None where nobody knows."""
        if self._contract is None or self._contract.version_field is None:
            return [None] * len(chosen)
        keys = {
            one.sent.key: version_key(one.sent.key, namespace=self._route.topic)
            for one in chosen
            if one.sent.key is not None and one.version is not None
        }
        found = dict(zip(keys, await self._store.versions(self._route.group, list(keys.values())), strict=True))
        return [found.get(one.sent.key) if one.sent.key is not None else None for one in chosen]

    def _keep(self, one: _Chosen, newest: int | None, draft: PlanDraft) -> None:
        letter = one.candidate.letter
        forced = is_forced(one.candidate.state, force=self._wishes.force)
        item = plan_item(
            letter,
            namespace=self._route.topic,
            predicted=one.predicted,
            sends="" if one.sent is letter else payload_fingerprint(one.sent.value).hex(),
            force=forced,
            at=one.candidate.at,
        )
        key: int | None = None
        is_unknown = False
        is_told = newest is not None and one.version is not None
        if letter.key is not None and self._route.keeps_order and not is_told:
            if self._wishes.order_check and letter.origin.topic == self._route.topic:
                key = key_number(letter.key)
                self.scan.watch(letter.origin.partition, letter.origin.offset, key)
                self.watched += 1
            else:
                is_unknown = True
        flags = {
            Flag.STALE: is_stale(one.version, newest),
            Flag.FORCED: forced,
            Flag.FIXED_BY_UPCASTER: one.by_upcaster,
            Flag.DEAD_AGAIN: one.predicted == DEAD_AGAIN,
            Flag.ORDER_UNKNOWN: is_unknown,
        }
        draft.add(item, key=key, flags="".join(flag for flag, is_so in flags.items() if is_so), changes=one.changes)


def _list(places: list[str], place: str) -> None:
    if len(places) < LISTED:
        places.append(place)
