"""The contract suite can fail: stores broken on purpose, in Python and in Lua, are each caught by the check named."""

from __future__ import annotations

import uuid

import pytest
from broken_stores import BROKEN_STORES, TellsALossByEveryCall, WaitsForEveryBucketsTurn
from claim_checks import CHECKS
from claim_labs import Lab, MemoryLab, RedisLab
from redis.asyncio import Redis

from broker_bridge.errors import BridgeError
from broker_bridge.idempotency.loss_watch import LossWatch
from broker_bridge.idempotency.memory import MemoryStore
from broker_bridge.idempotency.redis import RedisStore
from broker_bridge.idempotency.redis_link import Script
from broker_bridge.stack.redis_server import RedisServer

CLAIM, RENEW, SETTLE = "_claim_script", "_renew_script", "_settle_script"
TALLY, ADVANCE = "_tally_script", "_advance_script"
BROKEN_SCRIPTS: list[tuple[str, str, str, str]] = [
    (CLAIM, "max(stored_token + 1, least_token)", "1", "after_the_lease_another_owner_takes_over"),
    (CLAIM, "max(stored_token + 1, least_token)", "stored_token", "after_the_lease_another_owner_takes_over"),
    (
        CLAIM,
        "least_token, attempt, attempt, 0, 0",
        "1, attempt, attempt, 0, 0",
        "a_settled_claim_is_forgotten_after_its_time",
    ),
    (CLAIM, "sub(value, 11, 18) == nonce", "false", "a_repeated_claim_gets_the_same_token_and_the_lease_anew"),
    (CLAIM, "sub(value, 11, 18) == nonce", "true", "another_owner_waits_for_the_lease"),
    (CLAIM, "now_ms < unpack", "now_ms >= unpack", "another_owner_waits_for_the_lease"),
    (CLAIM, "stored_fingerprint ~= NONE", "true", "an_unknown_payload_conflicts_with_nothing"),
    (CLAIM, "return CONFLICT", "return GRANTED, 'again'", "another_payload_conflicts_in_every_state"),
    (CLAIM, "replay ~= sub(value, 43, 50)", "true", "each_replay_gives_one_new_life"),
    (CLAIM, "spent, copy, crashes, tries = 0, 0, 0, 0", "", "each_replay_gives_one_new_life"),
    (CLAIM, "min(stored_crashes + 1, MAX_COUNT)", "0", "crashes_add_up_and_attempts_are_not_forgotten"),
    (CLAIM, "max(stored_attempt, attempt)", "attempt", "crashes_add_up_and_attempts_are_not_forgotten"),
    (CLAIM, "unpack('>I2', value, 5)", "unpack('>I2', value, 3)", "a_released_record_comes_again_as_it_was"),
    (
        CLAIM,
        "crashes = min(stored_crashes + 1, MAX_COUNT)",
        "copy = max(copy, stored_copy)",
        "an_older_copy_that_took_over_comes_again_when_released",
    ),
    (CLAIM, "found[key] = value", "", "a_batch_is_applied_in_order"),
    (RENEW, "sub(value, 11, 26) == owner", "true", "only_the_owner_renews"),
    (RENEW, "byte(value, 2) == IN_PROGRESS", "true", "only_the_owner_renews"),
    (RENEW, "max(stored_attempt, attempt)", "attempt", "renewal_extends_the_lease_and_writes_attempts_down"),
    (RENEW, ".. lease_end ..", ".. sub(value, 27, 34) ..", "renewal_extends_the_lease_and_writes_attempts_down"),
    (SETTLE, "sub(value, 11, 26) == owner", "true", "only_the_owner_settles"),
    (SETTLE, "sub(value, 11, 26) == owner", "sub(value, 11, 18) == sub(owner, 1, 8)", "only_the_owner_settles"),
    (SETTLE, "state == target", "false", "a_repeated_settlement_is_ok"),
    (SETTLE, "spent, copy = attempt, attempt", "", "a_retry_goes_to_the_newest_copy"),
    (SETTLE, "kind == HAND_TO_COPY", "kind ~= COMPLETE", "a_released_record_comes_again_as_it_was"),
    (SETTLE, "'PX', ttl_ms", "'PX', '86400000'", "a_settled_claim_is_forgotten_after_its_time"),
    (SETTLE, "at = at + SETTLEMENT_BYTES + length", "at = at + SETTLEMENT_BYTES", "a_large_batch_keeps_its_order"),
    (CLAIM, "crashes, tries = stored_crashes, stored_tries", "crashes = stored_crashes", "tries_are_never_forgotten"),
    (
        CLAIM,
        "min(stored_crashes + 1, MAX_COUNT)",
        "stored_crashes + 1 tries = 0",
        "tries_outlive_the_worker_that_made_them",
    ),
    (CLAIM, "0, 0, 0, 0", "0, 0, 0, stored_tries", "a_new_life_starts_without_tries"),
    (
        CLAIM,
        "GRANTED, token, spent, crashes, tries)",
        "GRANTED, token, spent, crashes, 0)",
        "tries_are_never_forgotten",
    ),
    (CLAIM, "call('SET', epoch_key, epoch)", "", "a_loss_is_told_once_and_answered"),
    (
        CLAIM,
        "call('SET', epoch_key, epoch)",
        "call('SET', epoch_key, epoch, 'PX', 1)",
        "a_loss_is_told_once_and_answered",
    ),
    (CLAIM, "if not epoch then", "if true then", "no_loss_is_told_without_one"),
    (CLAIM, "string.format('%.0f', now_us) .. '-' .. ARGV[5]", "'1'", "a_loss_is_told_once_and_answered"),
    (
        CLAIM,
        "max(tonumber(ARGV[4]) + 1, now_us)",
        "now_us",
        "tokens_grow_over_a_loss_while_the_clock_goes_back",
    ),
    (RENEW, "max(stored_tries, tries)", "stored_tries", "tries_outlive_the_worker_that_made_them"),
    (RENEW, "max(stored_tries, tries)", "tries", "tries_are_never_forgotten"),
    (SETTLE, "max(stored_tries, tries)", "stored_tries", "tries_are_never_forgotten"),
    (SETTLE, "max(stored_tries, tries)", "tries", "tries_are_never_forgotten"),
    (
        SETTLE,
        "max(stored_tries, tries)",
        "kind == RELEASE and stored_tries or max(stored_tries, tries)",
        "tries_are_never_forgotten",
    ),
    (ADVANCE, "kept_low >= low", "true", "versions_are_compared_as_numbers_whatever_their_size"),
    (ADVANCE, "kept_high > high or", "", "a_version_is_kept_and_never_falls"),
    (ADVANCE, "version = kept", "", "a_version_is_kept_and_never_falls"),
    (ADVANCE, "at = at + 8", "", "many_versions_are_answered_in_the_order_asked"),
    (TALLY, "min(first + slot_first, MAX_COUNT)", "first", "a_tally_sums_up_what_everybody_counted"),
    (TALLY, "if second >= oldest_counted then", "do", "a_tally_forgets_what_left_the_window_and_nothing_else"),
    (
        TALLY,
        "max(unpack('>I4', stored), window_ms)",
        "window_ms",
        "a_tally_forgets_what_left_the_window_and_nothing_else",
    ),
    (TALLY, "keep_ms + SLOT_MS)", "1)", "counts_within_the_window_are_kept_across_seconds"),
    (TALLY, "floor((now_ms - of_ms) / SLOT_MS)", "now_s", "counts_within_the_window_are_kept_across_seconds"),
]


async def passes(check: str, lab: Lab) -> bool:
    try:
        await CHECKS[check](lab)
    except (AssertionError, BridgeError):
        return False
    return True


@pytest.mark.parametrize(("kind", "check"), BROKEN_STORES, ids=[kind.__name__ for kind, _ in BROKEN_STORES])
async def test_broken_store_is_caught(kind: type[MemoryStore], check: str) -> None:
    sound, broken = MemoryLab(), MemoryLab(kind)
    await sound.store.start()
    await broken.store.start()
    assert await passes(check, sound), "the check must pass on a sound store"
    assert not await passes(check, broken), f"{check} let {kind.__name__} pass"


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (TellsALossByEveryCall, "a_loss_is_told_once_and_answered"),
        (TellsALossByEveryCall, "a_loss_met_by_many_calls_at_once_is_told_once"),
        (WaitsForEveryBucketsTurn, "one_loss_after_another_is_told"),
    ],
)
async def test_broken_watch_over_buckets_is_caught(
    own_redis: RedisServer, raw: Redis, kind: type[LossWatch], check: str
) -> None:
    for watch, sound in ((LossWatch(), True), (kind(), False)):
        store = RedisStore(own_redis.url, buckets=4)
        store._watch = watch
        await store.start()
        assert await passes(check, RedisLab(store, raw, f"watched-{uuid.uuid4().hex}")) is sound, watch
        await store.stop()


@pytest.mark.parametrize(("script", "sound", "broken", "check"), BROKEN_SCRIPTS)
async def test_broken_script_is_caught(
    own_redis: RedisServer, raw: Redis, script: str, sound: str, broken: str, check: str
) -> None:
    store = RedisStore(own_redis.url)
    await store.start()
    assert await passes(check, RedisLab(store, raw, f"sound-{uuid.uuid4().hex}")), "the sound script must pass"
    source = getattr(store, script).source.decode()
    assert sound in source, "the script has changed: adapt this test"
    setattr(store, script, Script(source.replace(sound, broken).encode()))
    assert not await passes(check, RedisLab(store, raw, f"broken-{uuid.uuid4().hex}")), f"{check} let it pass"
    await store.stop()
