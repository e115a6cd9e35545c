"""Feeds a decoder with hostile bytes under limits of memory and time, and prints what came of it as JSON.

Run as a program by ``test_contract_malformed.py``, so that a segmentation fault or a lack of memory ends this process
and not the tests. ``codec`` tries the codec. ``fastavro`` and ``crash`` try fastavro alone, which must fail: a check
that nothing fails is worth nothing.
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
from schema_folder import SCHEMAS, codec_of, record

from broker_bridge.contracts import Codec, Form, SchemaDirectory, frame, unframe
from broker_bridge.errors import ContractError

MEMORY_MB = 700
CPU_S = 300
SLOW_MS = 2000
Case = tuple[str, int, bytes]
"""What it is, the number of its schema in SPECIAL (or the id of a golden vector), the body."""


def varint(number: int) -> bytes:
    """Any whole number as Avro would write it, also far beyond 64 bits."""
    rest = (number << 1) if number >= 0 else ((-number << 1) - 1)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])


LIST = ["null", "T"]
SPECIAL: list[Any] = [
    record(("a", {"type": "array", "items": "null"}), name="Nulls"),
    record(("a", {"type": "array", "items": {"type": "array", "items": "null"}}), name="NestedNulls"),
    record(("a", {"type": "array", "items": {"type": "fixed", "name": "Nothing", "size": 0}}), name="Fixed0"),
    record(("a", {"type": "array", "items": record(name="Empty")}), name="Empties"),
    record(("a", {"type": "array", "items": record(("b", "boolean"), name="One")}), name="SmallRecords"),
    record(("m", {"type": "map", "values": "null"}), name="NullMap"),
    record(("next", LIST), name="T"),
    record(("left", ["null", "Tree"]), ("right", ["null", "Tree"]), name="Tree"),
    record(("a", "Endless"), name="Endless"),
    record(("d", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}), name="Money"),
    record(("u", ["null", "string", "long"]), name="Union"),
    record(("e", {"type": "enum", "name": "E", "symbols": ["A", "B"]}), name="Enum"),
    record(("i", "int"), name="Int"),
    record(("l", "long"), name="Long"),
    record(("s", "string"), name="Text"),
    record(("b", "bytes"), name="Bytes"),
    record(("t", {"type": "long", "logicalType": "timestamp-millis"}), name="Instant"),
    record(("d", {"type": "int", "logicalType": "date"}), name="Date"),
    record(("t", {"type": "int", "logicalType": "time-millis"}), name="Clock"),
    record(("u", {"type": "string", "logicalType": "uuid"}), name="Id"),
    record(("f", "double"), name="Double"),
    record(("f", "boolean"), name="Bool"),
]
NUMBER = {schema["name"]: number for number, schema in enumerate(SPECIAL, start=1)}
HUGE = 2**63 - 1


def special_cases() -> Iterator[Case]:
    """Bodies that no schema-blind mutation would find soon."""
    for name in ("Nulls", "NestedNulls", "Fixed0", "Empties", "SmallRecords", "NullMap"):
        for count in (200_001, 20_000_000, HUGE, -(2**63)):
            yield f"{count} items", NUMBER[name], varint(count) + (b"\x02" if count < 0 else b"") + b"\x00"
        yield "many blocks", NUMBER[name], (varint(90_000) + b"\x00" * 3) * 20_000
        yield "block of negative size", NUMBER[name], varint(-1) + varint(-5) + b"\x00\x00"
        yield "block size beyond the end", NUMBER[name], varint(-1) + varint(1_000) + b"\x00\x00"
    yield "wrong block size", NUMBER["Bytes"], varint(-1)
    yield "small records of one byte", NUMBER["SmallRecords"], varint(1_000_000) + b"\x01" * 1_000_000 + b"\x00"
    yield "nested empty arrays", NUMBER["NestedNulls"], (varint(60_000) + varint(60_000) + b"\x00") * 1_000
    for levels in (65, 4_600, 100_000, 1_000_000):
        yield f"{levels} levels", NUMBER["T"], b"\x02" * levels + b"\x00"
        yield f"{levels} levels left", NUMBER["Tree"], b"\x02" * levels + b"\x00" * (levels + 1)
    yield "endless record", NUMBER["Endless"], b""
    for size in (14, 1_000, 1_000_000):
        yield f"decimal of {size} bytes", NUMBER["Money"], varint(size) + b"\x7f" * size
    for index in (-1, -2, -3, 2, 3, 64, 2**31, HUGE, 2**64, -(2**63)):
        yield f"union branch {index}", NUMBER["Union"], varint(index) + b"\x02a"
        yield f"enum symbol {index}", NUMBER["Enum"], varint(index)
    for length in (-1, -5, 3, 2**31, HUGE, 2**70):
        yield f"length {length}", NUMBER["Text"], varint(length) + b"ab"
        yield f"length {length}", NUMBER["Bytes"], varint(length) + b"ab"
    for name in ("Int", "Long", "Instant", "Date", "Clock", "Text", "Union", "Enum", "Nulls"):
        for size in (5, 9, 10, 11, 1_000, 1_000_000):
            yield f"number of {size} bytes", NUMBER[name], b"\xff" * (size - 1) + b"\x01"
            yield f"zero in {size} bytes", NUMBER[name], b"\x80" * (size - 1) + b"\x00"
        yield "number without end", NUMBER[name], b"\xff" * 1_000_000
    yield "int of 33 bits", NUMBER["Int"], varint(2**31)
    yield "not UTF-8", NUMBER["Text"], b"\x04\xff\xfe"
    yield "surrogate", NUMBER["Text"], b"\x06\xed\xa0\x80"
    yield "no UUID", NUMBER["Id"], b"\x06abc"
    yield "boolean 2", NUMBER["Bool"], b"\x02"
    yield "half a double", NUMBER["Double"], b"\x00" * 7
    for number in (2**62, -(2**62), 253_402_300_800_000):
        yield f"instant {number}", NUMBER["Instant"], varint(number)
    for number in (2**31 - 1, -(2**31), -719_163):
        yield f"date {number}", NUMBER["Date"], varint(number)
    for number in (-1, 86_400_000):
        yield f"time {number}", NUMBER["Clock"], varint(number)


def golden_cases() -> Iterator[Case]:
    """Every truncation and every flipped bit of every golden vector, and much else done to them."""
    chance = random.Random(20260921)
    for file in sorted((SCHEMAS / "golden").glob("*.json")):
        schema_id, body = unframe(bytes.fromhex(json.loads(file.read_text(encoding="utf-8"))["hex"]))
        for end in range(len(body)):
            yield f"{file.stem} cut at {end}", schema_id, body[:end]
        for bit in range(8 * len(body)):
            flipped = bytearray(body)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"{file.stem} bit {bit}", schema_id, bytes(flipped)
        for at in range(len(body)):
            for run in (b"\xff" * 9, b"\xff" * 20, b"\x00", b"\x01", varint(HUGE), varint(-(2**63))):
                yield f"{file.stem} {run[:4].hex()} at {at}", schema_id, body[:at] + run + body[at + 1 :]
        for tail in (b"\x00", b"\x01", b"\xff" * 100, body):
            yield f"{file.stem} with {len(tail)} bytes more", schema_id, body + tail
        for number in range(500):
            yield f"{file.stem} noise {number}", schema_id, chance.randbytes(chance.randrange(64))


class Tally:
    """What came of the cases."""

    def __init__(self) -> None:
        self.counts = {"cases": 0, "decoded": 0, "refused": 0}
        self.wrong: list[str] = []
        self.slowest_ms = 0.0

    def try_one(self, what: str, decode: Callable[[], Any], *, must_fail: bool) -> None:
        """Decoded or refused with a classified error, in time: anything else is wrong."""
        self.counts["cases"] += 1
        start = time.perf_counter()
        try:
            decode()
            self.counts["decoded"] += 1
            if must_fail:
                self.wrong.append(f"{what}: accepted")
        except ContractError as error:
            self.counts["refused"] += 1
            if error.code not in ("avro_malformed", "schema_incompatible") or len(str(error)) > 500:
                self.wrong.append(f"{what}: {error.code}: {str(error)[:200]}")
        except BaseException as error:  # noqa: BLE001  that is what is looked for
            self.wrong.append(f"{what}: {type(error).__name__}")
        took_ms = (time.perf_counter() - start) * 1000
        self.slowest_ms = max(self.slowest_ms, took_ms)
        if took_ms > SLOW_MS:
            self.wrong.append(f"{what}: took {took_ms:.0f} ms")


def must_fail(what: str) -> bool:
    """Cases that no decoder may accept, whatever it makes of the others."""
    return "cut at" in what or "bytes more" in what or what.startswith(("union branch -", "enum symbol -", "length -"))


def naive(codec: Codec) -> Callable[[int, bytes, Form, bool], Any]:
    """fastavro as it comes, its ordinary errors mapped."""

    def decode(schema_id: int, body: bytes, _form: Form, _resolve: bool) -> Any:
        try:
            return fastavro.schemaless_reader(io.BytesIO(body), codec.source.by_id(schema_id).schema, None)
        except (EOFError, IndexError, UnicodeDecodeError, ValueError, OverflowError, StopIteration) as error:
            raise ContractError("refused") from error

    return decode


def guarded(codec: Codec) -> Callable[[int, bytes, Form, bool], Any]:
    """The codec in one form, resolved to the latest version or not."""

    def decode(schema_id: int, body: bytes, form: Form, resolve: bool) -> Any:
        reader = codec.source.get(codec.source.by_id(schema_id).subject) if resolve else None
        found = codec.decode_batch([frame(schema_id, body)], reader=reader, form=form)[0]
        if isinstance(found, ContractError):
            raise found
        return found

    return decode


def main(decoder: str) -> None:
    """Try everything and print the tally."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, MEMORY_MB << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    make = guarded if decoder == "codec" else naive
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        special = make(codec_of(Path(folder), *SPECIAL))
    golden = make(Codec(SchemaDirectory(SCHEMAS)))
    for form in Form if decoder == "codec" else [Form.PYTHON]:
        for what, number, body in special_cases():
            if (decoder == "fastavro" and not must_fail(what)) or (decoder == "crash" and "levels" not in what):
                continue  # most would end the process or take gigabytes and minutes: "crash" shows some of those
            name = f"{SPECIAL[number - 1]['name']} {what} {form.value}"
            tally.try_one(name, partial(special, number, body, form, False), must_fail=must_fail(what))
        for resolve in (False, True):
            for what, number, body in golden_cases():
                decode = partial(golden, number, body, form, resolve)
                tally.try_one(f"{what} {form.value}", decode, must_fail=must_fail(what))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**tally.counts, "slowest_ms": tally.slowest_ms, "peak_mb": peak_mb, "wrong": tally.wrong}))


if __name__ == "__main__":
    main(sys.argv[1])
