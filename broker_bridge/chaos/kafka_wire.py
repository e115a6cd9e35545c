"""The few requests to Kafka that only faults need: who leads, who coordinates, removing a topic,
and changing one.

Spoken over a socket in the manner of ``stack.kafka.handshake``; clients belong to ``transport``.
"""

from __future__ import annotations

import socket
import struct

from broker_bridge.errors import StackError
from broker_bridge.stack.kafka.handshake import METADATA, METADATA_VERSION, Cursor, ask

FIND_COORDINATOR, FIND_COORDINATOR_VERSION = 10, 1
DELETE_TOPICS, DELETE_TOPICS_VERSION = 20, 1
CREATE_PARTITIONS, CREATE_PARTITIONS_VERSION = 37, 0
ALTER_CONFIGS, ALTER_CONFIGS_VERSION = 44, 0
CREATE_ACLS, DELETE_ACLS, ACLS_VERSION = 30, 31, 1
_TOPIC, _LITERAL = 2, 3
_SET = 0
_ANY, _DENY, _ALLOW = 1, 2, 3
_READ, _WRITE, _DESCRIBE = 3, 4, 8
_TIMEOUT_S = 5.0
_UNKNOWN_TOPIC = 3


def leader_of(port: int, topic: str, partition: int) -> int:
    """The node that leads a partition. Raises ``StackError`` where there is none."""
    body = struct.pack(">i", 1) + _text(topic) + struct.pack(">?", False)
    cursor = Cursor(_ask(port, METADATA, METADATA_VERSION, body))
    cursor.number("i")
    for _ in range(cursor.number("i")):
        cursor.number("i"), cursor.text(), cursor.number("i"), cursor.text()
    cursor.text(), cursor.number("i"), cursor.number("i"), cursor.number("h"), cursor.text(), cursor.number("b")
    for _ in range(cursor.number("i")):
        cursor.number("h")
        number, leader = cursor.number("i"), cursor.number("i")
        for _ in range(2):
            for _ in range(cursor.number("i")):
                cursor.number("i")
        if number == partition and leader >= 0:
            return leader
    raise StackError(f"nobody leads {topic}/{partition}", where=f"127.0.0.1:{port}")


def coordinator_of(port: int, group: str) -> int:
    """The node that keeps a consumer group. Raises ``StackError`` where there is none."""
    cursor = Cursor(_ask(port, FIND_COORDINATOR, FIND_COORDINATOR_VERSION, _text(group) + struct.pack(">b", 0)))
    cursor.number("i")
    code, _message, node = cursor.number("h"), cursor.text(), cursor.number("i")
    if code:
        raise StackError(f"no coordinator for group {group} (error {code})", where=f"127.0.0.1:{port}")
    return node


def delete_topic(port: int, topic: str) -> None:
    """Remove a topic with all that is in it. Raises ``StackError`` where the broker refuses."""
    body = struct.pack(">i", 1) + _text(topic) + struct.pack(">i", int(_TIMEOUT_S * 1000))
    cursor = Cursor(_ask(port, DELETE_TOPICS, DELETE_TOPICS_VERSION, body))
    cursor.number("i")
    for _ in range(cursor.number("i")):
        name, code = cursor.text(), cursor.number("h")
        if code not in (0, _UNKNOWN_TOPIC):
            raise StackError(f"{name} was not deleted (error {code})", where=f"127.0.0.1:{port}")


def add_partitions(port: int, topic: str, count: int) -> None:
    """Give a topic so many partitions. Raises ``StackError`` where the broker refuses."""
    body = struct.pack(">i", 1) + _text(topic) + struct.pack(">ii", count, -1)
    body += struct.pack(">ib", int(_TIMEOUT_S * 1000), 0)
    cursor = Cursor(_ask(port, CREATE_PARTITIONS, CREATE_PARTITIONS_VERSION, body))
    cursor.number("i")
    for _ in range(cursor.number("i")):
        name, code, message = cursor.text(), cursor.number("h"), cursor.text()
        if code:
            raise StackError(f"{name} got no more partitions: {message} (error {code})", where=f"127.0.0.1:{port}")


def set_largest_record(port: int, topic: str, size: int) -> None:
    """Let a topic take no record above so many bytes. Raises ``StackError`` where the broker refuses."""
    body = struct.pack(">ib", 1, _TOPIC) + _text(topic)
    body += struct.pack(">i", 1) + _text("max.message.bytes") + struct.pack(">b", _SET) + _text(str(size)) + b"\0"
    cursor = Cursor(_ask(port, ALTER_CONFIGS, ALTER_CONFIGS_VERSION, body))
    cursor.number("i")
    for _ in range(cursor.number("i")):
        code, message = cursor.number("h"), cursor.text()
        if code:
            raise StackError(f"{topic} was not changed: {message} (error {code})", where=f"127.0.0.1:{port}")
        cursor.number("b"), cursor.text()


def forbid_writes(port: int, topic: str) -> None:
    """Deny everybody to write to a topic; reading goes on. Raises ``StackError`` where the broker refuses."""
    rules = ((_WRITE, _DENY), (_READ, _ALLOW), (_DESCRIBE, _ALLOW))
    body = struct.pack(">i", len(rules)) + b"".join(_topic_rule(topic, *rule) for rule in rules)
    cursor = Cursor(_ask(port, CREATE_ACLS, ACLS_VERSION, body))
    cursor.number("i")
    _check_all(cursor, topic, port)


def allow_writes(port: int, topic: str) -> None:
    """Take back what ``forbid_writes`` said. Raises ``StackError`` where the broker refuses."""
    body = struct.pack(">i", 1) + _topic_rule(topic, _ANY, _ANY, principal=None)
    cursor = Cursor(_ask(port, DELETE_ACLS, ACLS_VERSION, body))
    cursor.number("i")
    _check_all(cursor, topic, port)


def _topic_rule(topic: str, operation: int, permission: int, *, principal: str | None = "User:*") -> bytes:
    who = _text(principal) + _text("*") if principal is not None else struct.pack(">hh", -1, -1)
    return struct.pack(">b", _TOPIC) + _text(topic) + struct.pack(">b", _LITERAL) + who + bytes((operation, permission))


def _check_all(cursor: Cursor, topic: str, port: int) -> None:
    for _ in range(cursor.number("i")):
        code, message = cursor.number("h"), cursor.text()
        if code:
            raise StackError(f"the rights on {topic} were not changed: {message} (error {code})", where=f"port {port}")
        if cursor.at == len(cursor.data):
            return
        break  # an answer to a removal goes on with the rules removed


def _ask(port: int, api: int, version: int, body: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
            return ask(connection, api, version, body)
    except (OSError, ValueError, struct.error) as error:
        raise StackError(f"does not answer: {error}", where=f"127.0.0.1:{port}") from error


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data
