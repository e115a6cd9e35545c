"""shop.PaymentCaptured version 1. Written by `broker-bridge schemas model`: change the schema, not this."""

from __future__ import annotations

from broker_bridge.contracts.event_model import EventModel
from pydantic import AwareDatetime


class PaymentCaptured(EventModel):
    """
    The payment service took the money for one order.
    """

    payment_id: str
    """
    Unique for ever; also the event's ce_id.
    """
    order_id: str
    """
    The order that was paid.
    """
    customer_id: str
    """
    The record key, as in shop.OrderPlaced.
    """
    amount_cents: int
    """
    What was taken, in minor units of the currency.
    """
    currency: str
    """
    ISO 4217, or OTHER.
    """
    sequence: int
    """
    Position of this effect in the payment service's own log.
    """
    captured_at: AwareDatetime
    """
    When the money was taken.
    """
