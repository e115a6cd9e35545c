"""Gathers deliveries that begin in one turn of the event loop into one POST.

```
turn     slot 1  deliver ─┐
         slot 2  deliver ─┼─▶ one POST ─▶ a result each ─┬─▶ done, refused, later … as if it had been alone
         slot 3  deliver ─┘                              └─▶ the batch as such was refused: each alone, at once
```

Nobody waits for others to come: slots that were answered together take their next messages together, so batches stay
full where there is a backlog and are small where there is none. Of one key there is never more than one message in
hand, so a batch cannot break its order.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

from broker_bridge.clock import Clock
from broker_bridge.consumer import Context
from broker_bridge.errors import DeliveryError, OutputInvalidError, RejectedError, TargetUnavailableError
from broker_bridge.message import Message
from broker_bridge.worker.targets.http_answer import error_of
from broker_bridge.worker.targets.http_batch_form import CONTENT_TYPE, Done, batch_event, no_result, results_in
from broker_bridge.worker.targets.http_client import HttpClient
from broker_bridge.worker.targets.http_connection import HttpAnswer

_BATCH_BYTES = 1 << 20
"""A batch takes no further message beyond this size."""
_MOST_REMEMBERED = 10_000


class Alone(NamedTuple):
    """The message is to be sent by itself."""


Result = Done | Alone | DeliveryError
ALONE = Alone()


class _Waiting(NamedTuple):
    event: bytes
    result: asyncio.Future[Result]


class HttpBatches:
    """At most ``most`` messages a request; ``answer_bytes`` are allowed for the answer to each."""

    def __init__(self, client: HttpClient, *, most: int, answer_bytes: int, clock: Clock) -> None:
        self._client = client
        self._most = most
        self._answer_bytes = answer_bytes
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._size = 0
        self._turn: asyncio.Handle | None = None
        self._posts: set[asyncio.Task[None]] = set()
        self._untried: dict[str, None] = {}

    def takes(self, message: Message[Any], context: Context) -> bool:
        """Whether the message may go with others: only what was never tried may. One that ends its target, or makes it
        late, takes the others along once and fails alone from then on. Who was put off with its whole batch was not
        tried: a target that is busy must not be sent single requests instead."""
        if context.crashes or message.replay_id is not None:
            return False
        if message.idempotency_key in self._untried:
            del self._untried[message.idempotency_key]
            return True
        return context.attempt == 1

    def add(self, message: Message[Any], context: Context) -> asyncio.Future[Result]:
        """Put a message into the batch of this turn. The future never raises."""
        event, loop = batch_event(message, context), asyncio.get_running_loop()
        if message.idempotency_key in self._waiting or self._size + len(event) > _BATCH_BYTES:
            self._send()
        result: asyncio.Future[Result] = loop.create_future()
        self._waiting[message.idempotency_key] = _Waiting(event, result)
        self._size += len(event)
        if len(self._waiting) == self._most:
            self._send()
        elif self._turn is None:
            self._turn = loop.call_soon(self._end_turn)
        return result

    async def stop(self) -> None:
        """Break off what is under way."""
        for post in self._posts:
            post.cancel()
        if self._posts:
            await asyncio.wait(self._posts)

    def _end_turn(self) -> None:
        self._turn = None
        self._send()

    def _send(self) -> None:
        batch, self._waiting, self._size = self._waiting, {}, 0
        if len(batch) > 1:
            post = asyncio.create_task(self._post(batch))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)
        else:
            _tell_all(batch.values(), ALONE)

    async def _post(self, batch: dict[str, _Waiting]) -> None:
        body = b"[" + b",".join([waiting.event for waiting in batch.values()]) + b"]"
        try:
            answer = await self._client.post(CONTENT_TYPE, body, limit=self._answer_bytes * len(batch))
            self._tell(batch, answer)
        except OutputInvalidError:
            _tell_all(batch.values(), ALONE)  # too long; alone, only the message whose answer it is fails for that
        except DeliveryError as error:
            self._refuse(batch, error)
        finally:
            _tell_all(batch.values(), TargetUnavailableError("the batch was broken off", target_code="connection"))

    def _tell(self, batch: dict[str, _Waiting], answer: HttpAnswer) -> None:
        now_ms = self._clock.now_ms()
        if not 200 <= answer.status < 300:
            self._refuse(batch, error_of(answer.status, answer.retry_after, answer.body, now_ms))
        elif answer.status == 204 or not answer.body:
            _tell_all(batch.values(), Done(None))
        elif (results := results_in(answer.body, now_ms)) is None:
            _tell_all(batch.values(), ALONE)  # whoever answers so does not know of batches
        else:
            for key, waiting in batch.items():
                _tell_all([waiting], results.get(key) or no_result())

    def _refuse(self, batch: dict[str, _Waiting], error: DeliveryError) -> None:
        """What the target said to all of them. Of a final refusal one of them may be the cause: none may die of what
        another is."""
        if isinstance(error, RejectedError):
            _tell_all(batch.values(), ALONE)
            return
        if not error.spends_attempt:
            self._untried.update(dict.fromkeys(batch))
            while len(self._untried) > _MOST_REMEMBERED:
                del self._untried[next(iter(self._untried))]
        _tell_all(batch.values(), error)


def _tell_all(batch: Iterable[_Waiting], result: Result) -> None:
    """Each gets an error of its own: raised, it keeps the traceback of who raised it."""
    for waiting in batch:
        if not waiting.result.done():
            waiting.result.set_result(copy.copy(result) if isinstance(result, DeliveryError) else result)
