"""What a language of the bridge is: a module with one class that opens, hears and closes.

Modbus, HTTP, metrics and webhooks are such modules, and bridge.py names them in one list. A further one (OPC
UA, a history in SQL) is a further module and a further line there; nothing else has to change. What a
language wants to know it reads from the Plant; what has just happened it hears. All of it lives in one
thread, the event loop's: nothing that hears may wait.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from deploy.bridge.plant import News
from device.errors import EdgeVisionError


class PortError(EdgeVisionError, OSError):
    """Nothing can listen there: the port is taken, or the address is not this machine's."""

    exit_code: ClassVar[int] = 17


class Language(Protocol):
    """One protocol of the factory."""

    async def open(self) -> None:
        """Begin. Raises an EdgeVisionError where that cannot be: PortError, StorageError."""

    def hear(self, news: News) -> None:
        """Something a station said, or that is true of it from now on. Never waits, never raises."""

    async def close(self) -> None:
        """End; called once, also where open() failed."""
