"""The root of every error, and mistakes of whoever calls."""

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
