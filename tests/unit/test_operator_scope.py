"""An operation as a command makes it: now, here, by this user, on its route."""

from __future__ import annotations

from typing import Any, cast

from replay_world import START_MS, ManualClock, a_route

from broker_bridge.cli.operator_identity import host_name, user_name
from broker_bridge.cli.operator_scope import OperatorScope
from broker_bridge.core.operation import Action, Operation, operation_value, read_operation


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
