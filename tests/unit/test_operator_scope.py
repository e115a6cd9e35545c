"""An operation as a command makes it: now, here, by this user, on its route."""

from __future__ import annotations

from typing import Any, cast

import click
import pytest
from replay_world import START_MS, ManualClock, a_route

from broker_bridge.cli.operator_identity import host_name, user_name
from broker_bridge.cli.operator_scope import OperatorScope, selection_of, selection_options
from broker_bridge.core.letters import Selection
from broker_bridge.core.operation import Action, Operation, operation_value, read_operation
from broker_bridge.errors import UsageError


def _selection(*arguments: str) -> Selection:
    @click.command()
    @selection_options
    def command(**given: Any) -> Selection:
        return selection_of(given)

    chosen: Selection = command.main(list(arguments), standalone_mode=False)
    return chosen


def test_who_when_and_where_are_filled_in() -> None:
    route = a_route()
    scope = cast(Any, OperatorScope)(*[None] * 2, route, *[None] * 3, ManualClock(), None)
    made = scope.operation(Action.LETTERS_DISCARDED, why="test data", counts={"discarded": 2})
    assert made == Operation(
        id=made.id,
        at_ms=START_MS,
        action="letters_discarded",
        by=user_name(),
        host=host_name(),
        why="test data",
        route=route.name,
        group=route.group,
        counts={"discarded": 2},
    )
    assert read_operation(operation_value(made)) == made
    assert made.id != scope.operation(Action.LETTERS_DISCARDED).id
    assert scope.operation(Action.REPLAY_PLANNED, by="bob").by == "bob"


def test_no_filter_chooses_everything() -> None:
    assert _selection() == Selection()
    assert _selection("--key", "o-1", "--where", "amount > 1") == Selection(key="o-1", where="amount > 1")


@pytest.mark.parametrize("option", ["--key", "--where"])
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_filter_is_refused_and_does_not_choose_everything(option: str, text: str) -> None:
    with pytest.raises(UsageError, match="empty") as refused:
        _selection(option, text)
    assert refused.value.remedy
