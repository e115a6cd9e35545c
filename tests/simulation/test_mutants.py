"""Engines broken on purpose: the checker must object to each within a few seeds. What cannot fail proves nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from broken_engines import (
    Patch,
    claims_nothing,
    claims_whatever_the_payload,
    commits_backwards,
    commits_the_highest_offset_seen,
    completes_before_the_copy_is_acknowledged,
    does_not_ask_for_newer_versions,
    does_not_fence,
    does_not_notice_lost_claims,
    does_not_rebuild_the_parked_set,
    does_not_tell_the_store_afterwards,
    drops_a_header_of_the_dead,
    drops_what_was_busy,
    falls_back_to_nothing,
    forgets_attempts,
    forgets_claims_at_once,
    frees_held_keys_too_early,
    goes_on_with_partitions_that_are_gone,
    hands_over_before_the_acknowledgement,
    ignores_that_a_dead_letter_was_not_taken,
    keeps_no_order,
    keeps_the_answer_to_itself,
    loses_replays,
    never_frees_a_key,
    parks_nobody,
    reads_then_writes_claims,
    retires_before_claims_are_settled,
    settles_repeats_of_what_is_not_answered,
    settles_when_claimed,
    takes_a_conflict_for_a_duplicate,
    takes_a_failed_send_for_done,
    tries_before_due,
    turns_every_replay_away,
    writes_no_versions_down,
)
from shop_world import play, simulate
from shrink import invariant_of, shrink, story
from worlds import kind_of, plan_of

SEEDS = 150


@dataclass(frozen=True)
class Found:
    """By which invariants a mutant is noticed, and in which kind of world, where not in any."""

    by: frozenset[str]
    kind: str = ""


def by(*invariants: str, kind: str = "") -> Found:
    return Found(frozenset(invariants), kind)


MUTANTS: dict[Callable[[Patch], None], Found] = {
    commits_the_highest_offset_seen: by("I3"),
    settles_when_claimed: by("I3"),
    commits_backwards: by("I4"),
    parks_nobody: by("I12"),
    does_not_rebuild_the_parked_set: by("I12"),
    keeps_no_order: by("I12"),
    claims_nothing: by("I8", "I9"),
    forgets_attempts: by("I15"),
    tries_before_due: by("I22"),
    takes_a_failed_send_for_done: by("I1", "I3"),
    ignores_that_a_dead_letter_was_not_taken: by("I1", "I3"),
    completes_before_the_copy_is_acknowledged: by("I3"),
    settles_repeats_of_what_is_not_answered: by("I1", "I3"),
    retires_before_claims_are_settled: by("I3"),
    hands_over_before_the_acknowledgement: by("I1", "I3"),
    drops_a_header_of_the_dead: by("I14"),
    goes_on_with_partitions_that_are_gone: by("I20"),
    never_frees_a_key: by("I21"),
    drops_what_was_busy: by("I1", "I3"),
    does_not_fence: by("I10", kind="short lease"),
    reads_then_writes_claims: by("I8", "I9", "I10"),
    forgets_claims_at_once: by("I7", "I8", "I9"),
    frees_held_keys_too_early: by("I12", kind="hold"),
    loses_replays: by("I17", kind="redrive"),
    does_not_ask_for_newer_versions: by("I13", kind="versions"),
    writes_no_versions_down: by("I13", kind="versions"),
    turns_every_replay_away: by("I13", kind="versions"),
    keeps_the_answer_to_itself: by("I1", kind="answers"),
    takes_a_conflict_for_a_duplicate: by("I1", "I3", kind="conflict"),
    claims_whatever_the_payload: by("I16", "I1", "I3", kind="conflict"),
    does_not_notice_lost_claims: by("W3", kind="claims lost"),
    falls_back_to_nothing: by("I9", kind="fallback"),
    does_not_tell_the_store_afterwards: by("I9", kind="fallback"),
}


def failing_seed(found: Found) -> tuple[int | None, set[str]]:
    """The first seed that notices, and what was noticed until then."""
    seen: set[str] = set()
    of_the_kind = (seed for seed in itertools.count() if found.kind in ("", kind_of(seed).name))
    for seed in itertools.islice(of_the_kind, SEEDS):
        seen |= {invariant_of(text) for text in simulate(seed).found}
        if seen & found.by:
            return seed, seen
    return None, seen


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_checker_objects_to(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    expected = MUTANTS[mutant]
    seed, seen = failing_seed(expected)
    assert seed is not None, f"not noticed in {SEEDS} seeds; expected one of {sorted(expected.by)}, saw {sorted(seen)}"


@pytest.mark.parametrize("mutant", [parks_nobody, takes_a_conflict_for_a_duplicate], ids=lambda mutant: mutant.__name__)
def test_a_failing_seed_is_told_in_fewer_steps(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """The shorter plan breaks the same invariant, and again when it is run again."""
    mutant(monkeypatch)
    seed, _ = failing_seed(MUTANTS[mutant])
    assert seed is not None
    shrunk = shrink(plan_of(seed), within_s=120)
    assert len(shrunk.plan.steps) < len(plan_of(seed).steps) // 2
    again = play(shrunk.plan).found
    assert again == shrunk.shop.found
    assert invariant_of(again[0]) == shrunk.invariant
    told = story(shrunk)
    assert f"seed {seed}, a world of kind {shrunk.plan.kind.name!r}, breaks {shrunk.invariant}:" in told
    assert told.count("\n") < len(shrunk.shop.history.events)


def test_what_broke_nothing_is_not_shrunk() -> None:
    with pytest.raises(ValueError, match="breaks nothing"):
        shrink(plan_of(0))
