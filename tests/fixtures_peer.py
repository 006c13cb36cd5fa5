"""A broker in a few lines, for what Mosquitto cannot do: speak MQTT 3.1.1 only, have a quota, fall silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14
QUOTA_EXCEEDED = 0x97


@dataclass(frozen=True)
class Published:
    """A PUBLISH as it arrived. `connection` counts from 1."""

    connection: int
    topic: str
    payload: bytes


@dataclass
class Peer:
    """Takes connections one after the other, and says to each message what `answer` says of it.

    `level`: the only version that it takes, 4 for MQTT 3.1.1 or 5. `answer`: a reason code for a message, or
    None for silence. `connack`: whether a CONNECT is answered.
    """

    level: int = 5
    answer: Callable[[Published], int | None] = lambda message: 0
    connack: bool = True
    receive_maximum: int = 20
    published: list[Published] = field(default_factory=list)
    connections: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def topics(self, name: str) -> list[bytes]:
        """The payloads whose topic ends so, in order."""
        return [message.payload for message in self.published if message.topic.endswith(f"/{name}")]

    def close(self) -> None:
        for end in (self._server, self._client):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                self._client, _ = self._server.accept()
            except OSError:
                return
            with self._client, suppress(OSError, EOFError):
                self._attend(self._client)

    def _attend(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        with stream:
            while True:
                kind, flags, body = _packet(stream)
                if kind == CONNECT and not self._welcome(client, body[6]):
                    return
                if kind == PUBLISH:
                    self._take(client, flags, body)
                elif kind == PINGREQ:
                    client.sendall(b"\xd0\0")
                elif kind == DISCONNECT:
                    return

    def _welcome(self, client: socket.socket, level: int) -> bool:
        """False where the connection ends here."""
        if level != self.level:
            self.refused += 1
            client.sendall(b"\x20\x02\0\x01")
            return False
        self.connections += 1
        if not self.connack:
            client.recv(4096)  # until the other side has had enough
            return False
        maximum = b"\x21" + self.receive_maximum.to_bytes(2, "big")
        client.sendall(b"\x20\x06\0\0\x03" + maximum if level == 5 else b"\x20\x02\0\0")
        return True

    def _take(self, client: socket.socket, flags: int, body: bytes) -> None:
        length = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        mid = b""
        if flags & 6:
            mid, rest = rest[:2], rest[2:]
        if self.level == 5:
            rest = rest[1 + rest[0] :]
        message = Published(self.connections, topic, rest)
        self.published.append(message)
        code = self.answer(message)
        if mid and code is not None:
            client.sendall(b"\x40\x03" + mid + bytes([code]) if self.level == 5 else b"\x40\x02" + mid)


def _packet(stream: object) -> tuple[int, int, bytes]:
    head = _exactly(stream, 1)[0]
    length = shift = 0
    while True:
        byte = _exactly(stream, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head >> 4, head & 15, _exactly(stream, length)


def _exactly(stream: object, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


@pytest.fixture
def make_peer() -> Iterator[Callable[..., Peer]]:
    """Peers that listen; all are closed at the end."""
    peers: list[Peer] = []

    def make(**settings: object) -> Peer:
        peers.append(Peer(**settings))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()
