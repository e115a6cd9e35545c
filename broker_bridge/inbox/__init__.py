"""The inbox: exactly one effect in the handler's own database, whatever is lost, repeated or run twice at once.

::

    inbox = Inbox(consumer="billing")

    @bridge.route("orders.placed", group="billing", contract="shop.OrderPlaced")
    async def bill(message: Message[Order], context: Context) -> None:
        async with pool.connection() as connection, connection.transaction():
            if await inbox.first_time(connection, message, context):
                await connection.execute("INSERT INTO invoices …")
"""

from broker_bridge.inbox.inbox import BlockingInbox, Inbox

__all__ = ["BlockingInbox", "Inbox"]
