"""What aiokafka raises, in the words of ``broker_bridge.errors``: one table, first match wins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as kafka

from broker_bridge.errors import (
    BridgeError,
    LeaseLostError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicMissingError,
    TransportError,
)

_ACCESS = "grant the rights this role needs on the topic and group, or check username and password"

_TABLE: tuple[tuple[tuple[type[BaseException], ...], type[TransportError], str, str], ...] = (
    (
        (
            kafka.CommitFailedError,
            kafka.IllegalGenerationError,
            kafka.UnknownMemberIdError,
            kafka.RebalanceInProgressError,
            kafka.IllegalStateError,
        ),
        LeaseLostError,
        "the group has rebalanced",
        "",
    ),
    ((kafka.OffsetOutOfRangeError,), OffsetOutOfRangeError, "the offset is not in the log", ""),
    (
        (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError, kafka.RecordTooLargeError),
        RecordTooLargeError,
        "the record is larger than the broker or topic accepts",
        "",
    ),
    ((kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError), TopicMissingError, "no such topic", ""),
    (
        (
            kafka.TopicAuthorizationFailedError,
            kafka.GroupAuthorizationFailedError,
            kafka.ClusterAuthorizationFailedError,
            kafka.AuthenticationFailedError,
            kafka.SaslAuthenticationFailed,
        ),
        TransportError,
        "Kafka refused access",
        _ACCESS,
    ),
    ((TimeoutError, kafka.KafkaTimeoutError, kafka.RequestTimedOutError), TransportError, "no answer in time", ""),
    ((Exception,), TransportError, "Kafka failed", ""),
)

HANDLED = (kafka.KafkaError, kafka.IllegalOperation, kafka.ConsumerStoppedError, OSError, AssertionError)
"""What aiokafka raises on purpose; TimeoutError is an OSError. Its assertions guard closed or foreign partitions."""


def mapped(error: BaseException, *, where: str = "") -> TransportError:
    """The bridge's error for what aiokafka raised."""
    for kinds, answer, said, remedy in _TABLE:
        if isinstance(error, kinds):
            text = str(error)
            name = type(error).__name__
            detail = f"{said}: {name}: {text}" if text and name not in text else f"{said}: {text or name}"
            return answer(detail, where=where, remedy=remedy)
    raise error


@contextmanager
def translated(where: str = "") -> Iterator[None]:
    """Whatever aiokafka raises inside comes out as a ``TransportError``; the bridge's own errors pass."""
    try:
        yield
    except BridgeError:
        raise
    except HANDLED as error:
        raise mapped(error, where=where) from error
