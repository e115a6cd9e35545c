"""The payment service played in Python, for machines without Rust: ``payments.py serve --listen … --log …``.

Same requests, answers, log and ``/control`` switches as ``examples/payments``: an effect once per idempotency key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

if __name__ == "__main__":  # started by its path, not as a part of the package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from demo.stand_ins.effect_ledger import Delivery, Ledger

STATUS = {"stale_token": 409, "card_declined": 422, "key_conflict": 422, "overloaded": 503, "request_invalid": 400}


class Payments:
    """The HTTP surface and its fault switches."""

    def __init__(self, ledger: Ledger, *, accept_declined: bool, seed: int) -> None:
        self.ledger = ledger
        self.switches: dict[str, Any] = {"latency_ms": 0, "error_rate": 0.0, "accept_declined": accept_declined}
        self._draw = random.Random(seed)

    async def take(self, request: web.Request) -> web.Response:
        """``POST /payments``. Of the errors that were asked for half come before the effect, half after it."""
        try:
            delivery, order = delivery_of(request), json.loads(await request.read())
            fields = {name: order[name] for name in ("order_id", "customer_id", "amount_cents", "currency", "note")}
        except (KeyError, ValueError) as error:
            return problem("request_invalid", f"missing or wrong: {error}")
        half_s = self.switches["latency_ms"] / 2_000
        fails = self._draw.random() < self.switches["error_rate"]
        before = fails and self._draw.random() < 0.5
        await asyncio.sleep(half_s)
        if before:
            return problem("overloaded", "send the same request again")
        kind, answer = self.ledger.deliver(delivery, fields, accept_declined=self.switches["accept_declined"])
        await asyncio.sleep(half_s)
        if fails:
            return problem("overloaded", "send the same request again")
        return web.json_response(answer) if isinstance(answer, dict) else problem(answer, f"{kind}: {delivery.key}")

    async def control(self, request: web.Request) -> web.Response:
        """``GET|POST /control``: see or set the switches."""
        change = json.loads(await request.read()) if request.method == "POST" else {}
        if unknown := change.keys() - self.switches.keys():
            return problem("request_invalid", f"unknown: {', '.join(sorted(unknown))}")
        self.switches |= change
        return web.json_response(self.switches)

    async def health(self, _: web.Request) -> web.Response:
        """``GET /health``."""
        return web.json_response({"status": "ok", "applied": self.ledger.applied})


def delivery_of(request: web.Request) -> Delivery:
    """The headers. Raises ``KeyError`` or ``ValueError`` where one is missing or wrong."""
    found = request.headers
    return Delivery(
        key=found["idempotency-key"],
        ce_id=unquote(found["ce-id"]),
        attempt=int(found["bridge-attempt"]),
        crashes=int(found["bridge-crashes"]),
        token=int(found["bridge-token"]),
        replay_id=found.get("bridge-replay-id"),
        origin=found["bridge-origin"],
    )


def problem(code: str, detail: str) -> web.Response:
    """An error as problem details (RFC 9457)."""
    status = STATUS[code]
    body = {"type": f"urn:shop:payments:error:{code}", "title": code, "status": status, "detail": detail, "code": code}
    return web.Response(text=json.dumps(body), status=status, content_type="application/problem+json")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of ``payments serve``."""
    parser = argparse.ArgumentParser(prog="payments")
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve")
    serve.add_argument("--listen", required=True)
    serve.add_argument("--log", type=Path, required=True)
    serve.add_argument("--accept-declined", action="store_true")
    serve.add_argument("--fault-seed", type=int, default=1)
    return parser.parse_args(arguments)


def application(payments: Payments) -> web.Application:
    """The routes."""
    app = web.Application(client_max_size=64 * 1024)
    app.router.add_post("/payments", payments.take)
    app.router.add_get("/control", payments.control)
    app.router.add_post("/control", payments.control)
    app.router.add_get("/health", payments.health)
    return app


def main() -> int:
    """Serve until SIGTERM or Ctrl-C."""
    given = options()
    host, _, port = given.listen.rpartition(":")
    payments = Payments(Ledger(given.log), accept_declined=given.accept_declined, seed=given.fault_seed)
    web.run_app(application(payments), host=host, port=int(port), access_log=None, print=None, shutdown_timeout=5.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
