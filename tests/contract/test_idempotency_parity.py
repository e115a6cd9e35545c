"""Memory and Redis, driven by the same random calls, answer the same; tokens are compared by their order."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from claim_calls import DAY_MS, LONG_MS, key
from claim_labs import HandClock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from redis.asyncio import Redis

from broker_bridge.core.claim import (
    NO_FINGERPRINT,
    NO_REPLAY,
    ClaimAnswer,
    ClaimRequest,
    ClaimStatus,
    ClaimView,
    Held,
    SettleKind,
    Settlement,
    pack_origin,
)
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.idempotency.redis import RedisStore
from broker_bridge.stack.redis_server import RedisServer

_Answer = TypeVar("_Answer")

KEYS = [key(name) for name in ("a", "b", "c")]
NONCES = [os.urandom(8) for _ in range(3)]
PAYLOADS = [b"payload1"] * 4 + [b"payload2", NO_FINGERPRINT]
REPLAYS = [NO_REPLAY] * 3 + [b"replay-1", b"replay-2"]
OVER_AT_ONCE_MS = 0
"""A lease of no length: it can be taken over by the next call, and nobody has to wait for a clock."""

requests = st.builds(
    ClaimRequest,
    key=st.sampled_from(KEYS),
    nonce=st.sampled_from(NONCES),
    fingerprint=st.sampled_from(PAYLOADS),
    origin=st.builds(pack_origin, st.just("orders"), st.integers(0, 3), st.integers(0, 9)),
    attempt=st.integers(0, 3),
    replay=st.sampled_from(REPLAYS),
)
leases = st.sampled_from([LONG_MS, OVER_AT_ONCE_MS])
tries = st.sampled_from([0, 0, 1, 2, 3, 0xFFFF, 0x10000])
picks = st.integers(0, 5)  # which of the latest grants; small numbers are the latest
nudges = st.sampled_from([0, 0, 0, 0, 1, -1])  # a token that is not quite right


class BothStores(RuleBasedStateMachine):
    """The same calls to both; ``grants`` remembers what was granted, with the token of each store."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.memory = MemoryStore(self.clock)
        self.redis = RedisStore(self.url)
        self.group = f"parity-{uuid.uuid4().hex}"
        self.grants: list[tuple[bytes, bytes, int, int]] = []  # key, nonce, memory's token, Redis' token
        self.last_tokens: dict[bytes, tuple[int, int]] = {}

    def run(self, call: Coroutine[Any, Any, _Answer]) -> _Answer:
        self.clock.at_ms += 1
        return self.runner.run(call)

    @initialize()
    def begin(self) -> None:
        self.run(self.memory.start())
        self.run(self.redis.start())

    @rule(batch=st.lists(requests, min_size=1, max_size=4), lease_ms=leases)
    def claim(self, batch: list[ClaimRequest], lease_ms: int) -> None:
        ours = self.run(self.memory.claim(self.group, batch, lease_ms=lease_ms))
        theirs = self.run(self.redis.claim(self.group, batch, lease_ms=lease_ms))
        assert [comparable(answer) for answer in ours] == [comparable(answer) for answer in theirs]
        assert self.memory.losses() == self.redis.losses()
        for request, mine, other in zip(batch, ours, theirs, strict=True):
            if mine.status is ClaimStatus.GRANTED:
                self.see_tokens(request.key, mine.token, other.token)
                self.grants.append((request.key, request.nonce, mine.token, other.token))

    def see_tokens(self, claimed: bytes, mine: int, other: int) -> None:
        """Both grew, or both stayed (a repeated call); neither ever falls."""
        last_mine, last_other = self.last_tokens.get(claimed, (0, 0))
        assert (mine > last_mine, mine == last_mine) == (other > last_other, other == last_other)
        assert mine >= last_mine
        self.last_tokens[claimed] = (mine, other)

    def grant(self, pick: int) -> tuple[bytes, bytes, int, int]:
        if not self.grants:
            return KEYS[0], NONCES[0], 1, 1
        return self.grants[-1 - pick % len(self.grants)]

    @rule(chosen=st.lists(st.tuples(picks, nudges, st.integers(0, 4), tries), min_size=1, max_size=3), lease_ms=leases)
    def renew(self, chosen: list[tuple[int, int, int, int]], lease_ms: int) -> None:
        mine, theirs = [], []
        for pick, nudge, attempt, tried in chosen:
            claimed, nonce, token, other = self.grant(pick)
            mine.append(Held(claimed, nonce, token + nudge, attempt, tried))
            theirs.append(Held(claimed, nonce, other + nudge, attempt, tried))
        assert self.run(self.memory.renew(self.group, mine, lease_ms=lease_ms)) == self.run(
            self.redis.renew(self.group, theirs, lease_ms=lease_ms)
        )

    @rule(
        chosen=st.lists(
            st.tuples(picks, nudges, st.sampled_from(SettleKind), st.integers(0, 3), st.binary(max_size=20), tries),
            min_size=1,
            max_size=3,
        )
    )
    def settle(self, chosen: list[tuple[int, int, SettleKind, int, bytes, int]]) -> None:
        mine, theirs = [], []
        for pick, nudge, kind, attempt, detail, tried in chosen:
            claimed, nonce, token, other = self.grant(pick)
            mine.append(Settlement(claimed, nonce, token + nudge, kind, attempt, detail, tried))
            theirs.append(Settlement(claimed, nonce, other + nudge, kind, attempt, detail, tried))
        assert self.run(self.memory.settle(self.group, mine, ttl_ms=DAY_MS)) == self.run(
            self.redis.settle(self.group, theirs, ttl_ms=DAY_MS)
        )

    @rule(pick=picks)
    def forget_after_a_millisecond(self, pick: int) -> None:
        """Settle with the shortest time to live, and see both forget (or neither, when the settlement was stale)."""
        claimed, nonce, token, other = self.grant(pick)
        mine = Settlement(claimed, nonce, token, SettleKind.COMPLETE)
        theirs = mine._replace(token=other)
        statuses = self.run(self.memory.settle(self.group, [mine], ttl_ms=1))
        assert statuses == self.run(self.redis.settle(self.group, [theirs], ttl_ms=1))
        if statuses[0] == 1:
            deadline = time.monotonic() + 5
            while self.run(self.redis.inspect(self.group, [claimed])) != [None]:
                assert time.monotonic() < deadline, "Redis did not forget"
            assert self.run(self.memory.inspect(self.group, [claimed])) == [None]

    @rule()
    def lose_everything(self) -> None:
        """W3: the keys are gone, the epoch's among them; tokens must grow nevertheless."""
        self.memory.forget_all()
        self.run(self.delete_group())

    async def delete_group(self) -> None:
        async with Redis.from_url(self.url) as client:
            found = [name async for name in client.scan_iter(match=f"bb:*:{self.group}:*")]
            await client.delete("bb:{0}:epoch", *found)

    @rule()
    def look(self) -> None:
        ours = self.run(self.memory.inspect(self.group, KEYS))
        theirs = self.run(self.redis.inspect(self.group, KEYS))
        assert [visible(one) for one in ours] == [visible(one) for one in theirs]

    def teardown(self) -> None:
        self.look()
        self.run(self.delete_group())
        self.run(self.redis.stop())
        self.runner.close()


def comparable(answer: ClaimAnswer) -> ClaimAnswer:
    """Without what depends on the clock."""
    return answer._replace(
        token=min(answer.token, 1),
        retry_after_ms=min(answer.retry_after_ms, 1),
        settled_at_ms=min(answer.settled_at_ms, 1),
    )


def visible(found: ClaimView | None) -> ClaimView | None:
    return found and found._replace(token=1, lease_end_ms=1, settled_at_ms=min(found.settled_at_ms, 1))


def test_memory_and_redis_answer_alike(own_redis: RedisServer) -> None:
    class Machine(BothStores):
        url = own_redis.url

    Machine.TestCase.settings = settings(
        max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    Machine.TestCase().runTest()
