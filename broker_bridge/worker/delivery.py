"""One message on its way through a worker."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from broker_bridge import headers as h
from broker_bridge.core.claim import MAX_ATTEMPT, NO_REPLAY, ClaimRequest, Held, pack_origin
from broker_bridge.core.disposition import REDRIVE, SOURCE
from broker_bridge.message import OutgoingRecord, Position, Record
from broker_bridge.worker.partitions import PartitionState


class Delivery:
    """A record from the moment it is read until it is settled.

    ``named`` are the record's headers by name, read once.
    ``lane`` is ``SOURCE``, ``REDRIVE`` or a retry lane's index. ``order_key`` is what order is kept within.
    ``attempt`` counts attempts spent in this life, ``holds`` the waits since the last one, ``tries`` how often it was
    handed to the target, by earlier holders too and whether or not that spent an attempt. ``token`` is 0 until the
    claim is granted, ``lease_end_s`` is until when it surely holds, by the event loop's clock. ``queued`` is true
    while the delivery is in the key lanes, ``impatient`` once it has waited in hand for its key as long as it may.
    ``started_ms`` and ``began_s`` are when its last attempt began, by the wall clock and by the event loop's;
    ``overrun_s`` is when a handler that runs has overrun so far that its lease is not renewed any more.
    ``due_ms`` is its lane's due time, ``ask_at_ms`` when to ask for its claim again, both by the event loop's clock.
    ``error_code`` is that of its last failure; ``doubted_ms``, by the loop's clock, since when it is known to have
    failed in a way that the target may be the cause of, -1 where it has not. ``probe`` while it tries a target that
    was away. ``is_marker`` says that it only keeps a key held for a dead letter. ``answered`` once the target took it;
    ``version`` is that of its value, where the contract has one; ``newest`` the newest completed of its record key,
    asked for where it is replayed; ``turned_away`` where it was behind that and so was not handed over.
    ``repeats`` are later deliveries of the same event, which are settled with it.
    """

    __slots__ = (
        "answered",
        "ask_at_ms",
        "attempt",
        "began_s",
        "busy_count",
        "claim_key",
        "crashes",
        "doubted_ms",
        "due_ms",
        "error_code",
        "fingerprint",
        "first_failure_ms",
        "holds",
        "impatient",
        "is_marker",
        "lease_end_s",
        "lost",
        "named",
        "newest",
        "nonce",
        "order_key",
        "origin",
        "output",
        "overrun_s",
        "part",
        "probe",
        "queued",
        "record",
        "repeats",
        "replay",
        "replay_id",
        "size",
        "started_ms",
        "token",
        "tries",
        "turned_away",
        "version",
    )

    def __init__(
        self,
        record: Record,
        named: dict[str, bytes | None],
        part: PartitionState,
        origin: Position,
        claim_key: bytes,
        nonce: bytes,
        order_key: Hashable,
        size: int,
        fingerprint: bytes,
    ) -> None:
        self.record = record
        self.named = named
        self.part = part
        self.origin = origin
        self.claim_key = claim_key
        self.nonce = nonce
        self.order_key = order_key
        self.size = size
        self.fingerprint = fingerprint
        self.attempt = 0
        self.holds = 0
        self.tries = 0
        self.crashes = 0
        self.token = 0
        self.due_ms = 0
        self.ask_at_ms = 0
        self.first_failure_ms: int | None = None
        self.replay_id: str | None = None
        self.replay = NO_REPLAY
        self.queued = False
        self.lost = False
        self.impatient = False
        self.busy_count = 0
        self.started_ms = 0
        self.began_s: float = 0.0
        self.error_code = ""
        self.doubted_ms = -1
        self.probe = False
        self.is_marker = False
        self.lease_end_s: float = 0.0
        self.overrun_s: float = math.inf
        self.output: OutgoingRecord | None = None
        self.answered = False
        self.version: int | None = None
        self.newest: int | None = None
        self.turned_away = False
        self.repeats: Sequence[Delivery] = ()

    @property
    def lane(self) -> int:
        """Where it was read."""
        return self.part.lane

    @property
    def from_source(self) -> bool:
        """Whether it was read from the route's source topic."""
        return self.part.lane == SOURCE

    @property
    def from_redrive(self) -> bool:
        """Whether it was read from the redrive lane."""
        return self.part.lane == REDRIVE

    @property
    def idempotency_key(self) -> str:
        """What the claim's key was made of (``core.identity.claim_key_in``)."""
        return h.idempotency_key_in(self.named, self.origin)

    def is_lost(self) -> bool:
        """Whether it belongs to another worker by now."""
        return self.lost or self.part.gone

    @property
    def is_retry(self) -> bool:
        """Whether to try it would be one more attempt at the target: it was tried before, or is replayed."""
        return self.attempt > 0 or self.tries > 0 or self.from_redrive

    @property
    def packed_origin(self) -> bytes:
        """Source coordinates as claims keep them."""
        return pack_origin(*self.origin)

    @property
    def claimed_attempt(self) -> int:
        """``attempt`` as far as a claim can count."""
        return min(self.attempt, MAX_ATTEMPT)

    def request(self) -> ClaimRequest:
        """The claim to ask for."""
        attempt = self.attempt if self.attempt < MAX_ATTEMPT else MAX_ATTEMPT
        return ClaimRequest(
            self.claim_key, self.nonce, self.fingerprint, pack_origin(*self.origin), attempt, self.replay
        )

    def held(self) -> Held:
        """The claim in hand."""
        return Held(self.claim_key, self.nonce, self.token, self.claimed_attempt, self.tries)
