"""The HTTP ports, as whoever sends bytes meets them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fixtures_bridge import BridgeProcess, beside_a_broker, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.bridge.web import MOST_CONNECTIONS

PATHS = ("/metrics", "/v1/stations", "/v1/stations/press-4/trigger", "/healthz")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A broker and a bridge that all tests share."""
    for bridge in beside_a_broker(tmp_path_factory.mktemp("web"), http="", metrics=""):
        wait_until(lambda log=bridge.log: "connected, after" in log(), "the broker")
        yield bridge


def exchange(port: int, sent: bytes, *, is_all: bool) -> bytes:
    """All that comes back, up to the end of the connection. `is_all`: nothing more will be sent."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), 10) as channel:
        try:
            channel.sendall(sent)
            if is_all:
                channel.shutdown(socket.SHUT_WR)
            while more := channel.recv(65536):
                received += more
        except ConnectionError:
            pass  # it may end the connection at any time
    return received


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    port=st.sampled_from(["http", "metrics"]),
    sent=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda method, path, headers, body: (
                f"{method} {path} HTTP/1.1\r\n".encode()
                + b"".join(name + b": " + text + b"\r\n" for name, text in headers)
                + b"\r\n"
                + body
            ),
            st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "X"]),
            st.sampled_from(PATHS) | st.text(max_size=20),
            st.lists(
                st.tuples(
                    st.sampled_from([b"Host", b"Content-Length", b"Transfer-Encoding", b"Authorization"])
                    | st.binary(max_size=10),
                    st.binary(max_size=20)
                    | st.sampled_from([b"chunked", b"-1", b"99999999999", b"localhost"]),
                ),
                max_size=5,
            ),
            st.binary(max_size=50),
        ),
    ),
)
def test_hostile_requests_cost_their_own_connection_at_most(
    running: BridgeProcess, port: str, sent: bytes
) -> None:
    exchange(running.ports[port], sent, is_all=True)
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = exchange(running.ports["http"], asked, is_all=False)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert running.process is not None
    assert running.process.poll() is None


def test_requests_that_are_none_are_one_line_in_the_log(running: BridgeProcess) -> None:
    begin = len(running.log())
    zipped = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
    bad = b"GET / HTTP/1.1\r\nBad Header\r\n\r\n"
    for _ in range(5):
        for sent in (bad, b"GET / HTTP/9.9\r\n\r\n", bad.replace(b"Bad", b"a" * 9000)):
            assert b" 400 " in exchange(running.ports["http"], sent, is_all=False)
        sent = zipped + b"Content-Length: 3\r\n\r\nabc"
        assert b" 404 " in exchange(running.ports["http"], sent, is_all=False)
    written = running.log()[begin:]
    assert "Traceback" not in written
    assert written.count("a request that cannot be read: ") <= 1


def test_connections_that_say_nothing_give_way_to_others(running: BridgeProcess) -> None:
    """So that they use up no descriptors, which the ports of the other languages need."""
    address = ("127.0.0.1", running.ports["http"])
    silent = [socket.create_connection(address, 10) for _ in range(MOST_CONNECTIONS + 40)]
    try:
        for one in silent[:40]:
            one.settimeout(10)
            assert one.recv(1) == b"", "the oldest are ended"
        asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert exchange(address[1], asked, is_all=False).startswith(b"HTTP/1.1 200 ")
    finally:
        for one in silent:
            one.close()
