"""Exit statuses of the command line, and which error ends with which.

| status | meaning |
|---|---|
| 0 | done; the answer is yes |
| 1 | the answer is no: incompatible schemas, books that do not balance, dead letters where none may be |
| 2 | bad usage or bad input: options, configuration, plan or other file |
| 3 | not running or not found |
| 4 | Kafka, Redis or the schema registry is unavailable, or what was asked could not be finished because of it |
| 5 | refused for safety |
| 6 | a worker ended without a handler that did not end; its record is read again |
| 7 | of several worker processes one kept ending, so all were ended |
| 70 | internal error: a defect of broker_bridge |
| 130 | interrupted (Ctrl-C) |
| 141 | the reader of the output went away |
"""

from __future__ import annotations

import enum
from typing import Final

from broker_bridge import errors


class ExitCode(enum.IntEnum):
    """The statuses by name."""

    OK = 0
    NO = 1
    BAD_INPUT = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    REFUSED = 5
    STUCK = 6
    UNSTEADY = 7
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


BY_ERROR: Final[dict[type[errors.BridgeError], ExitCode]] = {
    errors.BridgeError: ExitCode.INTERNAL,
    errors.ConfigError: ExitCode.BAD_INPUT,
    errors.UnsafeSettingsError: ExitCode.REFUSED,
    errors.UsageError: ExitCode.BAD_INPUT,
    errors.NotFoundError: ExitCode.NOT_FOUND,
    errors.TransportError: ExitCode.UNAVAILABLE,
    errors.TopicMissingError: ExitCode.NOT_FOUND,
    errors.RecordTooLargeError: ExitCode.BAD_INPUT,
    errors.OffsetOutOfRangeError: ExitCode.NOT_FOUND,
    errors.StoreError: ExitCode.UNAVAILABLE,
    errors.DatabaseError: ExitCode.UNAVAILABLE,
    errors.ContractError: ExitCode.BAD_INPUT,
    errors.RegistryError: ExitCode.UNAVAILABLE,
    errors.SchemaUnknownError: ExitCode.NOT_FOUND,
    errors.FolderBusyError: ExitCode.UNAVAILABLE,
    errors.IncompatibleError: ExitCode.NO,
    errors.DeliveryError: ExitCode.NO,
    errors.HandlerStuckError: ExitCode.STUCK,
    errors.ReplayError: ExitCode.UNAVAILABLE,
    errors.WorkerProcessError: ExitCode.UNSTEADY,
    errors.PlanInvalidError: ExitCode.BAD_INPUT,
    errors.PlanRefusedError: ExitCode.REFUSED,
    errors.ExportInvalidError: ExitCode.BAD_INPUT,
    errors.ImportRefusedError: ExitCode.REFUSED,
    errors.OperationUnrecordedError: ExitCode.UNAVAILABLE,
    errors.AuditError: ExitCode.UNAVAILABLE,
    errors.StackError: ExitCode.UNAVAILABLE,
    errors.ToolMissingError: ExitCode.NOT_FOUND,
    errors.PortTakenError: ExitCode.BAD_INPUT,
}
"""A class that is not listed ends like the nearest one above it in the tree."""


def exit_code_of(error: errors.BridgeError) -> ExitCode:
    """The status a command ends with when ``error`` reaches the top."""
    return status_of(type(error))


def status_of(kind: type[errors.BridgeError]) -> ExitCode:
    """The same for every error of this kind."""
    return next(BY_ERROR[one] for one in kind.__mro__ if one in BY_ERROR)
