"""The page of `aim` over HTTP, for one person at a time who has the link that the terminal shows.

The link's code opens the page once: it is exchanged for a cookie, and is worth nothing afterwards. Without
the cookie there is a form that asks for the code, and nothing else. A request that names another host than
ours (a page elsewhere that has its name lead here) is refused. Everything is bounded: connections, the time
and size of a request.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page")
LIMIT_BYTES = 64 * 1024  # of what is sent to us
CONNECTIONS = 12
REQUEST_S = 15.0  # from its first byte to its last answer
_COOKIE = "edgevision-aim"
_COOKIES = re.compile(
    rf"(?:^|;) *{_COOKIE}=([^;\s]*)"
)  # beside those of other pages of this host, whatever they are
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # that are not taken for one another
_CODE = 10  # of them: 49 bits, to be guessed over the network within the time of one setting-up
_OPEN = ("/aim.css",)  # what the page that asks for the code needs
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Query = Mapping[str, str]
Answer = tuple[str, bytes]
"""A content type, and what is sent."""


class Unwanted(Exception):
    """A request that cannot be served: the message is the answer."""


class AimSite:
    """What there is: GET {path: query -> answer}, POST {path: content -> JSON}. Each may raise Unwanted."""

    def __init__(
        self, get: Mapping[str, Callable[[Query], Answer]], post: Mapping[str, Callable[[Any], Any]]
    ) -> None:
        self.get = get
        self.post = post


class Server(ThreadingHTTPServer):
    """Serves a site on an address; `link` opens it. serve_forever() in a thread, shutdown()."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], site: AimSite) -> None:
        """Raises OSError: the address cannot be had."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.site = site
        self.asked_s = time.monotonic()  # when somebody with a cookie asked last
        self.code = "".join(secrets.choice(_LETTERS) for _ in range(_CODE))
        self._is_used = False
        self._cookie = secrets.token_urlsafe(24)
        self._guard = threading.Lock()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        super().__init__(address, _Handler)

    @property
    def host(self) -> str:
        """As a browser names it."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/"

    @property
    def link(self) -> str:
        return f"{self.address}?token={self.code}"

    def exchange(self, code: str) -> str | None:
        """The cookie for the code, once."""
        typed = code.strip().lower().encode("utf-8", "replace")
        with self._guard:
            if self._is_used or not hmac.compare_digest(typed, self.code.encode()):
                return None
            self._is_used = True
            return self._cookie

    def knows(self, cookie: str) -> bool:
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self._cookie.encode())

    def serves(self, host: str) -> bool:
        """Whether a request for this host is meant for us: by our address, or through a tunnel."""
        name = host.rpartition(":")[0] or host
        return host == self.host or name in ("localhost", "127.0.0.1", "[::1]")

    # -- bounds

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._guard:
            if len(self._open) >= CONNECTIONS:
                return False
            self._open[id(request)] = (request, time.monotonic())
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Several times a second: who is too slow is cut off."""
        now_s = time.monotonic()
        with self._guard:
            slow = [one for one, since_s in self._open.values() if now_s - since_s > REQUEST_S]
        for one in slow:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no news; anything else is."""
        fault = sys.exc_info()[1]
        if not isinstance(fault, OSError):
            log.error("fault in a request of %s", client_address[0], exc_info=fault)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "EdgeVision"
    sys_version = ""
    timeout = REQUEST_S

    def do_GET(self) -> None:
        path, _, text = self.path.partition("?")
        query = {name: values[0] for name, values in parse_qs(text).items()}
        if not self.server.serves(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.FORBIDDEN, "this is not the host that was asked for")
        elif path == "/" and "token" in query:
            self._let_in(query["token"])
        elif path == "/" and not self._has_cookie():
            self._ask_for_code()
        elif path in _OPEN or self._is_known():
            self._get(path, query)

    def do_POST(self) -> None:
        if not self.server.serves(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.FORBIDDEN, "this is not the host that was asked for")
        elif self._is_known():
            self._post(self.path.partition("?")[0])

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)

    def _let_in(self, token: str) -> None:
        cookie = self.server.exchange(token)
        if cookie is None:
            self._refuse(
                HTTPStatus.FORBIDDEN, "this link has been used, or is none: start `device aim` again"
            )
            return
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header("Set-Cookie", f"{_COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/")
        self._end(b"", "text/plain")

    def _ask_for_code(self) -> None:
        self.send_response(HTTPStatus.OK)
        self._end((PAGE / "door.html").read_bytes(), _KINDS[".html"])

    def _has_cookie(self) -> bool:
        found = _COOKIES.search(self.headers.get("Cookie", ""))
        return found is not None and self.server.knows(found[1])

    def _is_known(self) -> bool:
        if self._has_cookie():
            self.server.asked_s = time.monotonic()
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "open the link that `device aim` has shown")
        return False

    def _get(self, path: str, query: Query) -> None:
        name = "index.html" if path == "/" else path.removeprefix("/")
        try:
            if path in self.server.site.get:
                kind, content = self.server.site.get[path](query)
            elif name in {file.name for file in PAGE.iterdir()} and Path(name).suffix in _KINDS:
                kind, content = _KINDS[Path(name).suffix], (PAGE / name).read_bytes()
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such thing")
                return
        except Unwanted as problem:
            self._refuse(HTTPStatus.CONFLICT, str(problem))
            return
        self.send_response(HTTPStatus.OK)
        self._end(content, kind)

    def _post(self, path: str) -> None:
        action = self.server.site.post.get(path)
        if action is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such thing")
            return
        try:
            answer = action(self._content())
        except Unwanted as problem:
            self._refuse(HTTPStatus.CONFLICT, str(problem))
            return
        self.send_response(HTTPStatus.OK)
        self._end(json.dumps(answer).encode(), "application/json")

    def _content(self) -> Any:
        """What was sent. Raises Unwanted: too much, or no JSON; a form of another page cannot send JSON."""
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise Unwanted("must be application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= LIMIT_BYTES):
            raise Unwanted(f"must have a length of at most {LIMIT_BYTES} bytes")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Unwanted(f"is not JSON: {error}") from error

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.send_response(status)
        self._end(f"{why}\n".encode(), "text/plain; charset=utf-8")

    def _end(self, content: bytes, kind: str) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
