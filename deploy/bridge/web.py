"""An HTTP server of aiohttp's on one address, for the languages that speak it."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from deploy.bridge.language import PortError
from device.system.loudness import Loudness
from device.system.printable import printable

log = logging.getLogger(__name__)

REQUEST_LIMIT_BYTES = 16384
MOST_CONNECTIONS = 128  # then the oldest give way: a PLC's are not to be refused for want of descriptors
_ROOM_EVERY_S = 0.2


class Site:
    """open() and close(); `section` of bridge.toml is named where it cannot listen."""

    def __init__(self, app: web.Application, section: str, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, logger=_server_log(section), handle_signals=False)
        self._section = section
        self._host = host
        self._port = port
        self._making_room: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises PortError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            raise PortError(
                f"[{self._section}] cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from None
        self._making_room = asyncio.create_task(self._make_room())

    async def close(self) -> None:
        if self._making_room is not None:
            self._making_room.cancel()
        await self._runner.cleanup()

    async def _make_room(self) -> None:
        while (server := self._runner.server) is not None:
            for oldest in server.connections[:-MOST_CONNECTIONS]:
                oldest.force_close()
            await asyncio.sleep(_ROOM_EVERY_S)


def _server_log(section: str) -> logging.Logger:
    """What aiohttp itself has to say; of requests that are none, one line now and then, and no traceback."""
    server = log.getChild(section)
    server.filters[:] = [_Malformed(section)]
    return server


class _Malformed(logging.Filter):
    def __init__(self, section: str) -> None:
        super().__init__()
        self._section = section
        self._loudness = Loudness()

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if not isinstance(fault, (HttpProcessingError, web.RequestPayloadError)):
            return True
        reason = printable(str(fault).partition("message:")[2].strip().partition("\n")[0])[:200]
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "[%s] a request that cannot be read: %s", (self._section, reason)
        return self._loudness.level() == logging.WARNING
