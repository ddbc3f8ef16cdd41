"""The link that fails on demand does to a connection what it says."""

from __future__ import annotations

import errno
import socket
import socketserver
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.fixtures.tcp_proxy import HOST, TcpProxy, tcp_proxy


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, until there is no more."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(4096):
                self.request.sendall(data)
        except OSError:
            pass  # broken off, as the test wants it


@pytest.fixture
def link() -> Iterator[TcpProxy]:
    """A link to a server that echoes."""
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with tcp_proxy(server.server_address[1]) as made:
            yield made
        server.shutdown()


def connect(link: TcpProxy) -> socket.socket:
    made = socket.create_connection((HOST, link.port), timeout=10)
    assert echoed(made, b"ready") == b"ready"
    return made


def echoed(end: socket.socket, data: bytes) -> bytes:
    end.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := end.recv(4096)):
        got += piece
    return got


def test_what_is_sent_arrives_and_so_does_the_end(link: TcpProxy) -> None:
    with connect(link) as end:
        data = bytes(range(256)) * 1_000
        assert echoed(end, data) == data
        end.shutdown(socket.SHUT_WR)
        assert end.recv(10) == b""


def test_a_connection_that_is_cut_ends_and_the_next_one_is_whole(link: TcpProxy) -> None:
    with connect(link) as end:
        link.cut()
        assert end.recv(10) == b""
    connect(link).close()


def test_a_connection_that_is_reset_is_broken_off(link: TcpProxy) -> None:
    with connect(link) as end:
        link.reset()
        with pytest.raises(ConnectionResetError):
            end.recv(10)


def test_a_connection_that_vanishes_acknowledges_nothing_and_the_next_one_is_whole(link: TcpProxy) -> None:
    with connect(link) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        link.vanish()
        end.sendall(b"anybody there?")
        with pytest.raises(TimeoutError) as given_up:
            end.recv(10)
        assert given_up.value.errno == errno.ETIMEDOUT, "by the kernel, not by our own time-out"
    connect(link).close()


def test_what_is_held_arrives_when_it_goes_on(link: TcpProxy) -> None:
    with connect(link) as end:
        link.hold()
        end.sendall(b"late")
        end.settimeout(0.1)
        with pytest.raises(TimeoutError):
            end.recv(10)
        end.settimeout(10)
        link.go_on()
        assert end.recv(10) == b"late"


def test_a_slow_link_takes_its_time(link: TcpProxy) -> None:
    with connect(link) as end:
        link.slow(bytes_per_s=10_000)
        started = time.monotonic()
        assert len(echoed(end, b"x" * 1_000)) == 1_000
        assert time.monotonic() - started >= 0.2


def test_a_port_that_refuses_takes_connections_again_later(link: TcpProxy) -> None:
    link.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, link.port), timeout=10)
    link.accept()
    connect(link).close()
