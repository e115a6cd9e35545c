"""An HTTP endpoint of a Go, Rust or any other service as a target.

The body is the decoded value as JSON, the event's attributes are ``ce-*`` headers (CloudEvents HTTP binding, binary
mode), and the idempotency key goes along, so that the service can recognise a repeat. With ``batch`` first tries go
together, as events of one array.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from broker_bridge.clock import Clock
from broker_bridge.config.route import HttpTarget
from broker_bridge.consumer import Context
from broker_bridge.errors import ConfigError, DeliveryError
from broker_bridge.message import Message
from broker_bridge.worker.targets.base import Form
from broker_bridge.worker.targets.http_answer import error_of, value_of
from broker_bridge.worker.targets.http_batch_form import Done
from broker_bridge.worker.targets.http_batches import HttpBatches
from broker_bridge.worker.targets.http_client import HttpClient
from broker_bridge.worker.targets.http_request import SingleForm
from broker_bridge.worker.targets.link_local import is_link_local


class HttpEndpointTarget:
    """POSTs each message to one URL over kept-alive connections."""

    form: Form = "json"
    of_values: None = None

    def __init__(self, config: HttpTarget, *, concurrency: int, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._single = SingleForm(config.headers)
        self._client = HttpClient(
            config.url, headers=self._single.common, connections=concurrency, timeout_ms=config.timeout_ms
        )
        self._batches = HttpBatches(
            self._client, most=config.batch, answer_bytes=config.max_response_bytes, clock=clock
        )

    async def start(self) -> None:
        """Open the connection pool. Raises ``ConfigError`` where the host is not one that may be called."""
        host = urlsplit(self._config.url).hostname or ""
        if self._config.allow_hosts and host not in self._config.allow_hosts:
            raise ConfigError(
                f"host {host} is not in allow_hosts",
                where="[route.target] url",
                remedy="add it to allow_hosts or fix url",
            )
        if is_link_local(host):
            raise ConfigError("link-local addresses are never called", where="[route.target] url")
        self._client.start()

    async def deliver(self, message: Message[Any], context: Context) -> object:
        """2xx answers with JSON or nothing; everything else raises what it means for the message."""
        if self._config.batch > 1 and self._batches.takes(message, context):
            result = await self._batches.add(message, context)
            if isinstance(result, Done):
                return result.value
            if isinstance(result, DeliveryError):
                raise result
        return await self._deliver_alone(message, context)

    async def _deliver_alone(self, message: Message[Any], context: Context) -> object:
        headers, body = self._single.request(message, context)
        answer = await self._client.post(headers, body, limit=self._config.max_response_bytes)
        if 200 <= answer.status < 300:
            return value_of(answer.status, answer.body)
        raise error_of(answer.status, answer.retry_after, answer.body, self._clock.now_ms())

    async def stop(self) -> None:
        """Close the connections."""
        await self._batches.stop()
        await self._client.stop()
