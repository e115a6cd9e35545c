"""Replays, audits and the local stack."""

from __future__ import annotations

from broker_bridge.errors.base import BridgeError


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


class OperationUnrecordedError(BridgeError):
    """An operator's action could not be recorded in the operations topic, so it was not begun, or its end is not
    recorded."""

    code = "operation_unrecorded"
    title = "Action could not be recorded"
    retriable = True
    default_remedy = (
        "an action that leaves no trace does not run: have Kafka take records of this topic, then repeat the command"
    )


class ExportInvalidError(BridgeError):
    """A file of exported dead letters is damaged, cut short, of another version, or was edited after it was made."""

    code = "export_invalid"
    title = "Exported file is not valid"


class ImportRefusedError(BridgeError):
    """The file is sound, but its letters must not be brought into this topic as things are."""

    code = "import_refused"
    title = "Import refused"


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
