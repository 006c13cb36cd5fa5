"""The dashboard's files over HTTP, for deploy/demo.sh and the tests: any web server will do in a plant."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DASHBOARD = Path(__file__).resolve().parent / "dashboard"
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    # What a page's own <meta> may not say; the rest of the policy stands in index.html.
    "Content-Security-Policy": "frame-ancestors 'none'",
}


class _Handler(SimpleHTTPRequestHandler):
    """Files only; silent, because the demo's output is its verdicts."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012 (as given)

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *values: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up in the middle of a file is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def serving(folder: Path = DASHBOARD, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve `folder` on a free port. Yields the address, without a slash at its end."""
    handler = functools.partial(_Handler, directory=str(folder))
    with _Server((host, 0), handler) as server:
        threading.Thread(target=server.serve_forever, name="dashboard", daemon=True).start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
