"""Where a target's own list of what it did is: a file, an HTTP endpoint or a topic of results."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from broker_bridge.core.reconcile import TargetLine
from broker_bridge.errors import UsageError
from broker_bridge.replay.target_log import read_target_log
from broker_bridge.replay.target_topic import read_target_topic
from broker_bridge.transport.base import LogReader


@dataclass(frozen=True, slots=True)
class TargetList:
    """Exactly one of ``path``, ``url`` and ``topic``. ``authorization`` goes with the URL, ``id_header`` with the
    topic: the header of a result that names what it is the result of."""

    path: Path | None = None
    url: str | None = None
    topic: str | None = None
    authorization: SecretStr | None = None
    id_header: str | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.path, self.url, self.topic)) != 1:
            raise UsageError(
                "a target has one list", remedy="give one of --target-log, --target-url and --target-topic"
            )
        if self.authorization is not None and self.url is None:
            raise UsageError("--target-authorization goes with --target-url")
        if self.id_header is not None and self.topic is None:
            raise UsageError("--target-id-header goes with --target-topic")
        if self.url is not None:
            from broker_bridge.replay.target_endpoint import checked_url

            checked_url(self.url)

    @property
    def tells_order(self) -> bool:
        """Whether its lines come in the order in which the target acted. Results in a topic do not."""
        return self.topic is None

    async def read(self, reader: LogReader) -> AsyncGenerator[TargetLine | None, None]:
        """Every line; None for one that names no message. Raises ``UsageError``, ``NotFoundError``, ``AuditError`` or
        ``TransportError``."""
        if self.path is not None:
            for line in read_target_log(self.path):
                yield line
        elif self.topic is not None:
            async for result in read_target_topic(reader, self.topic, id_header=self.id_header):
                yield result
        elif self.url is not None:
            from broker_bridge.replay.target_endpoint import checked_url, read_target_endpoint

            secret = self.authorization.get_secret_value() if self.authorization else None
            async for told in read_target_endpoint(checked_url(self.url), authorization=secret):
                yield told
