"""shop.OrderPlaced version 2. Written by `broker-bridge schemas model`: change the schema, not this."""

from __future__ import annotations

from enum import StrEnum

from broker_bridge.contracts.event_model import EventModel
from pydantic import AwareDatetime


class Currency(StrEnum):
    EUR = "EUR"
    USD = "USD"
    GBP = "GBP"
    OTHER = "OTHER"


class OrderLine(EventModel):
    sku: str
    """
    The article's number.
    """
    quantity: int
    """
    Pieces of it.
    """


class OrderPlaced(EventModel):
    """
    A customer placed an order; money is in minor units of the currency.
    """

    order_id: str
    """
    Unique for ever; also the event's ce_id.
    """
    customer_id: str
    """
    The record key: orders of one customer stay in order.
    """
    amount_cents: int
    """
    Sum of the order, in minor units of the currency.
    """
    currency: Currency
    """
    OTHER stands for what this version does not know.
    """
    placed_at: AwareDatetime
    """
    When the customer placed it.
    """
    note: str | None = None
    """
    What the customer wrote.
    """
    lines: list[OrderLine]
    """
    What was ordered, in the customer's order.
    """
    channel: str = "web"
    """
    Where it was placed; added in version 2.
    """
