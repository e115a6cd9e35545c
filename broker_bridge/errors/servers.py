"""Kafka, Redis, a schema registry or a database does not answer, or not as it should."""

from __future__ import annotations

from concurrent.futures import Future

from broker_bridge.errors.base import BridgeError


class TransportError(BridgeError):
    """Kafka could not be reached or answered with an error that may pass."""

    code = "kafka_unavailable"
    title = "Kafka does not answer"
    retriable = True
    default_remedy = "check that the brokers run and that [kafka] bootstrap names them"


class TopicMissingError(TransportError):
    """A topic that is read or written does not exist; topics are never created by accident."""

    code = "topic_missing"
    title = "Topic does not exist"
    retriable = False
    default_remedy = "create it with an explicit partition count, or run: broker-bridge worker topics --create"


class RecordTooLargeError(TransportError):
    """The record is larger than the producer, broker or topic accepts."""

    code = "record_too_large"
    title = "Record is too large"
    retriable = False


class DeliveryTimeoutError(TransportError):
    """No acknowledgement before the delivery deadline: the record may or may not be in the log."""

    code = "delivery_timeout"
    title = "Kafka did not acknowledge in time"


class LeaseLostError(TransportError):
    """The group gave the partition to another worker; whatever is still in hand here must not be committed."""

    code = "lease_lost"
    title = "Partition belongs to another worker"
    retriable = False


class OffsetOutOfRangeError(TransportError):
    """The offset asked for is not in the log: retention removed it, or the topic was made anew."""

    code = "offset_out_of_range"
    title = "Offset is not in the log"
    retriable = False


class StoreError(BridgeError):
    """Redis could not be reached or refused the write."""

    code = "redis_unavailable"
    title = "Redis does not answer"
    retriable = True
    default_remedy = "check that Redis runs, that [redis] url names it, and that maxmemory-policy is noeviction"


class ClaimUnreadableError(StoreError):
    """The value under a claim's key is of another type, another layout version, or damaged; it was left as it is.
    ``claim_key`` is the key of that claim, where it is one of those asked for."""

    code = "claim_unreadable"
    title = "Stored claim cannot be read"
    retriable = False
    default_remedy = (
        "run a release that reads this layout; or, if the key belongs to something else, delete it or change the prefix"
    )

    def __init__(self, detail: str, *, remedy: str = "", where: str = "", claim_key: bytes = b"") -> None:
        super().__init__(detail, remedy=remedy, where=where)
        self.claim_key = claim_key


class RegistryError(BridgeError):
    """The schema registry could not be reached, or failed. No message can cause that or any of its kinds, so none ever
    dies of them."""

    code = "registry_unavailable"
    title = "Schema registry does not answer"
    retriable = True
    default_remedy = "check that the registry runs and that [registry] url names it"


class RegistryRefusedError(RegistryError):
    """The registry takes neither credentials nor certificate, or what answers at its URL is no registry."""

    code = "registry_refused"
    title = "Schema registry refuses the call"
    retriable = False
    default_remedy = "check url, credentials and certificates under [registry]"


class SchemaPendingError(RegistryError):
    """The schema is being fetched; ``fetched`` is done when that has ended, whichever way."""

    code = "schema_pending"
    title = "Schema is being fetched"
    default_remedy = "try again when it is there"

    def __init__(self, detail: str, *, fetched: Future[None], remedy: str = "", where: str = "") -> None:
        super().__init__(detail, remedy=remedy, where=where)
        self.fetched = fetched


class DatabaseError(BridgeError):
    """The SQL database of an outbox could not be reached or refused a statement."""

    code = "database_unavailable"
    title = "Database does not answer"
    retriable = True
