"""``broker-bridge audit --watch``: a line for each round, metrics and health for whoever asks."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import click

from broker_bridge.cli.audit_view import audit_result, verdict_line
from broker_bridge.cli.operator_scope import open_scope, suggester
from broker_bridge.cli.output import to_json
from broker_bridge.core.timestamps import rfc3339
from broker_bridge.errors import BridgeError, UsageError
from broker_bridge.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from broker_bridge.cli.operator_scope import OperatorScope, Suggest
    from broker_bridge.clock import SystemClock
    from broker_bridge.config import BridgeConfig
    from broker_bridge.core.audit_standing import AuditStanding
    from broker_bridge.replay.audit_round import AuditOrder, AuditRound
    from broker_bridge.replay.audit_watch import AuditWatch


class WatchPlan(NamedTuple):
    """How a route is watched. ``window_ms``: how old records may be, None for all."""

    config: BridgeConfig
    config_path: Path
    route_name: str | None
    order: AuditOrder
    every_ms: int
    window_ms: int | None
    listen: str | None


class Lines:
    """A line on stdout for each round; a failed one is an error, on stderr for people."""

    def __init__(self, suggest: Suggest, clock: SystemClock, *, as_json: bool) -> None:
        self._suggest = suggest
        self._clock = clock
        self._as_json = as_json

    def ended(self, found: AuditRound, standing: AuditStanding) -> None:
        """One round, with what is known since."""
        at = rfc3339(self._clock.now_ms())
        if self._as_json:
            result = audit_result(found, suggest=self._suggest)
            click.echo(to_json({"at": at, "standing": standing.standing.value, **result}))
        else:
            click.echo(printable(f"{at} {standing.standing.value}: {verdict_line(found)}"))

    def failed(self, error: BridgeError) -> None:
        """One that could not finish."""
        at = rfc3339(self._clock.now_ms())
        if self._as_json:
            click.echo(to_json({"at": at, "standing": "failed", "error": error.problem()}))
        else:
            click.echo(printable(f"{at} failed: {error}"), err=True)


async def watch(plan: WatchPlan, *, as_json: bool) -> None:
    """Until SIGTERM or Ctrl-C. Logs, and where it listens, go to stderr."""
    from broker_bridge.observability.logging import configure_logging
    from broker_bridge.replay.audit_watch import AuditWatch

    logging = plan.config.logging
    configure_logging(logging.level, logging.format, service=plan.config.bridge.service)
    async with AsyncExitStack() as opened:
        scope = await opened.enter_async_context(open_scope(plan.config, plan.route_name))
        watching = AuditWatch(
            lambda: _round(scope, plan),
            route=scope.route.name,
            every_ms=plan.every_ms,
            clock=scope.clock,
            told=Lines(suggester(plan.config, plan.config_path, scope.route.name), scope.clock, as_json=as_json),
        )
        loop = asyncio.get_running_loop()
        for wanted in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(wanted, watching.stop)
        if plan.listen is not None:
            await _serve(opened, watching, plan.listen)
        await watching.run()


async def _round(scope: OperatorScope, plan: WatchPlan) -> AuditRound:
    from broker_bridge.core.audit import forgotten_after_ms
    from broker_bridge.replay.audit import Auditor
    from broker_bridge.replay.audit_round import audit_round

    order = plan.order
    if plan.window_ms is not None:
        # What is older than claims are kept could only be called forgotten.
        age_ms = min(plan.window_ms, forgotten_after_ms(scope.route.claim_ttl_ms))
        order = replace(order, wanted=order.wanted._replace(since_ms=scope.clock.now_ms() - age_ms))
    auditor = Auditor(reader=scope.reader, store=scope.store, route=scope.route)
    return await audit_round(auditor, scope.reader, scope.route, order)


async def _serve(opened: AsyncExitStack, watching: AuditWatch, listen: str) -> None:
    try:
        site = watching.site(listen)
        await site.start()
    except ValueError as error:
        raise UsageError(f"--listen {error}", remedy='for example: --listen "127.0.0.1:9108"') from error
    except BridgeError as error:
        error.where = f"--listen {listen}"
        raise
    opened.push_async_callback(site.stop)
