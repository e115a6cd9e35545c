"""What every idempotency store promises of tallies: one function a promise."""

from __future__ import annotations

import asyncio

from claim_calls import BUSY, LONG_MS, a_request, claim, granted
from claim_labs import Lab

SECOND_MS = 1_000


async def tally(lab: Lab, first: int = 0, again: int = 0, *, window_ms: int = LONG_MS, name: str = "") -> list[int]:
    return list(await lab.store.tally(f"{lab.group}{name}", first, again, window_ms=window_ms))


async def check_a_tally_sums_up_what_everybody_counted(lab: Lab) -> None:
    assert await tally(lab) == [0, 0]
    assert await tally(lab, 5, 2) == [5, 2]
    assert await tally(lab, 1, 0) == [6, 2]
    answers = await asyncio.gather(*(tally(lab, 1, 1) for _ in range(10)))
    assert sorted(answers) == [[6 + n, 2 + n] for n in range(1, 11)]
    assert await tally(lab) == [16, 12], "asking counts nothing"


async def check_tallies_of_two_names_do_not_meet(lab: Lab) -> None:
    """A name is whatever a target is called."""
    names = ("http://127.0.0.1:9100", "https://[::1]:443", "shop.handlers:capture", "{0}", "ünïcode", "epoch")
    for number, name in enumerate(names):
        assert await tally(lab, number, 1, name=name) == [number, 1]
    for number, name in enumerate(names):
        assert await tally(lab, name=name) == [number, 1]


async def check_a_tally_forgets_what_left_the_window_and_nothing_else(lab: Lab) -> None:
    """Also where somebody else asks for a longer window: each gets the sums of its own."""
    await tally(lab, 7, 3, window_ms=LONG_MS)
    await tally(lab, 1, 1, window_ms=SECOND_MS, name="short")
    began_ms = await lab.now_ms()
    await lab.wait_until((began_ms // SECOND_MS + 3) * SECOND_MS)
    assert await tally(lab, 2, 1, window_ms=SECOND_MS) == [2, 1]
    assert await tally(lab, window_ms=LONG_MS) == [9, 4]
    assert await tally(lab, window_ms=SECOND_MS, name="short") == [0, 0]


async def check_counts_within_the_window_are_kept_across_seconds(lab: Lab) -> None:
    began_ms = await lab.now_ms()
    for number in range(1, 4):
        assert await tally(lab, 1, 2, window_ms=4 * SECOND_MS) == [number, 2 * number]
        await lab.wait_until((began_ms // SECOND_MS + number) * SECOND_MS)


async def check_a_lost_tally_starts_anew_and_claims_are_not_touched_by_one(lab: Lab) -> None:
    request = a_request()
    await granted(lab, request)
    await tally(lab, 5, 5)
    assert (await claim(lab, a_request())).status is BUSY
    assert lab.store.losses() == 0
    await lab.lose_everything()
    assert await tally(lab, 1, 0) == [1, 0]
