"""A loss of claims is counted once, in whatever order the answers of overlapping calls come."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.idempotency.loss_watch import Epoch, Known, LossWatch

BUCKETS = 3


class Epochs:
    """A store's epochs: gone when it loses its claims, made anew where a call finds none."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.made = 0
        self.losses = 0

    def lose(self) -> None:
        self.losses += bool(self.kept)  # what was lost already cannot be lost again
        self.kept.clear()

    def read(self, bucket: int) -> int:
        if bucket not in self.kept:
            self.made += 1
            self.kept[bucket] = self.made
        return self.kept[bucket]


def call(watch: LossWatch, epochs: Epochs, bucket: int) -> None:
    known = watch.before_call()
    watch.after_call(known, bucket=bucket, epoch=epochs.read(bucket))


events = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, BUCKETS - 1)),
        st.tuples(st.just("serve"), st.integers(0, 5)),
        st.tuples(st.just("receive"), st.integers(0, 5)),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=60,
)


def counted(watch: LossWatch, happened: list[tuple[str, int]]) -> tuple[int, Epochs]:
    """Run overlapping calls: each is sent, served later, its answer received later still, in any order."""
    epochs = Epochs()
    for bucket in range(BUCKETS):
        call(watch, epochs, bucket)
    sent: list[tuple[Known, int]] = []
    served: list[tuple[Known, int, int]] = []
    for what, which in happened:
        if what == "send":
            sent.append((watch.before_call(), which))
        elif what == "serve" and sent:
            known, bucket = sent.pop(which % len(sent))
            served.append((known, bucket, epochs.read(bucket)))
        elif what == "receive" and served:
            known, bucket, epoch = served.pop(which % len(served))
            watch.after_call(known, bucket=bucket, epoch=epoch)
        elif what == "lose":
            epochs.lose()
    return watch.losses, epochs


@given(events)
def test_never_more_losses_are_told_than_there_were(happened: list[tuple[str, int]]) -> None:
    watch = LossWatch()
    told, epochs = counted(watch, happened)
    assert told <= epochs.losses


@given(events, st.integers(0, BUCKETS - 1))
def test_after_any_past_the_next_loss_is_told_once(happened: list[tuple[str, int]], first: int) -> None:
    watch = LossWatch()
    _, epochs = counted(watch, happened)
    for bucket in (0, 1, 2, 0, 1, 2):  # quiet again: every bucket is known
        call(watch, epochs, bucket)
    told = watch.losses
    epochs.lose()
    call(watch, epochs, first)
    assert watch.losses == told + 1
    for bucket in (0, 1, 2, 0, 1, 2):
        call(watch, epochs, bucket)
    assert watch.losses == told + 1


class ListensToEverybody(LossWatch):
    """What the rule is for."""

    def after_call(self, known: Known, *, bucket: int, epoch: Epoch) -> None:
        super().after_call(self._known, bucket=bucket, epoch=epoch)


class ForgetsNoBucket(LossWatch):
    """Meets one loss in every bucket."""

    def after_call(self, known: Known, *, bucket: int, epoch: Epoch) -> None:
        before = dict(known)
        super().after_call(known, bucket=bucket, epoch=epoch)
        for other, seen in before.items():
            self._known.setdefault(other, seen)


OVERTAKEN = [("send", 0), ("send", 0), ("serve", 0), ("lose", 0), ("serve", 0), ("receive", 1), ("receive", 0)]
MET_IN_TWO_BUCKETS = [
    ("lose", 0),
    *[("send", 0), ("serve", 0), ("receive", 0)],
    *[("send", 1), ("serve", 0), ("receive", 0)],
]


def test_watches_without_the_rule_are_caught() -> None:
    cases: list[tuple[Callable[[], LossWatch], list[tuple[str, int]]]] = [
        (ListensToEverybody, OVERTAKEN),
        (ForgetsNoBucket, MET_IN_TWO_BUCKETS),
    ]
    for broken, happened in cases:
        assert counted(LossWatch(), happened)[0] == 1
        assert counted(broken(), happened)[0] == 2
