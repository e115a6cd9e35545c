"""Ask a broker over the wire whether it serves: ApiVersions, then Metadata.

A connected socket proves little: the broker listens before it has joined its cluster. Only the few bytes of the
Kafka protocol that this question needs are spoken here; clients belong to `transport`.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

API_VERSIONS = 18
METADATA = 3
METADATA_VERSION = 4
CLIENT_ID = b"broker-bridge-stack"
LARGEST_ANSWER_BYTES = 1_000_000


@dataclass(frozen=True)
class ClusterView:
    """What one broker says of its cluster; `brokers` maps node id to port."""

    cluster_id: str
    controller_id: int
    brokers: dict[int, int]


class Cursor:
    """Reads big-endian fields off a response, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, code: str) -> int:
        fmt = struct.Struct(f">{code}")
        (value,) = fmt.unpack_from(self.data, self.at)
        self.at += fmt.size
        return int(value)

    def text(self) -> str:
        length = self.number("h")
        if length < 0:
            return ""
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")


def describe_cluster(port: int, *, timeout_s: float, host: str = "127.0.0.1") -> ClusterView | None:
    """What the broker there says, or None when it does not (yet) answer as a broker does."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            versions = parse_api_versions(ask(connection, API_VERSIONS, 0, b""))
            lowest, highest = versions.get(METADATA, (1, 0))
            if not lowest <= METADATA_VERSION <= highest:
                return None
            no_topics = struct.pack(">i?", 0, False)
            return parse_metadata(ask(connection, METADATA, METADATA_VERSION, no_topics))
    except (OSError, ValueError, struct.error):
        return None


def ask(connection: socket.socket, api_key: int, version: int, body: bytes) -> bytes:
    header = struct.pack(">hhih", api_key, version, api_key, len(CLIENT_ID)) + CLIENT_ID
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    (size,) = struct.unpack(">i", receive(connection, 4))
    if not 4 <= size <= LARGEST_ANSWER_BYTES:
        raise ValueError(f"not a Kafka response: {size} bytes announced")
    answer = receive(connection, size)
    (correlation,) = struct.unpack_from(">i", answer)
    if correlation != api_key:
        raise ValueError(f"not the answer to this request: correlation id {correlation}")
    return answer[4:]


def receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ValueError("connection closed in the middle of an answer")
        parts += part
    return bytes(parts)


def parse_api_versions(answer: bytes) -> dict[int, tuple[int, int]]:
    cursor = Cursor(answer)
    if cursor.number("h") != 0:
        raise ValueError("ApiVersions refused")
    return {cursor.number("h"): (cursor.number("h"), cursor.number("h")) for _ in range(cursor.number("i"))}


def parse_metadata(answer: bytes) -> ClusterView:
    cursor = Cursor(answer)
    cursor.number("i")  # throttle time
    brokers: dict[int, int] = {}
    for _ in range(cursor.number("i")):
        node_id, _host, port, _rack = cursor.number("i"), cursor.text(), cursor.number("i"), cursor.text()
        brokers[node_id] = port
    cluster_id, controller_id = cursor.text(), cursor.number("i")
    return ClusterView(cluster_id=cluster_id, controller_id=controller_id, brokers=brokers)
