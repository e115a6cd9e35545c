"""Ports for servers that come and go."""

from __future__ import annotations

import socket

import pytest

from broker_bridge.stack.ports import ephemeral_start, free_port, is_free


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_port_somebody_listens_on_is_not_free(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with listener:
        assert not is_free(port)
    assert is_free(port)


def test_free_ports_are_below_the_ephemeral_range() -> None:
    ports = [free_port() for _ in range(20)]
    assert all(1024 < port < ephemeral_start() for port in ports)
    assert all(is_free(port) for port in ports)


def test_free_ports_avoid_what_they_are_told_to_avoid() -> None:
    everything_but_one = frozenset(range(1, ephemeral_start())) - {port := free_port()}
    with pytest.raises(OSError, match="no free port"):
        free_port(avoid=everything_but_one | {port})
