"""Field types of the configuration: how durations, sizes, names, paths and secrets are written and kept.

TOML keys carry no unit: ``lease = "30s"`` is the attribute ``lease_ms``. A limit in bytes keeps its name, since the
same section also has a limit in messages: ``max_in_flight_bytes = "64MiB"``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from broker_bridge.core.duration import parse_duration_ms
from broker_bridge.core.lanes import topic_name_problem
from broker_bridge.core.size import parse_size_bytes

BASE_DIR = "base_dir"
"""Key of the validation context: the folder that relative paths start from (that of the configuration file)."""

_USERINFO = re.compile(r"//[^/?#]*@")
T = TypeVar("T")


class Section(BaseModel):
    """Base of every section: unknown keys refused, types taken at their word, frozen once read.

    In Python, fields are given by their attribute names (``ClaimSection(lease_ms=30_000)``); in TOML, by their keys.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, validate_by_name=True, validate_by_alias=True
    )


def problem(text: str, remedy: str = "") -> PydanticCustomError:
    """A validation error whose text is shown as it is, with what to do about it."""
    return PydanticCustomError("bridge", "{text}", {"text": text, "remedy": remedy})


def _said_by(parse: Callable[[T], int]) -> Callable[[T], int]:
    def validate(written: T) -> int:
        try:
            return parse(written)
        except ValueError as error:
            raise problem(str(error)) from None

    return validate


DurationMs = Annotated[int, BeforeValidator(_said_by(parse_duration_ms))]
"""Milliseconds; written as a duration."""

SizeBytes = Annotated[int, BeforeValidator(_said_by(parse_size_bytes))]
"""Bytes; written as a size."""


def _kafka_name(name: str) -> str:
    wrong = topic_name_problem(name)
    if wrong:
        raise problem(wrong)
    return name


KafkaName = Annotated[str, AfterValidator(_kafka_name)]
"""A topic's name; also groups and routes, since lane names are made of them."""


def _full_path(written: object, info: ValidationInfo) -> object:
    if not isinstance(written, str | Path):
        return written
    if isinstance(written, str) and not written:
        raise problem("must not be empty")
    base = (info.context or {}).get(BASE_DIR)
    path = Path(written).expanduser()
    return Path(base) / path if base is not None else path


ConfigPath = Annotated[Path, BeforeValidator(_full_path)]
"""A path, relative to the folder of the configuration file."""


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise problem(f"no such file: {path}")
    return path


ConfigFile = Annotated[ConfigPath, AfterValidator(_existing)]
"""A file that is there."""


def _host_and_port(written: str) -> str:
    split_address(written)
    return written


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` taken apart. Raises a ``ValueError`` that says what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or (":" in host and not host.startswith("[")):
        raise problem(f"must be host:port, not {address!r}")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise problem(f"has no port between 0 and 65535: {address!r}")
    return host.strip("[]"), int(port)


Address = Annotated[str, AfterValidator(_host_and_port)]
"""``host:port``."""


def _addresses(written: str) -> str:
    for address in written.split(","):
        if split_address(address.strip())[1] == 0:
            raise problem(f"port 0 is nowhere to connect to: {address.strip()!r}")
    return written


Addresses = Annotated[str, AfterValidator(_addresses)]
"""Comma-separated ``host:port``."""


def masked_url(url: str) -> str:
    """The URL with user and password hidden."""
    return _USERINFO.sub("//***@", url)


class SecretUrl(SecretStr):
    """A URL that may carry a password: shown masked, read with ``get_secret_value()``."""

    def _display(self) -> str:
        return masked_url(self.get_secret_value())


def host_of(url: str) -> str:
    """The host of a URL, empty where it has none or cannot be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether the host is this very machine by name or address."""
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
