"""The operations topic never holds a key, a header's value or a text that a payload was compared with."""

from __future__ import annotations

import pytest

from broker_bridge.core.letters import Selection
from broker_bridge.core.recorded_selection import recorded_selection


def test_what_is_personal_is_left_out() -> None:
    found = recorded_selection(
        Selection(
            codes=("target_rejected",),
            key="zoe@example.org",
            headers=("tenant=secret", "flag"),
            where="amount > 1000 and email == \"zoe@example.org\" or name == 'Zo\\'e'",
        )
    )
    assert found["codes"] == ["target_rejected"]
    assert found["headers"] == ["tenant", "flag"]
    assert found["where"] == 'amount > 1000 and email == "…" or name == "…"'
    assert not [text for text in ("zoe", "secret", "Zo") if text in str(found)]
    assert found["key"] == recorded_selection(Selection(key="zoe@example.org"))["key"] != "zoe@example.org"


@pytest.mark.parametrize("where", ['a == "it\'s" and b == 1', "a == 'say \"hi\"' and b == 1"])
def test_quotes_of_the_other_kind(where: str) -> None:
    assert recorded_selection(Selection(where=where))["where"] == 'a == "…" and b == 1'
