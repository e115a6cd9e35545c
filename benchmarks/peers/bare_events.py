"""An event as one writes it by hand: fastavro, and the headers of the CloudEvents binding."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from benchmarks.job import ORDER, Job
from benchmarks.peers.avro import encode_order
from benchmarks.peers.producing import SOURCE


def arguments_of(job: Job, order: dict[str, Any]) -> dict[str, Any]:
    """What ``AIOKafkaProducer.send`` takes."""
    key = order["customer_id"].encode()
    return {
        "topic": job.results,
        "value": encode_order(order),
        "key": key,
        "headers": [
            ("ce_specversion", b"1.0"),
            ("ce_id", order["order_id"].encode()),
            ("ce_source", SOURCE.encode()),
            ("ce_type", ORDER.encode()),
            ("ce_time", datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()),
            ("ce_subject", key),
            ("content-type", b"application/avro"),
        ],
    }
