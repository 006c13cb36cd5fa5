"""The page's server: who is let in, once, and what a hostile client can do."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from device.aim import web
from device.aim.web import CONNECTIONS, LIMIT_BYTES, AimSite, Server, Unwanted


def refuse(content: Any) -> Any:
    raise Unwanted("not that")


SITE = AimSite(
    get={"/state": lambda query: ("application/json", json.dumps(dict(query)).encode())},
    post={"/echo": lambda content: content, "/refuse": refuse},
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(web, "REQUEST_S", 1.0)
    running = Server(("127.0.0.1", 0), SITE)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers


def cookie(server: Server) -> str:
    status, _, headers = ask(server, "GET", server.link.partition(server.host)[2])
    assert status == 303
    return headers["Set-Cookie"].partition(";")[0]


JSON = {"Content_Type": "application/json"}


def test_the_link_opens_the_page_once(server: Server) -> None:
    path = server.link.partition(server.host)[2]
    for door in ("/", "/?token="):
        content = ask(server, "GET", door)[1]
        assert (b"<form" in content, server.code.encode() in content) == (True, False)
    assert ask(server, "GET", "/aim.css")[0] == 200, "what the form needs"
    mine = cookie(server)
    assert ask(server, "GET", path)[0] == 403, "the token is used up"
    status, content, headers = ask(server, "GET", "/", Cookie=mine)
    assert status == 200
    assert b"<title>Aim" in content
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_the_code_may_be_typed_in_capitals(server: Server) -> None:
    assert ask(server, "GET", f"/?token=%20{server.code.upper()}%20")[0] == 303


@pytest.mark.parametrize("path", ["/state", "/aim.js", "/index.html", "/frame.jpg", "/?token=guess"])
def test_nothing_without_the_token(server: Server, path: str) -> None:
    assert ask(server, "GET", path)[0] == 403
    assert ask(server, "POST", "/echo", b"{}", **JSON)[0] == 403
    assert ask(server, "GET", path, Cookie="edgevision-aim=guess")[0] == 403


def test_a_name_that_somebody_else_has_lead_here_is_refused(server: Server) -> None:
    """DNS rebinding: the browser has the cookie of another host, and asks for that host."""
    mine = cookie(server)
    assert ask(server, "GET", "/state", Cookie=mine, Host="evil.example")[0] == 403
    assert ask(server, "GET", "/state", Cookie=mine, Host="localhost:9999")[0] == 200, "a tunnel"


def test_only_what_belongs_to_the_page_is_served(server: Server) -> None:
    mine = cookie(server)
    for path in ("/../web.py", "/%2e%2e/web.py", "/nothing", "/__init__.py", "//etc/passwd"):
        assert ask(server, "GET", path, Cookie=mine)[0] == 404, path
    assert ask(server, "GET", "/aim.css", Cookie=mine)[2]["Content-Type"] == "text/css"
    assert json.loads(ask(server, "GET", "/state?a=1", Cookie=mine)[1]) == {"a": "1"}


def test_what_is_handed_in_is_json_and_small(server: Server) -> None:
    mine = {"Cookie": cookie(server), **JSON}
    assert json.loads(ask(server, "POST", "/echo", b'{"a": [1]}', **mine)[1]) == {"a": [1]}
    for body in (b"", b"{", b"\xff", b"[" * 50_000, b"x" * (LIMIT_BYTES + 1)):
        assert ask(server, "POST", "/echo", body, **mine)[0] == 409, body[:9]
    assert ask(server, "POST", "/echo", b"{}", Cookie=mine["Cookie"])[0] == 409, "a form of another page"
    assert ask(server, "POST", "/refuse", b"{}", **mine)[:2] == (409, b"not that\n")
    assert ask(server, "POST", "/nothing", b"{}", **mine)[0] == 404
    for length in ("-1", "1e3", "9" * 12, ""):
        assert ask(server, "POST", "/echo", b"{}", **mine, Content_Length=length)[0] in (400, 409)


def test_slow_and_many_clients_are_cut_off_and_others_are_served(server: Server) -> None:
    mine = cookie(server)
    slow = [socket.create_connection(("127.0.0.1", server.server_address[1])) for _ in range(CONNECTIONS + 5)]
    for one in slow[:CONNECTIONS]:
        one.sendall(b"GET /state HTTP/1.0\r\nX: ")
    begun_s = time.monotonic()
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.1):
            for one in slow[:CONNECTIONS]:
                try:
                    one.sendall(b"x")
                except OSError:
                    continue

    threading.Thread(target=drip, daemon=True).start()
    try:
        assert wait_until_served(server, mine) < 15
        assert time.monotonic() - begun_s < 20
    finally:
        ended.set()
        for one in slow:
            one.close()


def wait_until_served(server: Server, mine: str) -> float:
    """Seconds until an honest client has its answer."""
    begun_s = time.monotonic()
    while True:
        try:
            if ask(server, "GET", "/state", Cookie=mine)[0] == 200:
                return time.monotonic() - begun_s
        except (OSError, http.client.HTTPException):
            assert time.monotonic() - begun_s < 15, "the slow ones hold all connections"


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.0\r\nCookie: a@b=1; c,d=2; expires=x",
        b"GET http://[ HTTP/1.0\r\nX: y",
        b"POST //[ HTTP/1.0\r\nX: y",
        b"GET /?token=%00%ff HTTP/1.0\r\nX: y",
    ],
)
def test_what_no_browser_would_send_is_answered_and_no_fault(
    server: Server, request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), 10) as channel:
        channel.sendall(request_line + f"\r\nHost: {server.host}\r\n\r\n".encode())
        assert channel.recv(100).startswith(b"HTTP/1.0 ")
    assert caplog.text == ""


def test_cookies_of_other_pages_of_this_host_are_no_hindrance(server: Server) -> None:
    cookie = server.exchange(server.code)
    with socket.create_connection(("127.0.0.1", server.server_address[1]), 10) as channel:
        cookies = f"Cookie: a@b=1; edgevision-aim={cookie}; c,d=2"
        channel.sendall(f"GET /aim.js HTTP/1.0\r\nHost: {server.host}\r\n{cookies}\r\n\r\n".encode())
        assert channel.recv(100).startswith(b"HTTP/1.0 200")
