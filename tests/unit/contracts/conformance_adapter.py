"""A program for the conformance kit: this codec behind the protocol, whole or broken as its argument names.

Run by ``test_conformance.py``. Each way of being broken is one that the kit has to tell from the others.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from broker_bridge.contracts import Form, frame, unframe
from broker_bridge.contracts.contract import Contract, parse_contract
from broker_bridge.contracts.guards import Limits
from broker_bridge.contracts.reader_compiler import compile_reader
from broker_bridge.contracts.writer_compiler import compile_writer
from broker_bridge.errors import ContractError
from broker_bridge.transport.partitioning import murmur2, partition_of


def answer(asked: dict[str, Any], broken: str) -> dict[str, Any]:
    """The whole answer but its number."""
    match asked["do"]:
        case "decode":
            return {"value": decode(asked, broken)}
        case "encode":
            return {"hex": encode(asked, broken).hex()}
        case "partition":
            key = bytes.fromhex(asked["key_hex"])
            if broken == "partitioner":
                return {"partition": murmur2(key) % asked["partitions"]}
            return {"partition": partition_of(key, asked["partitions"])}
    return {"skip": f"{asked['do']} is not known here"}


def contract_of(asked: dict[str, Any], kind: str = "") -> Contract:
    return parse_contract(asked[f"{kind}schema"], version=asked[f"{kind}version"])


def decode(asked: dict[str, Any], broken: str) -> Any:
    framed = bytes.fromhex(asked["hex"])
    if broken == "unframed":
        framed = frame(asked["schema_id"], framed[5:])
    schema_id, body = unframe(framed)
    if schema_id != asked["schema_id"]:
        raise ContractError("an id of another schema")
    writer = contract_of(asked)
    reader = contract_of(asked, "reader_") if "reader_schema" in asked else None
    if broken == "writer-only":
        reader = None
    if broken == "padded":
        body += bytes(len(writer.fields))  # as a reader that takes the end of the input for nulls
    read = compile_reader(writer, reader, Form.JSON, Limits())
    if broken == "padded":
        for end in range(len(body), -1, -1):
            try:
                return read(body[:end], 0)
            except ContractError:
                continue
    value = read(body, 0)
    if broken == "swapped" and "day" in value:
        value["at_ms"], value["at_us"] = value["at_us"], value["at_ms"]
    if broken == "floats":
        value = {name: float(one) if type(one) is int else one for name, one in value.items()}
    return value


def encode(asked: dict[str, Any], broken: str) -> bytes:
    contract = contract_of(asked)
    value = asked["value"]
    if broken == "rounds" and "amount" in value and contract.subject.endswith("Decimals"):
        value = value | {"amount": f"{float(value['amount']):.2f}"}
    framed = compile_writer(contract, Form.JSON, Limits())(value, frame(asked["schema_id"], b""))
    return framed[:-1] if broken == "truncates" else framed


def misbehave(broken: str, number: int) -> None:
    """What a program does that answers no question."""
    if number != 3:
        return
    match broken:
        case "hangs":
            time.sleep(600)
        case "dies":
            print("no such luck", file=sys.stderr)
            os._exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leaves":
            os._exit(0)
        case "closes":
            os.close(1)
            time.sleep(600)
        case "floods":
            sys.stdout.write("x" * 9_000_000)
        case "chatters":
            print("INFO a line of a log\n[1, 2]\n" + "[" * 5_000 + '\n{"id": 1, "value": {}}')
        case "endless":
            while True:
                print("INFO another line")


def main(broken: str) -> None:
    if broken == "deaf":
        time.sleep(600)
    for number, line in enumerate(sys.stdin, start=1):
        asked = json.loads(line)
        misbehave(broken, number)
        try:
            found = {"skip": "not today"} if broken == "skips" else answer(asked, broken)
        except ContractError as error:
            found = {"value": None} if broken == "takes-all" else {"error": str(error)}
        if broken == "says-nothing":
            found = {}
        print(json.dumps({"id": asked["id"], **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
