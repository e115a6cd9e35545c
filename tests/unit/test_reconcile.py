"""Both sides of the books: honest logs pass, every kind of broken log is flagged."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_world import reconcile

from broker_bridge.core.audit import Outcome
from broker_bridge.core.reconcile import BookEntry, TargetLine, Terms
from broker_bridge.message import Position

TOPIC = "orders.placed"


def entry(n: int, outcome: Outcome = Outcome.COMPLETED, *, key: bytes | None = b"c", code: str = "") -> BookEntry:
    return BookEntry(Position(TOPIC, 0, n), f"k{n}", key, outcome, code)


def applied(number: int, n: int, **changes) -> TargetLine:
    return TargetLine(number, f"k{n}", origin=Position(TOPIC, 0, n))._replace(**changes)


def test_equal_sides_balance() -> None:
    result = reconcile([entry(n) for n in range(3)], [applied(n + 1, n) for n in range(3)], topic=TOPIC)
    assert result.balanced
    assert (result.lines, result.applied, result.repeats) == (3, 3, 0)


def test_completed_but_never_applied_is_missing() -> None:
    result = reconcile([entry(0), entry(1)], [applied(1, 0)], topic=TOPIC)
    assert not result.balanced
    assert [found.key for found in result.missing] == ["k1"]


@pytest.mark.parametrize("kind", ["refused", "fenced"])
def test_only_applied_counts_as_applied(kind: str) -> None:
    result = reconcile([entry(0)], [applied(1, 0, kind=kind)], topic=TOPIC)
    assert [found.key for found in result.missing] == ["k0"]


def test_applied_but_never_produced_is_extra() -> None:
    result = reconcile([entry(0)], [applied(1, 0), applied(2, 9)], topic=TOPIC)
    assert [(found.key, found.line) for found in result.extra] == [("k9", 2)]
    assert not result.balanced


@pytest.mark.parametrize("code", ["target_rejected", "avro_malformed"])
def test_applied_but_dead_is_extra(code: str) -> None:
    result = reconcile([entry(0, Outcome.DEAD, code=code)], [applied(1, 0)], topic=TOPIC)
    assert [found.key for found in result.extra] == ["k0"]
    assert code in result.extra.kept[0].why


def test_applied_but_dead_after_a_timeout_was_announced_as_uncertain() -> None:
    result = reconcile([entry(0, Outcome.DEAD, code="target_timeout")], [applied(1, 0)], topic=TOPIC)
    assert result.balanced
    assert [found.key for found in result.uncertain] == ["k0"]


def test_applied_and_unsettled_is_neither_missing_nor_extra() -> None:
    result = reconcile([entry(0, Outcome.IN_RETRY), entry(1, Outcome.PENDING)], [applied(1, 0)], topic=TOPIC)
    assert result.balanced
    assert result.unsettled == 1


@pytest.mark.parametrize("kind", ["applied", "repeat"])
def test_a_repeat_that_nobody_announced_is_unexplained(kind: str) -> None:
    result = reconcile([entry(0)], [applied(1, 0), applied(2, 0, kind=kind)], topic=TOPIC)
    assert not result.balanced
    assert [(found.key, found.line) for found in result.unexplained] == [("k0", 2)]


@pytest.mark.parametrize("said", [{"attempt": 2}, {"crashes": 1}, {"replay_id": "rp-1"}])
def test_a_repeat_that_was_announced_is_explained(said: dict[str, object]) -> None:
    result = reconcile([entry(0)], [applied(1, 0), applied(2, 0, kind="repeat", **said)], topic=TOPIC)
    assert result.balanced
    assert (result.repeats, result.repeats_explained) == (1, 1)


def test_the_word_must_be_on_the_repeat_itself() -> None:
    lines = [applied(1, 0, attempt=2), applied(2, 0, kind="repeat")]
    assert [found.line for found in reconcile([entry(0)], lines, topic=TOPIC).unexplained] == [2]


def test_swapped_order_of_one_key_is_flagged_with_both_lines() -> None:
    result = reconcile([entry(0), entry(1)], [applied(1, 1), applied(2, 0)], topic=TOPIC)
    assert not result.balanced
    assert [(found.key, found.line) for found in result.disordered] == [("k0", 2)]
    assert "line 1" in result.disordered.kept[0].why
    assert reconcile([entry(0), entry(1)], [applied(1, 1), applied(2, 0)], topic=TOPIC, is_ordered=False).balanced


def test_order_is_per_record_key_and_leaves_replays_out() -> None:
    books = [entry(0, key=b"a"), entry(1, key=b"b"), entry(2, key=b"a")]
    assert reconcile(books, [applied(1, 1), applied(2, 0), applied(3, 2)], topic=TOPIC).balanced
    replayed = [applied(1, 1), applied(2, 2), applied(3, 0, replay_id="rp-1")]
    assert reconcile(books, replayed, topic=TOPIC).balanced


def test_a_duplicate_record_does_not_hide_the_completed_one() -> None:
    twin = BookEntry(Position(TOPIC, 0, 5), "k0", b"c", Outcome.DUPLICATE)
    for books in ([entry(0), twin], [twin, entry(0)]):
        assert reconcile(books, [applied(1, 0)], topic=TOPIC).balanced
        assert [found.key for found in reconcile(books, [], topic=TOPIC).missing] == ["k0"]


def test_lines_of_other_topics_are_left_alone() -> None:
    foreign = TargetLine(2, "x", origin=Position("refunds", 0, 1))
    result = reconcile([entry(0)], [applied(1, 0), foreign], topic=TOPIC)
    assert result.balanced
    assert result.foreign == 1


@dataclass
class Story:
    books: list[BookEntry]
    lines: list[TargetLine]


@st.composite
def honest_stories(draw: st.DrawFn) -> Story:
    """What a correct bridge and a correct target would leave behind."""
    count = draw(st.integers(1, 12))
    books: list[BookEntry] = []
    lines: list[TargetLine] = []
    for n in range(count):
        key = draw(st.sampled_from([b"a", b"b", None]))
        outcome = draw(st.sampled_from([Outcome.COMPLETED, Outcome.COMPLETED, Outcome.DEAD, Outcome.PENDING]))
        code = draw(st.sampled_from(["target_rejected", "target_timeout"])) if outcome is Outcome.DEAD else ""
        books.append(entry(n, outcome, key=key, code=code))
        if outcome is Outcome.COMPLETED or (code == "target_timeout" and draw(st.booleans())):
            lines.append(applied(len(lines) + 1, n, attempt=draw(st.integers(1, 2))))
            for _ in range(draw(st.integers(0, 2))):
                said = draw(st.sampled_from([{"attempt": 2}, {"crashes": 1}, {"replay_id": "rp-1"}]))
                lines.append(applied(len(lines) + 1, n, kind="repeat", **said))
        elif code == "target_rejected":
            lines.append(applied(len(lines) + 1, n, kind="refused"))
    return Story(books, lines)


@given(honest_stories())
def test_honest_stories_balance(story: Story) -> None:
    result = reconcile(iter(story.books), iter(story.lines), topic=TOPIC)
    assert result.balanced, result


@given(honest_stories(), st.data())
def test_broken_stories_never_balance(story: Story, data: st.DataObject) -> None:
    """Break an honest story in one of four ways; each must be flagged under its own heading."""
    firsts = [line for line in story.lines if line.kind == "applied"]
    completed = {one.idempotency_key for one in story.books if one.outcome is Outcome.COMPLETED}
    certain = [line for line in firsts if line.key in completed]
    if not certain:
        return
    victim = data.draw(st.sampled_from(certain))
    how = data.draw(st.sampled_from(["drop", "repeat", "invent", "swap"]))
    lines = list(story.lines)
    if how == "drop":
        result = reconcile(story.books, [line for line in lines if line.key != victim.key], topic=TOPIC)
        assert victim.key in {found.key for found in result.missing}
    elif how == "repeat":
        lines.append(victim._replace(number=99, attempt=1))
        result = reconcile(story.books, lines, topic=TOPIC)
        assert [found.line for found in result.unexplained] == [99]
    elif how == "invent":
        lines.append(applied(99, 77))
        result = reconcile(story.books, lines, topic=TOPIC)
        assert [found.key for found in result.extra] == ["k77"]
    else:
        record = next(one for one in story.books if one.idempotency_key == victim.key)
        replayed = any(line.replay_id for line in lines if line.key == victim.key)
        if record.key is None or replayed:
            return
        later = BookEntry(Position(TOPIC, 0, 500), "k500", record.key, Outcome.COMPLETED)
        result = reconcile([*story.books, later], [applied(0, 500), *lines], topic=TOPIC)
        assert victim.key in {found.key for found in result.disordered}
    assert not result.balanced


# -- in time, forced, other endings, parts of a topic


def test_applied_after_its_deadline_is_late_and_breaks_the_balance() -> None:
    books = [entry(0)._replace(deadline_ms=1_000), entry(1)._replace(deadline_ms=1_000), entry(2)]
    lines = [applied(1, 0, at_ms=1_001), applied(2, 1, at_ms=1_000), applied(3, 2, at_ms=9_999)]
    result = reconcile(books, lines, topic=TOPIC)
    assert [(found.key, found.line) for found in result.late] == [("k0", 1)]
    assert "1 ms after its deadline" in result.late.kept[0].why
    assert not result.balanced


def test_late_is_also_what_took_longer_than_allowed_since_it_was_written() -> None:
    books = [entry(n)._replace(timestamp_ms=5_000) for n in range(3)]
    lines = [applied(1, 0, at_ms=6_000), applied(2, 1, at_ms=6_001), applied(3, 2)]
    result = reconcile(books, lines, topic=TOPIC, terms=Terms(late_after_ms=1_000))
    assert [found.key for found in result.late] == ["k1"]
    assert reconcile(books, lines, topic=TOPIC).balanced


def test_a_replay_is_not_held_to_the_deadline() -> None:
    books = [entry(0)._replace(deadline_ms=1_000)]
    assert reconcile(books, [applied(1, 0, at_ms=2_000, replay_id="rp-1")], topic=TOPIC).balanced


def test_a_forced_execution_is_explained_by_its_key_and_counted() -> None:
    lines = [applied(1, 0), applied(2, 0, key="k0#force:rp-1"), applied(3, 0, key="k0#force:rp-2")]
    result = reconcile([entry(0)], lines, topic=TOPIC)
    assert result.balanced
    assert (result.forced, result.repeats, result.applied) == (2, 0, 3)


def test_a_forced_execution_runs_once_and_only_for_a_record_there_is() -> None:
    """Broken on purpose: the same forced key twice, and one that no record explains."""
    twice = [applied(1, 0), applied(2, 0, key="k0#force:rp-1"), applied(3, 0, key="k0#force:rp-1")]
    result = reconcile([entry(0)], twice, topic=TOPIC)
    assert [found.line for found in result.unexplained] == [3]
    result = reconcile([entry(0)], [applied(1, 0), applied(2, 0, key="k9#force:rp-1")], topic=TOPIC)
    assert [found.key for found in result.extra] == ["k9#force:rp-1"]


def test_a_producers_own_key_may_look_forced() -> None:
    own = BookEntry(Position(TOPIC, 0, 0), "a#force:b", b"c", Outcome.COMPLETED)
    result = reconcile([own], [applied(1, 0, key="a#force:b")], topic=TOPIC)
    assert result.balanced
    assert result.forced == 0
    assert [found.key for found in reconcile([own], [], topic=TOPIC).missing] == ["a#force:b"]


@pytest.mark.parametrize("outcome", [Outcome.DISCARDED, Outcome.STALE])
def test_a_letter_given_up_whose_effect_had_happened_is_told_and_no_imbalance(outcome: Outcome) -> None:
    result = reconcile([entry(0, outcome)], [applied(1, 0)], topic=TOPIC)
    assert result.balanced
    assert [found.key for found in result.uncertain] == ["k0"]
    assert outcome.value in result.uncertain.kept[0].why
    assert reconcile([entry(0, outcome)], [], topic=TOPIC).balanced


@pytest.mark.parametrize("outcome", [Outcome.EXPIRED, Outcome.UNACCOUNTED])
def test_applied_though_the_buffer_never_handed_it_over_is_extra(outcome: Outcome) -> None:
    result = reconcile([entry(0, outcome, code="deadline_passed")], [applied(1, 0)], topic=TOPIC)
    assert [found.key for found in result.extra] == ["k0"]


def test_the_target_speaks_for_what_the_buffer_forgot() -> None:
    result = reconcile([entry(0, Outcome.FORGOTTEN), entry(1, Outcome.FORGOTTEN)], [applied(1, 0)], topic=TOPIC)
    assert result.balanced
    assert result.applied == 1


def test_where_only_a_part_is_audited_a_line_without_a_place_is_not_judged() -> None:
    stray = TargetLine(2, "elsewhere")
    assert not reconcile([entry(0)], [applied(1, 0), stray], topic=TOPIC).balanced
    result = reconcile([entry(0)], [applied(1, 0), stray], topic=TOPIC, terms=Terms(is_whole=False))
    assert result.balanced
    assert result.foreign == 1
    placed = applied(3, 7)
    assert [f.key for f in reconcile([], [placed], topic=TOPIC, terms=Terms(is_whole=False)).extra] == ["k7"]


def test_results_go_by_event_id_or_place_and_one_told_twice_is_one_effect() -> None:
    books = [entry(0)._replace(event_id="o-0"), entry(1)]
    lines = [
        TargetLine(1, "o-0", result_id="r-1", is_event_id=True),
        TargetLine(2, "o-0", result_id="r-1", is_event_id=True),
        TargetLine(3, f"{TOPIC}/0/1", is_event_id=True),
    ]
    result = reconcile(books, lines, topic=TOPIC)
    assert result.balanced
    assert (result.applied, result.told_again, result.repeats) == (2, 1, 0)
    again = lines[0]._replace(number=4, result_id="r-2")
    assert [found.line for found in reconcile(books, [*lines, again], topic=TOPIC).unexplained] == [4]


def test_an_idempotency_key_comes_before_an_event_id_and_the_original_before_its_duplicate() -> None:
    twin = BookEntry(Position(TOPIC, 0, 9), "k9", b"c", Outcome.DUPLICATE, event_id="o-1")
    books = [twin, entry(0)._replace(event_id="k1"), entry(1)._replace(event_id="o-1")]
    lines = [TargetLine(1, "k0", is_event_id=True), TargetLine(2, "o-1", is_event_id=True)]
    result = reconcile(books, lines, topic=TOPIC)
    assert result.balanced, result
    assert result.applied == 2


def test_a_key_that_is_no_unicode_is_a_key() -> None:
    assert [found.key for found in reconcile([], [TargetLine(1, "\ud800\0")], topic=TOPIC).extra] == ["\ud800\0"]


def test_counts_that_a_list_made_up_do_no_harm() -> None:
    lines = [applied(1, 0, attempt=10**30, crashes=-(10**30))]
    assert reconcile([entry(0)], lines, topic=TOPIC).balanced
