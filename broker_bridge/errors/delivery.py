"""What came of handing a message to its target."""

from __future__ import annotations

from typing import ClassVar

from broker_bridge.errors.base import BridgeError


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


class TargetUnreachableError(TargetUnavailableError):
    """The call never reached the target: the connection was refused, or nobody answered it, or the name is unknown. No
    message can cause that, so none ever dies of it, and each counts as a key of its own. A handler may raise it."""

    code = "target_unreachable"
    title = "Target cannot be reached"
    spends_attempt = False


class KeyConflictError(DeliveryError):
    """Another payload was already seen under the same idempotency key (invariant I16)."""

    code = "key_conflict"
    title = "Idempotency key was used for another payload"


class CrashSuspectError(DeliveryError):
    """Several workers died while holding this message; it is set aside before it kills the next one."""

    code = "crash_suspect"
    title = "Message seems to kill its worker"


class DeadlinePassedError(DeliveryError):
    """The message's own deadline (header ``deadline``) was over before an attempt began; it was not handed over."""

    code = "deadline_passed"
    title = "Message came too late"


class OutputInvalidError(DeliveryError):
    """The effect happened, but the target's answer cannot be published under the output contract."""

    code = "output_invalid"
    title = "Answer does not fit the output contract"


class FencedError(DeliveryError):
    """A holder with a larger fencing token has written under this key already; this one must not."""

    code = "fenced"
    title = "A later holder has written already"
    retriable = True


class HandlerStuckError(BridgeError):
    """A handler went on after the drain and after it was cancelled, so the worker ends without it. Its claim is left to
    run out and its record is read again: whether it had its effect is not known."""

    code = "handler_stuck"
    title = "Handler did not end"
    default_remedy = "let CancelledError pass through the handler, and stop where context.lost or the deadline says so"


class WorkerProcessError(BridgeError):
    """One of several worker processes that one command runs kept ending early, so all were ended. Nothing is lost:
    what was in hand is handed out again."""

    code = "worker_process_failed"
    title = "Worker processes keep ending"
    default_remedy = (
        "see its log lines (process=N): SIGKILL is mostly the machine short of memory, SIGSEGV a native library"
    )
