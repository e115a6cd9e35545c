"""Who waits in hand, beside a list."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_bridge.core.behind import Behind

MOST, MOST_BYTES = 5, 40
KEYS = st.sampled_from(["a", "b"])


class BehindBesideAList(RuleBasedStateMachine):
    """Items are numbers; the model keeps (key, offset, item, size, until) in the order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: Behind[int] = Behind(most=MOST, most_bytes=MOST_BYTES)
        self.model: list[tuple[str, int, int, int, int]] = []
        self.made = self.now_ms = 0

    @rule(key=KEYS, offset=st.integers(0, 6), size=st.integers(0, 15), later_ms=st.integers(0, 3))
    def wait(self, key: str, offset: int, size: int, later_ms: int) -> None:
        self.made += 1
        self.now_ms += later_ms
        has_room = len(self.model) < MOST and sum(entry[3] for entry in self.model) + size <= MOST_BYTES
        assert self.behind.wait(key, offset, self.made, size=size, until_ms=self.now_ms + 5) == has_room
        if has_room:
            self.model.append((key, offset, self.made, size, self.now_ms + 5))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.model))
        self.model.remove(entry)
        self.behind.remove(entry[2])

    @rule(after_ms=st.integers(0, 8))
    def overdue(self, after_ms: int) -> None:
        self.now_ms += after_ms
        expected = [entry[2] for entry in self.model if entry[4] <= self.now_ms]
        assert self.behind.overdue(self.now_ms) == expected
        self.model = [entry for entry in self.model if entry[2] not in expected]

    @rule(odd=st.booleans())
    def drop(self, odd: bool) -> None:
        assert self.behind.drop(lambda item: item % 2 == odd) == [e[2] for e in self.model if e[2] % 2 == odd]
        self.model = [entry for entry in self.model if entry[2] % 2 != odd]

    @invariant()
    def agrees(self) -> None:
        assert len(self.behind) == len(self.model)
        assert all((item in self.behind) == any(item == e[2] for e in self.model) for item in range(self.made + 1))
        for key in ("a", "b"):
            row = [entry[1:3] for entry in self.model if entry[0] == key]
            assert self.behind.first(key) == (min(row)[1] if row else None)


TestBehindBesideAList = BehindBesideAList.TestCase
TestBehindBesideAList.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
