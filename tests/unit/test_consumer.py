"""Handlers: what each kind of signature is given, and which are refused at import."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Optional

import pytest
from pydantic import BaseModel, Field

from broker_bridge.consumer import Context, Handler, handler
from broker_bridge.errors import ConfigError, MalformedError
from broker_bridge.message import Message, Position

if TYPE_CHECKING:
    from decimal import Decimal

CONTEXT = Context(attempt=2, crashes=0, token=7, group="payments", deadline_ms=1_000)
VALUE = {"id": "o-1", "cents": 5}


class Order(BaseModel):
    """What the handlers below ask for."""

    id: str
    cents: int = Field(gt=0)


def message(value: Any = VALUE) -> Message[Any]:
    """A message as a worker makes it."""
    return Message(value=value, key=b"k", headers=(), origin=Position("t", 0, 1), timestamp_ms=0, idempotency_key="k-1")


async def a_dict(order: dict[str, Any]) -> Any:
    return order


async def no_annotation(order) -> Any:  # type: ignore[no-untyped-def]
    return order


async def a_model(order: Order) -> Any:
    return order


async def a_model_or_tombstone(order: Order | None) -> Any:
    return order


async def a_model_or_tombstone_in_old_style(order: Optional[Order]) -> Any:  # noqa: UP045
    return order


async def a_message(order: Message) -> Any:  # type: ignore[type-arg]
    return order


async def a_message_of_dict(order: Message[dict[str, Any]]) -> Any:
    return order


async def a_message_of_model(order: Message[Order]) -> Any:
    return order


async def a_message_of_model_or_tombstone(order: Message[Order | None]) -> Any:
    return order


async def a_list_of_models(orders: list[Order]) -> Any:
    return orders


@pytest.mark.parametrize("function", [a_dict, no_annotation])
async def test_a_dict_is_given_as_it_is(function: Callable[..., Awaitable[Any]]) -> None:
    assert await Handler(function).handle(message(), CONTEXT) is VALUE


@pytest.mark.parametrize("function", [a_model, a_model_or_tombstone, a_model_or_tombstone_in_old_style])
async def test_a_model_is_given_where_one_is_asked_for(function: Callable[..., Awaitable[Any]]) -> None:
    assert await Handler(function).handle(message(), CONTEXT) == Order(id="o-1", cents=5)


@pytest.mark.parametrize("function", [a_message, a_message_of_dict])
async def test_a_message_is_given_whole(function: Callable[..., Awaitable[Any]]) -> None:
    given = message()
    assert await Handler(function).handle(given, CONTEXT) is given
    assert given.value is VALUE


@pytest.mark.parametrize("function", [a_message_of_model, a_message_of_model_or_tombstone])
async def test_a_message_of_a_model_carries_the_model(function: Callable[..., Awaitable[Any]]) -> None:
    given = message()
    assert await Handler(function).handle(given, CONTEXT) is given
    assert given.value == Order(id="o-1", cents=5)


async def test_other_types_get_the_plain_value() -> None:
    assert await Handler(a_list_of_models).handle(message([VALUE]), CONTEXT) == [VALUE]


@pytest.mark.parametrize("function", [a_dict, a_model, a_model_or_tombstone])
async def test_a_tombstone_is_none_and_is_not_validated(function: Callable[..., Awaitable[Any]]) -> None:
    assert await Handler(function).handle(message(None), CONTEXT) is None


async def test_a_second_try_finds_the_model_made_by_the_first() -> None:
    given, tried = message(), Handler(a_message_of_model)
    await tried.handle(given, CONTEXT)
    first = given.value
    await tried.handle(given, CONTEXT)
    assert given.value is first


async def test_a_second_parameter_gets_the_context() -> None:
    async def wants_both(order: Order, context: Context) -> Any:
        return order, context

    order, context = await Handler(wants_both).handle(message(), CONTEXT)
    assert (order.id, context) == ("o-1", CONTEXT)


async def test_methods_and_partials_count_what_is_left_of_their_parameters() -> None:
    class Service:
        async def handle(self, order: Order, context: Context) -> Any:
            return order.id, context.attempt

    async def with_a_store(store: str, order: Order) -> Any:
        return store, order.id

    assert await Handler(Service().handle).handle(message(), CONTEXT) == ("o-1", 2)
    bound = Handler(functools.partial(with_a_store, "redis"))
    assert bound.name
    assert await bound.handle(message(), CONTEXT) == ("redis", "o-1")


async def test_what_the_model_refuses_is_malformed_and_tells_no_values() -> None:
    with pytest.raises(MalformedError) as caught:
        await Handler(a_model).handle(message({"id": "o-1", "cents": -31_337}), CONTEXT)
    assert "cents" in caught.value.detail
    assert caught.value.where.endswith(":a_model")
    assert caught.value.remedy
    assert "31337" not in str(caught.value)


async def test_what_the_handler_raises_is_its_own() -> None:
    async def fails(order: Order) -> None:
        raise KeyError(order.id)

    with pytest.raises(KeyError, match="o-1"):
        await Handler(fails).handle(message(), CONTEXT)


async def test_calling_a_handler_calls_the_function() -> None:
    @handler
    async def plain(order: Order) -> Any:
        return order

    @handler()
    async def with_parentheses(order: Order) -> Any:
        return order

    for found in (plain, with_parentheses):
        assert isinstance(found, Handler)
        assert await found(Order(id="o-2", cents=1)) == Order(id="o-2", cents=1)
        assert await found(order="anything") == "anything"
        assert found.name.endswith(found.function.__qualname__)


def not_async(order: Order) -> None:
    """Refused."""


async def nothing_to_take() -> None:
    """Refused."""


async def three(order: Order, context: Context, more: int) -> None:
    """Refused."""


async def only_stars(*orders: Order) -> None:
    """Refused."""


async def also_stars(order: Order, **more: Any) -> None:
    """Refused."""


async def context_by_name_only(order: Order, *, context: Context) -> None:
    """Refused."""


async def imported_for_types_only(order: Decimal) -> None:
    """Refused."""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (not_async, "must be an async function"),
        (nothing_to_take, r"this one takes \(\)"),
        (three, r"this one takes \(order: .*, context: .*, more: .*\)"),
        (only_stars, r"\*orders"),
        (also_stars, r"\*\*more"),
        (context_by_name_only, r"this one takes \(order: .*, context: .*\)"),
        (imported_for_types_only, "Decimal"),
        (42, "must be an async function"),
        (functools.partial(not_async), "must be an async function"),
        (Order, "must be an async function"),
    ],
)
def test_refused_at_import_by_a_config_error(function: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        handler(function)
    assert caught.value.where


def test_lost_is_asked_each_time() -> None:
    answers = iter([False, True])
    context = Context(1, 0, 1, "g", 0, is_lost=lambda: next(answers))
    assert [context.lost, context.lost] == [False, True]
    assert not CONTEXT.lost
