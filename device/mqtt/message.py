"""One message to the broker, before it has a number on a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from device.outbox.database import OutboxRow

LARGE_BYTES = 2048  # a verdict is half of that; what is larger and no verdict can wait


@dataclass(frozen=True, slots=True)
class Message:
    """One publish. Of a row (then `bit` says which of its two), of a state, or of nobody.

    `properties` by paho's names.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] | None = None
    row: OutboxRow | None = None
    bit: int = 0

    @property
    def key(self) -> str:
        """What tells a message that is sent again, on this connection or another."""
        return f"message on {self.topic}" + (f", verdict {self.row.id}" if self.row is not None else "")


def is_large(message: Message) -> bool:
    """Whether it is something optional (a picture, a history) that a broker may find too large."""
    return message.row is None and len(message.payload) > LARGE_BYTES


def as_bytes(payload: str | bytes) -> bytes:
    """A payload as it goes out: text as UTF-8."""
    return payload.encode() if isinstance(payload, str) else payload
