"""The schema registry's REST API as values: requests, replies, and the error codes clients act on.

Codes and bodies are those of Confluent's registry: ``{"error_code", "message"}``, with the code's first three
digits as HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from broker_bridge.contracts.schema_tree import load_json

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NO_SUCH_CALL: Final = 404
SUBJECT_UNKNOWN: Final = 40401
VERSION_UNKNOWN: Final = 40402
SCHEMA_UNKNOWN: Final = 40403
LEVEL_UNSET: Final = 40408
MODE_UNSET: Final = 40409
METHOD_UNKNOWN: Final = 405
TOO_SLOW: Final = 408
INCOMPATIBLE: Final = 409
TOO_LARGE: Final = 413
MEDIA_TYPE_UNKNOWN: Final = 415
SCHEMA_INVALID: Final = 42201
VERSION_INVALID: Final = 42202
LEVEL_INVALID: Final = 42203
NOT_PERMITTED: Final = 42205
SUBJECT_INVALID: Final = 42208
FOLDER_BROKEN: Final = 50001
FOLDER_BUSY: Final = 50002

LARGEST_VERSION: Final = 2**31 - 1
LONGEST_MESSAGE: Final = 8_000
"""Characters: two schemas may disagree in thousands of places."""
MOST_MESSAGES: Final = 100


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``path`` is its segments, decoded; ``query`` holds the last value of each parameter."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def flag(self, name: str) -> bool:
        """A yes-or-no parameter; Python clients write ``True`` where others write ``true``."""
        return self.query.get(name, "").lower() == "true"

    def fields(self) -> dict[str, Any]:
        """The body as an object. Raises Refused."""
        try:
            found = load_json(self.body.decode())
        except ValueError as error:  # UnicodeDecodeError is one
            refuse(BAD_REQUEST, f"the body is not JSON in UTF-8: {error}")
        if not isinstance(found, dict):
            refuse(BAD_REQUEST, "the body is not a JSON object")
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a JSON value."""

    body: Any
    status: int = 200


class Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """The call's answer is an error. ``code`` is Confluent's, or an HTTP status where it has none."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def reply(self) -> Reply:
        """As it goes to the client."""
        message = self.message if len(self.message) <= LONGEST_MESSAGE else f"{self.message[:LONGEST_MESSAGE]} …"
        return Reply({"error_code": self.code, "message": message}, status=int(str(self.code)[:3]))


def refuse(code: int, message: str) -> NoReturn:
    """Answer the call with an error."""
    raise Refused(code, message)


def version_number(text: str) -> int | None:
    """A version as calls name it, None for the latest one. Raises Refused."""
    if text in ("latest", "-1"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= LARGEST_VERSION):
        refuse(VERSION_INVALID, f"{text!r} is no version: it is a whole number from 1, or latest")
    return int(text)
