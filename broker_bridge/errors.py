"""The failure vocabulary: one tree of errors, one list of codes.

A code is stable and appears in logs, dead-letter headers, CLI output (``--json``), HTTP problem details and metrics.
Whether trying again can help is data on the error (``retriable``), never a guess from its class name.

::

    BridgeError
    ├── ConfigError               config_invalid
    │   └── UnsafeSettingsError   unsafe_settings
    ├── UsageError                usage
    ├── NotFoundError             not_found
    ├── TransportError            kafka_unavailable          (retriable)
    │   ├── TopicMissingError     topic_missing
    │   ├── RecordTooLargeError   record_too_large
    │   ├── DeliveryTimeoutError  delivery_timeout           (retriable)
    │   ├── LeaseLostError        lease_lost                 the partition now belongs to another worker
    │   └── OffsetOutOfRangeError offset_out_of_range
    ├── StoreError                redis_unavailable          (retriable)
    │   └── ClaimUnreadableError  claim_unreadable           what is stored under the key is not a claim we can read
    ├── DatabaseError             database_unavailable       (retriable) the SQL database of an outbox
    ├── ContractError             contract_invalid
    │   ├── SchemaUnknownError    schema_unknown             the schema id or subject is nowhere
    │   ├── MalformedError        avro_malformed             the bytes are not what the schema says
    │   ├── ValueInvalidError     value_invalid              the value does not fit the schema (on encode)
    │   ├── IncompatibleError     schema_incompatible        writer and reader schemas do not resolve
    │   └── HeadersInvalidError   headers_invalid
    ├── DeliveryError             what came of handing a message to its target
    │   ├── RejectedError         target_rejected            final: the target says no for a business reason
    │   ├── HandlerError          handler_failed             (retriable) the handler raised
    │   ├── RetryLaterError       target_busy                (retriable, spends no attempt)
    │   ├── TargetTimeoutError    target_timeout             (retriable, may be an outage)
    │   ├── TargetUnavailableError target_unavailable        (retriable, may be an outage)
    │   ├── KeyConflictError      key_conflict               same idempotency key, other payload
    │   ├── CrashSuspectError     crash_suspect              workers died while holding this message
    │   ├── OutputInvalidError    output_invalid             the target's answer does not fit the output contract
    │   └── FencedError           fenced                     (retriable) a later claim has written under this key
    ├── ReplayError               replay_failed
    │   ├── PlanInvalidError      plan_invalid
    │   └── PlanRefusedError      plan_refused
    ├── AuditError                audit_failed
    └── StackError                stack_failed
        ├── ToolMissingError      tool_missing
        └── PortTakenError        port_taken
"""

from __future__ import annotations

from typing import ClassVar


class BridgeError(Exception):
    """Root of every error that broker_bridge raises on purpose.

    ``detail`` says what happened and why, ``remedy`` what to do next, ``where`` names the place (file and key, topic
    and partition, host and port). ``retriable`` is true when the same call may succeed later without anyone changing
    anything.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "broker_bridge failed"
    retriable: ClassVar[bool] = False
    default_remedy: ClassVar[str] = ""

    def __init__(self, detail: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy or self.default_remedy
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.detail}" if self.where else self.detail
        return f"{text} ({self.remedy})" if self.remedy else text

    def problem(self) -> dict[str, object]:
        """This error as problem details (RFC 9457), without ``status``: the place that answers HTTP knows that."""
        fields: dict[str, object] = {
            "type": f"urn:broker-bridge:error:{self.code}",
            "title": self.title,
            "code": self.code,
            "detail": self.detail,
            "retriable": self.retriable,
        }
        if self.where:
            fields["instance"] = self.where
        if self.remedy:
            fields["remedy"] = self.remedy
        return fields


class ConfigError(BridgeError):
    """A setting is missing, of the wrong type, unknown, or contradicts another."""

    code = "config_invalid"
    title = "Configuration is not valid"


class UnsafeSettingsError(ConfigError):
    """A setting would break the guarantee (invariant I26) and was not overridden by name."""

    code = "unsafe_settings"
    title = "Settings would lose or repeat work"


class UsageError(BridgeError):
    """A command line or an API call does not make sense as given."""

    code = "usage"
    title = "The call is not valid"


class NotFoundError(BridgeError):
    """The named file, route, topic, record or job does not exist."""

    code = "not_found"
    title = "No such thing"


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
    """The value under a claim's key is of another type, another layout version, or damaged; it was left as it is."""

    code = "claim_unreadable"
    title = "Stored claim cannot be read"
    retriable = False
    default_remedy = (
        "run a release that reads this layout; or, if the key belongs to something else, delete it or change the prefix"
    )


class DatabaseError(BridgeError):
    """The SQL database of an outbox could not be reached or refused a statement."""

    code = "database_unavailable"
    title = "Database does not answer"
    retriable = True


class ContractError(BridgeError):
    """Something about a schema or about bytes that claim to follow one."""

    code = "contract_invalid"
    title = "Contract is broken"


class SchemaUnknownError(ContractError):
    """No schema has this id, subject or version."""

    code = "schema_unknown"
    title = "Schema is not known"
    default_remedy = "register the schema, or check which producer writes this id"


class MalformedError(ContractError):
    """The bytes do not decode under the schema they name."""

    code = "avro_malformed"
    title = "Bytes are not valid Avro"


class ValueInvalidError(ContractError):
    """The value does not fit the schema; nothing was written."""

    code = "value_invalid"
    title = "Value does not fit the schema"


class IncompatibleError(ContractError):
    """The writer's schema cannot be resolved to the reader's."""

    code = "schema_incompatible"
    title = "Schemas do not resolve"


class HeadersInvalidError(ContractError):
    """A header is missing, malformed or reserved."""

    code = "headers_invalid"
    title = "Headers are not valid"


class DeliveryError(BridgeError):
    """Handing a message to its target did not end well.

    ``outage`` marks failures that many keys share when the target itself is the cause; ``spends_attempt`` is false
    where the message was never really tried. ``target_code`` is the target's own word for it and goes into the
    fingerprint.
    """

    code = "delivery_failed"
    title = "Message was not handled"
    outage: ClassVar[bool] = False
    spends_attempt: ClassVar[bool] = True

    def __init__(
        self,
        detail: str,
        *,
        remedy: str = "",
        where: str = "",
        target_code: str = "",
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(detail, remedy=remedy, where=where)
        self.target_code = target_code
        self.retry_after_ms = retry_after_ms


class RejectedError(DeliveryError):
    """The target refuses this message for good; a handler raises it to dead-letter at once."""

    code = "target_rejected"
    title = "Target refused the message"


class HandlerError(DeliveryError):
    """The handler raised something else; it is tried again within its bounds."""

    code = "handler_failed"
    title = "Handler failed"
    retriable = True


class RetryLaterError(DeliveryError):
    """The target asks to come back later; no attempt is spent. A handler may raise it."""

    code = "target_busy"
    title = "Target is busy"
    retriable = True
    spends_attempt = False


class TargetTimeoutError(DeliveryError):
    """No answer before the deadline: the effect may or may not have happened."""

    code = "target_timeout"
    title = "Target did not answer in time"
    retriable = True
    outage = True


class TargetUnavailableError(DeliveryError):
    """The target refused the connection, broke it off, or answered 5xx."""

    code = "target_unavailable"
    title = "Target is not available"
    retriable = True
    outage = True


class KeyConflictError(DeliveryError):
    """Another payload was already seen under the same idempotency key (invariant I16)."""

    code = "key_conflict"
    title = "Idempotency key was used for another payload"


class CrashSuspectError(DeliveryError):
    """Several workers died while holding this message; it is set aside before it kills the next one."""

    code = "crash_suspect"
    title = "Message seems to kill its worker"


class OutputInvalidError(DeliveryError):
    """The effect happened, but the target's answer cannot be published under the output contract."""

    code = "output_invalid"
    title = "Answer does not fit the output contract"


class FencedError(DeliveryError):
    """A holder with a larger fencing token has written under this key already; this one must not."""

    code = "fenced"
    title = "A later holder has written already"
    retriable = True


class ReplayError(BridgeError):
    """A replay could not go on; what was sent so far is in the redrive lane and a second run resumes there."""

    code = "replay_failed"
    title = "Replay stopped"


class PlanInvalidError(ReplayError):
    """The plan file is damaged, cut short, of another version, or was edited after it was made."""

    code = "plan_invalid"
    title = "Replay plan is not valid"


class PlanRefusedError(ReplayError):
    """The plan is sound but must not run as things are: gone topic, truncated records, hop limit, foreign
    destination."""

    code = "plan_refused"
    title = "Replay refused"


class AuditError(BridgeError):
    """The books could not be read whole, so nothing is claimed about them."""

    code = "audit_failed"
    title = "Audit could not finish"


class StackError(BridgeError):
    """The local Kafka or Redis did not start, stop or answer."""

    code = "stack_failed"
    title = "Local stack failed"


class ToolMissingError(StackError):
    """A program that the local stack needs is not installed."""

    code = "tool_missing"
    title = "A needed program is missing"


class PortTakenError(StackError):
    """Another program listens on the port that was asked for."""

    code = "port_taken"
    title = "Port is taken"


def error_codes() -> dict[str, type[BridgeError]]:
    """Every code with the class that carries it, the root's ``internal`` included."""
    found: dict[str, type[BridgeError]] = {}
    pending: list[type[BridgeError]] = [BridgeError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found
