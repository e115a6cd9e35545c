"""Closing a consumer whose goodbye fails: its connections are closed all the same."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

from broker_bridge.errors import TransportError
from broker_bridge.message import TopicPartition
from broker_bridge.testing import run_virtual
from broker_bridge.transport.kafka_consumer import KafkaConsumer
from broker_bridge.transport.kafka_settings import KafkaSettings


class Client(AIOKafkaClient):
    """Notes that it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True
        await super().close()


class Consumer(AIOKafkaConsumer):
    """Says goodbye in vain."""

    def __init__(self, failure: BaseException | None) -> None:
        super().__init__(bootstrap_servers="127.0.0.1:1")
        self._client = Client(bootstrap_servers="127.0.0.1:1")
        self._failure = failure

    async def stop(self) -> None:
        if self._failure is not None:
            raise self._failure
        await asyncio.sleep(3_600)


@pytest.mark.parametrize("failure", [KafkaConnectionError("gone"), ConnectionResetError(), None])
def test_connections_are_closed_whatever_the_goodbye_does(failure: BaseException | None) -> None:
    async def scenario() -> bool:
        consumer = Consumer(failure)
        await KafkaConsumer._close(consumer)
        consumer._closed = True  # or its __del__ complains
        return consumer._client.closed

    assert run_virtual(scenario())


@pytest.mark.parametrize("stops", [True, False])
def test_what_is_assigned_in_the_middle_of_a_stop_is_no_failure(stops: bool) -> None:
    """The group may give partitions to a member that is about to leave; to one that never started it is a mistake."""

    async def scenario() -> None:
        settings = KafkaSettings(bootstrap="127.0.0.1:1")
        consumer = KafkaConsumer(settings, group="g", topics=["t"], on_assigned=None, on_revoked=None, member=None)
        consumer._stopping = stops
        await consumer._place(frozenset({TopicPartition("t", 0)}))

    with nullcontext() if stops else pytest.raises(TransportError):
        run_virtual(scenario())
