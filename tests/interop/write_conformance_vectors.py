"""Writes what each of the three languages makes of the kit's values into ``conformance_vectors.json``.

    python tests/interop/write_conformance_vectors.py ./orders ./payments-kafka

``test_conformance_kit.py`` says when file and programs have drifted apart. The values themselves are stated by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from broker_bridge.contracts import conformance
from broker_bridge.contracts.conformance import Check, Vector, own_kit
from broker_bridge.contracts.conformance_program import Program
from broker_bridge.contracts.forms import Form
from broker_bridge.contracts.framing import unframe
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.writer_compiler import compile_writer

FILE = Path(conformance.__file__).with_name(conformance.VECTORS_FILE)


def written_by(program: Program, vectors: list[Vector]) -> dict[str, bytes]:
    """By the names of the vectors, the bodies that a program makes of their values."""
    checks = {check.vector: check for check in own_kit().checks() if check.rule == "encode"}
    bodies = {}
    try:
        for number, vector in enumerate(vectors, start=1):
            check: Check = checks[vector.name]
            answer = program.ask(number, check.ask)
            assert isinstance(answer, dict), f"{vector.name}: {answer}"
            assert check.judge(answer) is None, f"{vector.name}: {answer}"
            bodies[vector.name] = unframe(bytes.fromhex(answer["hex"]))[1]
    finally:
        program.end()
    return bodies


def written_by_python(vectors: list[Vector]) -> dict[str, bytes]:
    """The same, by this codec."""
    return {one.name: compile_writer(one.contract, Form.JSON, Limits())(one.value, b"") for one in vectors}


def as_text(found: dict[str, Any]) -> str:
    """One vector a line, so that differences can be read."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    schemas = ",\n".join(
        f"  {line(name)}: [\n" + ",\n".join(f"   {line(schema)}" for schema in versions) + "\n  ]"
        for name, versions in found["schemas"].items()
    )
    parts = [f' "schemas": {{\n{schemas}\n }}']
    parts += [
        f' "{key}": [\n' + ",\n".join(f"  {line(row)}" for row in found[key]) + "\n ]"
        for key in ("vectors", "refused_bytes", "refused_values", "keys")
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(orders: str, payments_kafka: str) -> None:
    vectors = own_kit().vectors
    made = {
        "python": written_by_python(vectors),
        "go": written_by(Program([orders, "conformance"], timeout_s=10), vectors),
        "rust": written_by(Program([payments_kafka, "conformance"], timeout_s=10), vectors),
    }
    found = json.loads(FILE.read_text(encoding="utf-8"))
    for row in found["vectors"]:
        row["hex"] = {who: bodies[f"kit/{row['name']}"].hex() for who, bodies in made.items()}
    FILE.write_text(as_text(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
