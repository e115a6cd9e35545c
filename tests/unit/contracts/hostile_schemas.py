"""Feeds the reading of schemas with hostile ones under limits of memory and time, and prints what came of it as JSON.

Run as a program by ``test_hostile_schemas.py``. ``ours`` does all that is done with a schema that somebody else wrote:
parse it, compile readers and writers, compare it with itself, name it. ``naive`` does what one would without limits,
and must fail: a check that nothing fails is worth nothing.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator

import fastavro

from broker_bridge.contracts.any_schema import parse_any
from broker_bridge.contracts.compatibility import Mode, check
from broker_bridge.contracts.contract import parse_contract
from broker_bridge.contracts.fingerprints import fingerprints
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.reader_compiler import compile_reader
from broker_bridge.contracts.same_schema import sameness
from broker_bridge.contracts.schema_marks import guid_of, read_as
from broker_bridge.contracts.writer_compiler import compile_writer
from broker_bridge.errors import ContractError

MEMORY_MB = 900
CPU_S = 240
SLOW_MS = 8_000
MB = 1_000_000
Case = tuple[str, bool, Callable[[], str]]
"""What it is, whether it must be refused, and its text, made when its turn comes."""


def record(fields: str, name: str = "T") -> str:
    """The text of a record with those fields."""
    return f'{{"type": "record", "name": "{name}", "fields": [{fields}]}}'


def field(name: str, kind: str, default: str | None = None) -> str:
    return f'{{"name": "{name}", "type": {kind}' + (f', "default": {default}' if default is not None else "") + "}"


def fields(count: int, kind: str = '"int"', default: str | None = None) -> str:
    return ", ".join(field(f"f{number}", kind, default) for number in range(count))


def nested(levels: int, outer: str = '{"type": "array", "items": ', inner: str = '"int"') -> str:
    return outer * levels + inner + "}" * levels


def records_in_records(levels: int) -> str:
    opened = "".join(f'{{"type": "record", "name": "R{n}", "fields": [{{"name": "a", "type": ' for n in range(levels))
    return opened + '"int"' + "}]}" * levels


def doubling(levels: int, default: str | None = None) -> str:
    """Each record has the one below twice: 2**levels records in a value, or in a default of two letters."""
    text = record(field("leaf", '"int"', "0"), "D0")
    for level in range(1, levels + 1):
        below = f'"D{level - 1}"'
        text = record(f"{field('a', text, default)}, {field('b', below, default)}", f"D{level}")
    return record(field("top", text, default))


def shape_cases() -> Iterator[Case]:
    """Deep, huge, cyclic."""
    for levels in (64, 1_000, 100_000):
        yield f"arrays {levels} deep", True, lambda n=levels: record(field("a", nested(n)))
        yield f"records {levels} deep", levels > 64, lambda n=levels: records_in_records(n)
        yield f"types of types {levels} deep", True, lambda n=levels: record(field("a", nested(n, '{"type": ')))
        yield f"unions {levels} deep", True, lambda n=levels: record(field("a", "[" * n + '"int"' + "]" * n))
        yield f"a default {levels} deep", True, lambda n=levels: record(field("a", '"int"', "[" * n + "]" * n))
        yield (
            f"a doc {levels} deep",
            levels > 64,
            lambda n=levels: record(field("a", '"int"'))[:-1] + (', "doc": ' + "[" * n + "]" * n + "}"),
        )
    for count in (1_000, 20_000, MB):
        yield f"{count} fields", count > 1_000, lambda n=count: record(fields(n))
        yield (
            f"{count} fields with defaults",
            count > 1_000,
            lambda n=count: record(fields(n, '["null", "long"]', "null")),
        )
        yield (
            f"an enum of {count}",
            count > 1_000,
            lambda n=count: record(
                field("e", f'{{"type": "enum", "name": "E", "symbols": {json.dumps([f"S{i}" for i in range(n)])}}}')
            ),
        )
    for count in (100, 3_000, 30_000):
        branches = ", ".join(f'{{"type": "fixed", "name": "X{number}", "size": 1}}' for number in range(count))
        yield f"a union of {count}", count > 100, lambda text=branches: record(field("u", f"[{text}]"))
        many = ", ".join(field(f"r{number}", record(fields(2), f"R{number}")) for number in range(count))
        yield f"{count} records", count > 3_000, lambda text=many: record(text)
        twice = record(fields(3), "R")
        uses = ", ".join(field(f"u{number}", '"R"') for number in range(count))
        yield (
            f"a record used {count} times",
            count > 3_000,
            lambda text=uses, first=twice: record(field("first", first) + ", " + text),
        )
    yield "a record in itself", False, lambda: record(field("a", '"T"'))
    yield "two records in each other", False, lambda: record(field("b", record(field("a", '"T"'), "B")))
    for levels in (20, 60):
        yield f"doubled {levels} times", False, lambda n=levels: doubling(n)


def default_cases() -> Iterator[Case]:
    """Defaults that are no values, or cost more than they seem to."""
    for levels in (10, 20, 60):
        yield f"defaults doubled {levels} times", levels > 10, lambda n=levels: doubling(n, "{}")
    yield "a default in itself", True, lambda: record(field("a", '"T"', "{}"))
    yield "a default of another's default", True, lambda: record(field("b", record(field("a", '"T"', "{}"), "B"), "{}"))
    for count in (9_000, 100_000):
        numbers = json.dumps([7] * count)
        yield (
            f"a default of {count}",
            count > 9_000,
            lambda n=numbers: record(field("a", '{"type": "array", "items": "int"}', n)),
        )
    money = '{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}'
    yield "a decimal default of 900 kB", True, lambda: record(field("d", money, json.dumps("\u007f" * 900_000)))
    yield (
        "a default for a fixed of 2 GB",
        True,
        lambda: record(field("d", '{"type": "fixed", "name": "F", "size": 2147483647}', '"a"')),
    )
    for kind, default in (
        ('"int"', '"one"'), ('"int"', "1.5"), ('"int"', "2147483648"), ('"int"', "true"), ('"int"', "null"),
        ('"int"', "1e999"), ('"string"', "7"), ('"bytes"', '"\u0100"'), ('["null", "int"]', '"x"'),
        ('{"type": "array", "items": "int"}', "{}"), ('{"type": "map", "values": "int"}', '{"a": "b"}'),
        ('{"type": "enum", "name": "E", "symbols": ["A"]}', '"B"'),
        ('{"type": "fixed", "name": "F", "size": 2}', '"a"'),
        ('{"type": "string", "logicalType": "uuid"}', '"x"'), ('{"type": "int", "logicalType": "date"}', "2147483647"),
        ('{"type": "long", "logicalType": "timestamp-millis"}', "9223372036854775807"),
    ):  # fmt: skip
        yield f"default {default} of {kind}", True, lambda k=kind, d=default: record(field("a", k, d))
    yield (
        "an enum's default",
        True,
        lambda: record(field("a", '{"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}')),
    )


def text_cases() -> Iterator[Case]:
    """Texts that are no schema, or hardly."""
    for text in (
        "", "{", "null", "7", '"int"', '"nobody"', "[]", '["int"]', '{"type": 7}', '{"type": []}', '{"type": {}}',
        "NaN", '{"type": "record"}', '{"type": "record", "name": "T"}', '{"type": "record", "name": 7, "fields": []}',
        record("7"), record('{"name": "a"}'), record('{"name": 7, "type": "int"}'), record('{"type": "int"}'),
        record(field("a", '"nobody"')), record(field("a", "null")), record(field("a", "[]")),
        record(field("", '"int"')),
        record(field("a b", '"int"')), record(field("a\\n", '"int"')), record(field("ä", '"int"')), record("", "1T"),
        record("", "a..b"), record("", "__import__('os')"), record("", "int"), record(field("a", '["int", "int"]')),
        record(field("a", '["int", ["int"]]')), record(f"{field('a', chr(34) + 'int' + chr(34))}, {field('a', '7')}"),
        record(f"{field('a', record('', 'X'))}, {field('b', record('', 'X'))}"),
        record(field("a", '{"type": "fixed", "name": "F", "size": -1}')),
        record(field("a", '{"type": "fixed", "name": "F", "size": 1e9}')),
        record(field("a", '{"type": "fixed", "name": "F", "size": true}')),
        record(field("a", '{"type": "enum", "name": "E", "symbols": []}')),
        record(field("a", '{"type": "enum", "name": "E", "symbols": ["A", "A"]}')),
        record(field("a", '{"type": "enum", "name": "E", "symbols": ["A", 7]}')),
        record(field("a", '{"type": "array"}')), record(field("a", '{"type": "map", "values": null}')),
        record('{"name": "a", "type": "int", "aliases": "b"}'), record('{"name": "a", "type": "int", "aliases": [7]}'),
        '{"type": "record", "name": "T", "name": "U", "fields": []}',
        '{"type": "record", "name": "T", "namespace": 7, "fields": []}',
    ):  # fmt: skip
        yield f"text {text[:60]}", True, lambda t=text: t
    yield "a surrogate in a name", True, lambda: record(field("\\ud800", '"int"'))
    yield "a surrogate in a doc", False, lambda: '{"type": "record", "name": "T", "doc": "\\ud800", "fields": []}'
    yield "a surrogate in a default", True, lambda: record(field("a", '"string"', '"\\ud800"'))
    for digits in (1_001, 100_000):
        decimal = f'{{"type": "bytes", "logicalType": "decimal", "precision": {"9" * digits}}}'
        yield f"a precision of {digits} digits", True, lambda d=decimal: record(field("a", d))
    wide = '{"type": "fixed", "name": "F", "size": 2147483647, "logicalType": "decimal", "precision": 1000}'
    yield "a decimal in a fixed of 2 GB", False, lambda: record(field("a", wide))
    yield "a name of 900 kB", False, lambda: record("", "T" * 900_000)
    yield "a field's name of 900 kB", False, lambda: record(field("f" * 900_000, '"int"'))
    yield "a text of 20 MB", True, lambda: record(f'{{"name": "a", "type": "int", "doc": "{"x" * 20_000_000}"}}')
    yield "blanks of 20 MB", True, lambda: " " * 20_000_000 + record("")
    yield (
        "keys said twice",
        True,
        lambda: (
            '{"type": "record", "name": "T", "fields": [], '
            + ", ".join(f'"k{n}": 0' for n in range(60_000))
            + ', "k59999": 1}'
        ),
    )
    aliases = json.dumps([f"a{number}" for number in range(60_000)])
    yield "60000 aliases", False, lambda: record(f'{{"name": "f", "type": "int", "aliases": {aliases}}}')


def ours(text: str) -> None:
    """All that is done with a schema of somebody else's."""
    contract = parse_contract(text)
    for form in Form:
        compile_reader(contract, None, form, Limits())
    again = parse_contract(text, version=2)
    compile_reader(contract, again, Form.JSON, Limits())
    for form in (Form.PYTHON, Form.JSON):
        compile_writer(contract, form, Limits())
    check(again, [contract], Mode.FULL)
    fingerprints(parse_any(text))
    guid_of(contract)
    read_as(contract.tree)
    sameness(text)


def naive(text: str) -> None:
    """fastavro as it comes."""
    try:
        fastavro.parse_schema(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, fastavro.schema.SchemaParseException) as error:
        raise ContractError("refused") from error


class Tally:
    """What came of the cases."""

    def __init__(self) -> None:
        self.counts = {"cases": 0, "accepted": 0, "refused": 0}
        self.wrong: list[str] = []
        self.slowest: tuple[float, str] = (0.0, "")

    def try_one(self, case: Case, act: Callable[[str], None]) -> None:
        """Accepted or refused with a classified error, in time: anything else is wrong."""
        what, must_fail, make = case
        text = make()
        self.counts["cases"] += 1
        start = time.process_time()
        try:
            act(text)
            self.counts["accepted"] += 1
            if must_fail:
                self.wrong.append(f"{what}: accepted")
        except ContractError as error:
            self.counts["refused"] += 1
            if not must_fail:
                self.wrong.append(f"{what}: refused: {str(error)[:200]}")
            elif len(str(error)) > 600:
                self.wrong.append(f"{what}: a message of {len(str(error))} characters")
        except BaseException as error:  # noqa: BLE001  that is what is looked for
            self.wrong.append(f"{what}: {type(error).__name__}: {str(error)[:100]}")
        took_ms = (time.process_time() - start) * 1000
        self.slowest = max(self.slowest, (took_ms, what))
        if took_ms > SLOW_MS:
            self.wrong.append(f"{what}: took {took_ms:.0f} ms")
        if "-v" in sys.argv:
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{took_ms:8.0f} ms {peak_mb:5} MB  {what}", file=sys.stderr, flush=True)


def main(how: str) -> None:
    """Try everything and print the tally."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, MEMORY_MB << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tally = Tally()
    for cases in (text_cases(), default_cases(), shape_cases()):
        for case in cases:
            if how == "ours" or ("deep" not in case[0] and "MB" not in case[0]):
                tally.try_one(case, ours if how == "ours" else naive)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**tally.counts, "slowest": tally.slowest, "peak_mb": peak_mb, "wrong": tally.wrong}))


if __name__ == "__main__":
    main(sys.argv[1])
