"""Decoding and encoding with all guards beside bare fastavro, which has none, in one process and in turns.

::

    python benchmarks/codec.py
    python benchmarks/codec.py --rounds 5 --json

Values are the golden vectors, and an order of a thousand lines. Ours is all that a worker calls for a value: wire form,
schema, limits, checks, result. fastavro's is its reader or writer alone, handed the right schema and a body without
prefix. Each has its turn in each round; the figure is the fastest round (others have only more of the machine's noise),
as CPU time a value. ``ratio`` is fastavro's time by ours: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import fastavro  # noqa: E402 - the path comes first

from broker_bridge.contracts import Codec, SchemaDirectory  # noqa: E402

SCHEMAS = ROOT / "schemas"
GOAL = 0.9
ROUND_S = 0.1
MANY_LINES = 1_000


@dataclass(frozen=True)
class Job:
    """One thing to do, in both ways. They must come to the same: ``check`` raises where they do not."""

    what: str
    value: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]

    def check(self) -> None:
        """Raise AssertionError where the two do different work."""
        ours, theirs = self.ours(), self.theirs()
        assert ours == theirs, f"{self.what} {self.value}: {ours!r:.200} is not {theirs!r:.200}"


def jobs() -> Iterator[Job]:
    """Decoding, decoding as another version, and encoding, for each value."""
    codec = Codec(SchemaDirectory(SCHEMAS))
    for file in sorted((SCHEMAS / "golden").glob("*.json")):
        vector = json.loads(file.read_text(encoding="utf-8"))
        yield from _jobs_of(codec, vector["name"], bytes.fromhex(vector["hex"]))
        if vector["name"] == "order-placed-v1":
            value = codec.decode(bytes.fromhex(vector["hex"])).value
            large = codec.encode("shop.OrderPlaced", 1, value | {"lines": value["lines"] * MANY_LINES})
            yield from _jobs_of(codec, f"order-placed-v1, {MANY_LINES} lines", large)


def _jobs_of(codec: Codec, name: str, framed: bytes) -> Iterator[Job]:
    value, ref = codec.decode(framed)
    writer, latest = codec.source.get(ref.subject, ref.version), codec.source.get(ref.subject)
    body, schema, newer = framed[5:], writer.schema, latest.schema
    decode, as_latest, encode = codec.decoder(), codec.decoder(latest), codec.encoder(writer)
    read, write = fastavro.schemaless_reader, fastavro.schemaless_writer

    def written() -> bytes:
        out = io.BytesIO()
        write(out, schema, value)
        return out.getvalue()

    yield Job("decode", name, lambda: decode(framed).value, lambda: read(io.BytesIO(body), schema, None))
    if latest is not writer:
        yield Job(
            f"decode as v{latest.version}",
            name,
            lambda: as_latest(framed).value,
            lambda: read(io.BytesIO(body), schema, newer),
        )
    yield Job("encode", name, lambda: encode(value)[5:], written)


def measured(job: Job, rounds: int, round_s: float) -> tuple[float, float]:
    """Microseconds a value, ours and theirs: the fastest of the rounds."""
    best = [float("inf"), float("inf")]
    counts = [max(1, int(round_s / _seconds(act, 3))) for act in (job.ours, job.theirs)]
    for _ in range(rounds):
        for number, act in enumerate((job.ours, job.theirs)):
            best[number] = min(best[number], _seconds(act, counts[number]))
    return best[0] * 1e6, best[1] * 1e6


def _seconds(act: Callable[[], Any], count: int) -> float:
    """CPU time of one call."""
    began = time.process_time_ns()
    for _ in range(count):
        act()
    return max(1, time.process_time_ns() - began) / count / 1e9


def run(rounds: int, round_s: float) -> list[dict[str, Any]]:
    """A row for each job."""
    rows = []
    gc.collect()
    gc.disable()
    try:
        for job in jobs():
            job.check()
            ours, theirs = measured(job, rounds, round_s)
            rows.append({"what": job.what, "value": job.value, "ours_us": ours, "fastavro_us": theirs})
    finally:
        gc.enable()
    return [{**row, "ratio": row["fastavro_us"] / row["ours_us"]} for row in rows]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (default: %(default)s)")
    parser.add_argument("--round-s", type=float, default=ROUND_S, help="seconds a turn (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = parser.parse_args(arguments)
    rows = run(given.rounds, given.round_s)
    means = {
        what: geometric_mean([row["ratio"] for row in rows if row["what"] == what])
        for what in dict.fromkeys(row["what"] for row in rows)
    }
    if given.json:
        print(json.dumps({"rows": rows, "means": means, "goal": GOAL}, indent=2))
    else:
        for row in rows:
            figures = f"{row['ours_us']:9.2f} µs  fastavro {row['fastavro_us']:9.2f} µs  {row['ratio']:5.2f} ×"
            print(f"{row['what']:<13} {row['value']:<28} ours {figures}")
        print(", ".join(f"{what}: {mean:.2f} ×" for what, mean in means.items()) + f" (goal: {GOAL} ×)")
    return 0 if min(means.values()) >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
