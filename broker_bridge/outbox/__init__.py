"""The transactional outbox: events written in the service's own transaction, relayed to Kafka in key order.

::

    outbox = bridge.outbox(source="/shop/orders")

    async with pool.connection() as connection, connection.transaction():
        await connection.execute("INSERT INTO orders …")
        await outbox.add(connection, "orders.placed", order, key=order.customer_id, contract="shop.OrderPlaced")

and, any number of times, ``broker-bridge outbox relay --database postgresql://…``.
"""

from broker_bridge.outbox.outbox import BlockingOutbox, Outbox
from broker_bridge.outbox.relay import OutboxRelay, RelayReport, RelaySettings

__all__ = ["BlockingOutbox", "Outbox", "OutboxRelay", "RelayReport", "RelaySettings"]
