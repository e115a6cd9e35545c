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
    ├── RegistryError             registry_unavailable       (retriable) the schema registry
    │   ├── RegistryRefusedError  registry_refused           it refuses us, or is no registry
    │   └── SchemaPendingError    schema_pending             (retriable) a schema is being fetched
    ├── DatabaseError             database_unavailable       (retriable) the SQL database of an outbox
    ├── ContractError             contract_invalid
    │   ├── SchemaUnknownError    schema_unknown             the schema id or subject is nowhere
    │   ├── FolderBusyError       schemas_busy               (retriable) another process holds the folder
    │   ├── MalformedError        avro_malformed             the bytes are not what the schema says
    │   ├── ValueInvalidError     value_invalid              the value does not fit the schema (on encode)
    │   ├── IncompatibleError     schema_incompatible        writer and reader schemas do not resolve
    │   ├── UpcastError           upcast_failed              a user's upcaster raised or made an invalid value
    │   └── HeadersInvalidError   headers_invalid
    ├── DeliveryError             what came of handing a message to its target
    │   ├── RejectedError         target_rejected            final: the target says no for a business reason
    │   ├── HandlerError          handler_failed             (retriable) the handler raised
    │   ├── RetryLaterError       target_busy                (retriable, spends no attempt)
    │   ├── TargetTimeoutError    target_timeout             (retriable, may be an outage)
    │   ├── TargetUnavailableError target_unavailable        (retriable, may be an outage)
    │   │   └── TargetUnreachableError target_unreachable    (retriable, spends no attempt) no message can cause it
    │   ├── KeyConflictError      key_conflict               same idempotency key, other payload
    │   ├── CrashSuspectError     crash_suspect              workers died while holding this message
    │   ├── DeadlinePassedError   deadline_passed            its own deadline was over before it began
    │   ├── OutputInvalidError    output_invalid             the target's answer does not fit the output contract
    │   └── FencedError           fenced                     (retriable) a later claim has written under this key
    ├── HandlerStuckError         handler_stuck              a worker had to end without its handler
    ├── WorkerProcessError        worker_process_failed      one of several worker processes kept ending
    ├── ReplayError               replay_failed
    │   ├── PlanInvalidError      plan_invalid
    │   └── PlanRefusedError      plan_refused
    ├── ExportInvalidError        export_invalid
    ├── ImportRefusedError        import_refused
    ├── OperationUnrecordedError  operation_unrecorded       (retriable) an operator's action must leave a trace
    ├── AuditError                audit_failed
    └── StackError                stack_failed
        ├── ToolMissingError      tool_missing
        └── PortTakenError        port_taken
"""

from __future__ import annotations

from broker_bridge.errors.base import (
    BridgeError,
    ConfigError,
    NotFoundError,
    UnsafeSettingsError,
    UsageError,
)
from broker_bridge.errors.contract import (
    ContractError,
    FolderBusyError,
    HeadersInvalidError,
    IncompatibleError,
    MalformedError,
    SchemaUnknownError,
    UpcastError,
    ValueInvalidError,
)
from broker_bridge.errors.delivery import (
    CrashSuspectError,
    DeadlinePassedError,
    DeliveryError,
    FencedError,
    HandlerError,
    HandlerStuckError,
    KeyConflictError,
    OutputInvalidError,
    RejectedError,
    RetryLaterError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnreachableError,
    WorkerProcessError,
)
from broker_bridge.errors.operations import (
    AuditError,
    ExportInvalidError,
    ImportRefusedError,
    OperationUnrecordedError,
    PlanInvalidError,
    PlanRefusedError,
    PortTakenError,
    ReplayError,
    StackError,
    ToolMissingError,
)
from broker_bridge.errors.servers import (
    ClaimUnreadableError,
    DatabaseError,
    DeliveryTimeoutError,
    LeaseLostError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    RegistryError,
    RegistryRefusedError,
    SchemaPendingError,
    StoreError,
    TopicMissingError,
    TransportError,
)

__all__ = [
    "AuditError",
    "BridgeError",
    "ClaimUnreadableError",
    "ConfigError",
    "ContractError",
    "CrashSuspectError",
    "DatabaseError",
    "DeadlinePassedError",
    "DeliveryError",
    "DeliveryTimeoutError",
    "ExportInvalidError",
    "FencedError",
    "FolderBusyError",
    "HandlerError",
    "HandlerStuckError",
    "HeadersInvalidError",
    "ImportRefusedError",
    "IncompatibleError",
    "KeyConflictError",
    "LeaseLostError",
    "MalformedError",
    "NotFoundError",
    "OffsetOutOfRangeError",
    "OperationUnrecordedError",
    "OutputInvalidError",
    "PlanInvalidError",
    "PlanRefusedError",
    "PortTakenError",
    "RecordTooLargeError",
    "RegistryError",
    "RegistryRefusedError",
    "RejectedError",
    "ReplayError",
    "RetryLaterError",
    "SchemaPendingError",
    "SchemaUnknownError",
    "StackError",
    "StoreError",
    "TargetTimeoutError",
    "TargetUnavailableError",
    "TargetUnreachableError",
    "ToolMissingError",
    "TopicMissingError",
    "TransportError",
    "UnsafeSettingsError",
    "UpcastError",
    "UsageError",
    "ValueInvalidError",
    "WorkerProcessError",
    "error_codes",
]


def error_codes() -> dict[str, type[BridgeError]]:
    """Every code with the class that carries it, the root's ``internal`` included."""
    found: dict[str, type[BridgeError]] = {}
    pending: list[type[BridgeError]] = [BridgeError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found
