"""What a discard does with each letter, by its state; the places of letters as bounded texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.core.claim import (
    DISCARDED_DETAIL,
    NO_REPLAY,
    STALE_DETAIL,
    ClaimAnswer,
    ClaimState,
    ClaimStatus,
    ClaimView,
)
from broker_bridge.core.discard import (
    LONGEST_TEXT,
    TEXTS_A_RECORD,
    Fate,
    Place,
    fate_of,
    fate_when_refused,
    place_texts,
    read_place_texts,
)
from broker_bridge.core.identity import replay_tag
from broker_bridge.core.letters import LetterState
from broker_bridge.core.operation import Operation, operation_value, read_operation
from broker_bridge.core.operator_claim import Hand, left_by, operator_tag

places = st.builds(Place, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))


def a_claim(state: ClaimState, replay: bytes = NO_REPLAY) -> ClaimView:
    return ClaimView(state, 1, 0, 0, 0, 0, b"", b"", replay, b"")


@pytest.mark.parametrize(
    ("state", "fate"),
    [
        (LetterState.WAITING, Fate.TO_DISCARD),
        (LetterState.DEAD_AGAIN, Fate.TO_DISCARD),
        (LetterState.REPLAYING, Fate.IN_HAND),
        (LetterState.RESOLVED, Fate.COMPLETED),
        (LetterState.STALE, Fate.COMPLETED),
        (LetterState.DISCARDED, Fate.ALREADY_DISCARDED),
        (LetterState.SUPERSEDED, Fate.SUPERSEDED),
        (LetterState.CONFLICT, Fate.KEY_CONFLICT),
        (LetterState.UNKNOWN, Fate.CLAIM_EXPIRED),
    ],
)
def test_every_state_has_its_fate(state: LetterState, fate: Fate) -> None:
    assert fate_of(state, None, allow_expired=False) is fate
    allowed = fate_of(state, None, allow_expired=True)
    assert allowed is (Fate.TO_DISCARD if state is LetterState.UNKNOWN else fate)


def test_what_a_killed_command_left_is_taken_over_and_what_a_worker_has_is_not() -> None:
    left = a_claim(ClaimState.IN_PROGRESS, operator_tag(Hand.DISCARD, "discard-1 t/0/1"))
    assert fate_of(LetterState.REPLAYING, left, allow_expired=False) is Fate.TO_DISCARD
    worker = a_claim(ClaimState.IN_PROGRESS, replay_tag("rp-1"))
    assert fate_of(LetterState.REPLAYING, worker, allow_expired=False) is Fate.IN_HAND
    for hand in Hand:
        assert left_by(a_claim(ClaimState.IN_PROGRESS, operator_tag(hand, "x"))) is hand
        assert left_by(a_claim(ClaimState.DEAD, operator_tag(hand, "x"))) is None
    assert left_by(None) is None


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (ClaimAnswer(ClaimStatus.DONE, result=DISCARDED_DETAIL), Fate.ALREADY_DISCARDED),
        (ClaimAnswer(ClaimStatus.DONE, result=STALE_DETAIL), Fate.COMPLETED),
        (ClaimAnswer(ClaimStatus.DONE), Fate.COMPLETED),
        (ClaimAnswer(ClaimStatus.CONFLICT), Fate.KEY_CONFLICT),
        (ClaimAnswer(ClaimStatus.BUSY), Fate.IN_HAND),
        (ClaimAnswer(ClaimStatus.SUPERSEDED), Fate.IN_HAND),
        (ClaimAnswer(ClaimStatus.DEAD), Fate.IN_HAND),
    ],
)
def test_who_was_there_first(answer: ClaimAnswer, fate: Fate) -> None:
    assert fate_when_refused(answer) is fate


def test_places_are_told_as_ranges() -> None:
    found = [Place(1, 9), Place(0, 5), Place(0, 3), Place(0, 4), Place(1, 7), Place(0, 8)]
    assert list(place_texts(found)) == [["0/3-5,8", "1/7,9"]]
    assert list(place_texts([])) == []


@given(st.sets(places) | st.sets(st.builds(Place, st.integers(0, 3), st.integers(0, 60))))
def test_places_come_back(found: set[Place]) -> None:
    assert [place for texts in place_texts(found) for place in read_place_texts(texts)] == sorted(found)


@pytest.mark.parametrize("partitions", [1, 7, 1_000])
def test_a_thousand_places_survive_the_operations_record(partitions: int) -> None:
    """Which cuts long texts and long lists."""
    found = {Place(number % partitions, 2**62 + 2 * number) for number in range(1_000)}
    back: set[Place] = set()
    for texts in place_texts(found):
        assert len(texts) <= TEXTS_A_RECORD
        assert all(len(text) < LONGEST_TEXT + 40 for text in texts)
        value = operation_value(Operation(id="1", at_ms=1, action="a", by="a", host="h", details={"places": texts}))
        operation = read_operation(value)
        assert isinstance(operation, Operation)
        back |= set(read_place_texts(operation.details["places"]))
    assert back == found
