"""The fault proxy by itself: what passes, what does not, and what either side notices."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from broker_bridge.chaos.tcp_proxy import Behaviour, TcpProxy

WAIT_S = 5.0


class EchoServer:
    """Answers every byte with itself and remembers what it got."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.got = bytearray()
        self.ends: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.got += data
                    connection.sendall(data)
                self.ends.append("fin")
            except ConnectionError:
                self.ends.append("reset")


@pytest.fixture
def server() -> Iterator[EchoServer]:
    made = EchoServer()
    yield made
    made.socket.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[TcpProxy]:
    with TcpProxy(target=server.address) as made:
        yield made


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_S)


def ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    answer = b""
    while len(answer) < len(text):
        answer += connection.recv(65_536)
    return answer


def eventually(holds: object) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_plain_relay_passes_bytes_both_ways_and_an_end_too(proxy: TcpProxy, server: EchoServer) -> None:
    sent = bytes(range(256)) * 4_000
    with connect(proxy) as connection:
        got = bytearray()
        reading = threading.Thread(target=lambda: got.extend(ask_all(connection, len(sent))))
        reading.start()
        connection.sendall(sent)
        reading.join(WAIT_S)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"", "the server's end follows ours"
    assert bytes(got) == sent
    assert server.ends == ["fin"]
    eventually(lambda: proxy.open_links == 0)
    assert proxy.passed.request_bytes == proxy.passed.answer_bytes == len(sent)


def ask_all(connection: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        got += connection.recv(65_536) or pytest.fail("an orderly end")
    return bytes(got)


def test_latency_is_paid_each_way_and_keeps_the_order(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        ask(connection, b"warm")
        proxy.behave(Behaviour(latency_ms=60, jitter_ms=20))
        started = time.monotonic()
        assert ask(connection, b"0123456789") == b"0123456789"
        assert time.monotonic() - started >= 0.12
        parts = b"".join(b"%03d" % number for number in range(100))
        for start in range(0, len(parts), 3):
            connection.sendall(parts[start : start + 3])
        assert ask_all(connection, len(parts)) == parts


def test_bandwidth_bounds_each_direction(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        ask(connection, b"warm")
        proxy.behave(Behaviour(bytes_per_s=100_000))
        started = time.monotonic()
        assert len(ask(connection, b"x" * 30_000)) == 30_000
        assert time.monotonic() - started >= 0.3


def test_a_cut_resets_both_sides_and_new_connections_work(proxy: TcpProxy, server: EchoServer) -> None:
    with connect(proxy) as connection:
        ask(connection, b"warm")
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    eventually(lambda: server.ends == ["reset"])
    with connect(proxy) as connection:
        assert ask(connection, b"again") == b"again"


def test_half_open_takes_connections_and_bytes_and_says_nothing(proxy: TcpProxy, server: EchoServer) -> None:
    with connect(proxy) as old:
        ask(old, b"warm")
        proxy.behave(Behaviour(swallow=True))
        with connect(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.2)
                connection.sendall(b"lost")
                with pytest.raises(TimeoutError):
                    connection.recv(1)
        assert bytes(server.got) == b"warm"
        assert server.ends == [], "the end of the new connection is lost as well"
        proxy.heal()
        old.settimeout(WAIT_S)
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with connect(proxy) as connection:
        assert ask(connection, b"again") == b"again"


def test_lost_answers_arrive_at_the_target_and_are_never_heard_of(proxy: TcpProxy, server: EchoServer) -> None:
    with connect(proxy) as connection:
        ask(connection, b"warm")
        proxy.behave(Behaviour(drop_answers=True))
        connection.settimeout(0.2)
        connection.sendall(b" done")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        eventually(lambda: bytes(server.got) == b"warm done")
        proxy.heal()
        connection.settimeout(WAIT_S)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_refusing_is_felt_as_nobody_listening(proxy: TcpProxy) -> None:
    with connect(proxy) as open_before:
        ask(open_before, b"warm")
        proxy.behave(Behaviour(refuse=True))
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert ask(open_before, b"still") == b"still"
        proxy.heal()
        with connect(proxy) as connection:
            assert ask(connection, b"again") == b"again"


def test_cut_after_bytes_lets_exactly_those_pass(proxy: TcpProxy, server: EchoServer) -> None:
    proxy.behave(Behaviour(cut_after_bytes=10))
    with connect(proxy) as connection:
        connection.sendall(b"0123456789ABCDEF")
        with pytest.raises(ConnectionResetError):
            ask_all(connection, 16)
    assert bytes(server.got) in (b"0123456789", b""), "a reset may overtake what was on its way"


def test_a_new_target_takes_over(proxy: TcpProxy, server: EchoServer) -> None:
    other = EchoServer()
    with connect(proxy) as connection:
        ask(connection, b"first")
        proxy.retarget(other.address)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connect(proxy) as connection:
        assert ask(connection, b"second") == b"second"
    assert (bytes(server.got), bytes(other.got)) == (b"first", b"second")
    other.socket.close()


def test_a_target_that_is_away_is_a_reset(proxy: TcpProxy, server: EchoServer) -> None:
    server.socket.close()
    dead = socket.create_server(("127.0.0.1", 0))
    address = dead.getsockname()
    dead.close()
    proxy.retarget(address)
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)


def test_stopping_ends_what_is_open(server: EchoServer) -> None:
    proxy = TcpProxy(target=server.address).start()
    with connect(proxy) as connection:
        ask(connection, b"warm")
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.stop()
