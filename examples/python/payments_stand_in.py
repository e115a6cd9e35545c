"""A target without any toolchain: takes what a worker POSTs, and answers each order with a payment.

    python examples/python/payments_stand_in.py 9100

It remembers idempotency keys in memory, so a repeated delivery gets the first answer. The real thing, which remembers
them on disk, is the Rust service in ``examples/payments``.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

answers: dict[str, dict[str, Any]] = {}
lock = Lock()


class Payments(BaseHTTPRequestHandler):
    """``POST`` with an order as JSON."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take the money once for each idempotency key."""
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["idempotency-key"]
        with lock:
            if key not in answers:
                answers[key] = payment(order, sequence=len(answers) + 1)
                print(f"captured {order['amount_cents']} for {order['order_id']}", flush=True)
            answer = json.dumps(answers[key]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """One line an effect is enough."""


def payment(order: dict[str, Any], *, sequence: int) -> dict[str, Any]:
    """The answer, by the contract ``shop.PaymentCaptured``."""
    taken = {name: order[name] for name in ("order_id", "customer_id", "amount_cents", "currency")}
    return {**taken, "payment_id": f"p-{sequence}", "sequence": sequence, "captured_at": order["placed_at"]}


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Payments).serve_forever()
