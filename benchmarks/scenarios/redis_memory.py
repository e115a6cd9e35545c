"""What a claim costs in Redis."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from benchmarks.lab import Lab, in_batches
from benchmarks.scenario import Contender, Figures, Metric, Point, Scenario, Trial, WrongWorkError
from broker_bridge.core.claim import ClaimRequest, ClaimStatus, SettleKind, Settlement
from broker_bridge.idempotency.redis import RedisStore

BATCH = 2_000
DAY_MS = 86_400_000


class RedisMemory(Scenario):
    """Before and after so many claims."""

    name = "redis-memory"
    title = "Redis memory a key"
    about = "`used_memory` of an empty Redis and of one that holds so many settled claims, divided by their number."
    contenders = (
        Contender("set_nx", "SET NX EX by hand, the event's id as key"),
        Contender("bridge", "**broker_bridge**, settled claims"),
    )
    metrics = (Metric("bytes", "bytes a key"),)
    ratios = ("bytes",)
    base = "set_nx"
    varied = "keys"

    @property
    def rounds(self) -> int:
        """It does not vary."""
        return 1

    def points(self) -> Sequence[Point]:
        """How many."""
        count = 50_000 if self.quick else 1_000_000
        return (Point(count, f"{count:,} keys".replace(",", " ")),)

    def measure(self, lab: Lab, trial: Trial) -> Figures:
        """Fill and look."""
        count, redis = int(trial.point.value), lab.redis
        redis.flushall()
        before = redis.info("memory")["used_memory"]
        if trial.contender.name == "bridge":
            asyncio.run(_settle(lab.stack.redis_url, count))
        else:
            _set(lab, count)
        keys = redis.dbsize()
        if not count <= keys <= count + 1:  # one more: the epoch that tells a lost Redis from an empty one
            raise WrongWorkError(f"{trial.name}: {keys} keys in Redis, not {count}")
        found = (redis.info("memory")["used_memory"] - before) / count
        redis.flushall()
        return {"bytes": found}


def _set(lab: Lab, count: int) -> None:
    for numbers in in_batches(range(count), BATCH):
        with lab.redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.set(f"payments:order-{number:012d}-00000", b"c", nx=True, px=DAY_MS)
            pipe.execute()


async def _settle(url: str, count: int) -> None:
    store = RedisStore(url)
    await store.start()
    for numbers in in_batches(range(count), BATCH):
        requests = [_request(number) for number in numbers]
        answers = await store.claim("payments", requests, lease_ms=30_000)
        if any(answer.status is not ClaimStatus.GRANTED for answer in answers):
            raise WrongWorkError("a claim of a new key was not granted")
        settled = [
            Settlement(request.key, request.nonce, answer.token, SettleKind.COMPLETE)
            for request, answer in zip(requests, answers, strict=True)
        ]
        await store.settle("payments", settled, ttl_ms=DAY_MS)
    await store.stop()


def _request(number: int) -> ClaimRequest:
    digest = hashlib.sha256(str(number).encode()).digest()
    return ClaimRequest(digest[:16], nonce=digest[16:24], fingerprint=digest[24:32], origin=digest[:16])
