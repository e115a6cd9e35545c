"""Telling from epochs that claims were lost (window W3, fault row 39): each loss once, whoever sees it first.

Beside its claims a store keeps an *epoch*, a value that is made once and lives as long as the claims do. Each call that
claims reads it, and makes another where it is gone. Read another one than before: the claims it stood beside are gone.
"""

from __future__ import annotations

Epoch = bytes | int
Known = dict[int, Epoch]
"""The epoch last read in each bucket (each has its own, because a batch must stay within one slot)."""


class LossWatch:
    """Counts losses. Calls overlap, and one loss is met in every bucket; yet it is counted once::

        call A, bucket 0, sent      call B, bucket 1, sent      FLUSHALL
        A reads a new epoch: a loss. Nothing is known any more of the other buckets' epochs.
        B reads a new epoch: B was sent before A's loss was told, so it is not listened to.
        call C, bucket 1: what it reads is what is known from then on.

    Only a call sent after the last change of what is known is listened to. So two losses are counted only where there
    were two, however answers overtake each other; what a call that is not listened to has met, a later one meets again.
    A loss in a bucket of which nothing is known cannot be told: read the epochs that are ``unknown`` soon.
    """

    def __init__(self) -> None:
        self.losses = 0
        self._known: Known = {}

    def before_call(self) -> Known:
        """What is known when a call is sent: hand it to ``after_call`` with what that call has read."""
        return self._known

    def unknown(self, buckets: int) -> list[int]:
        """Which of so many buckets' epochs are not known: after a loss, all but the one that it was met in."""
        return [] if len(self._known) == buckets else [bucket for bucket in range(buckets) if bucket not in self._known]

    def after_call(self, known: Known, *, bucket: int, epoch: Epoch) -> None:
        """Compare what a call has read with what was known when it was sent."""
        if known is not self._known or known.get(bucket) == epoch:
            return
        if bucket in known:
            self._known = {bucket: epoch}
            self.losses += 1
        else:
            self._known = {**known, bucket: epoch}
