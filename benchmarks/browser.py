"""A real Chromium without a window, for the dashboard's tests, benchmark and screenshots."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",  # as root, in a container; it only ever opens our own page
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
)


def chromium() -> str | None:
    """The path of the system's browser; playwright's own is not downloaded."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser with a profile of its own. Raises SystemExit: none is installed."""
    path = chromium()
    if path is None:
        raise SystemExit(f"error: no browser on PATH (looked for {', '.join(NAMES)}); apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
