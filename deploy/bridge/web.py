"""An HTTP server of aiohttp's on one address, for the languages that speak it."""

from __future__ import annotations

from aiohttp import web

from deploy.bridge.language import PortError

REQUEST_LIMIT_BYTES = 16384


class Site:
    """open() and close(); `section` of bridge.toml is named where it cannot listen."""

    def __init__(self, app: web.Application, section: str, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self._section = section
        self._host = host
        self._port = port

    async def open(self) -> None:
        """Raises PortError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            raise PortError(
                f"[{self._section}] cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from None

    async def close(self) -> None:
        await self._runner.cleanup()
