"""The registers of a station, version 1: names, addresses, and how values become 16-bit words.

docs/guide/bridge-plc.md has the same table for people; tests hold the two together. Numbers of two words have
the high word first. Texts are UTF-8, two bytes a word, the first in the high byte, cut to their length and
filled with zeros. Addresses are those on the wire, from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1
STATUS_WORDS = 100  # what a PLC reads, in one request
WORDS = 128

NO_SCORE = 0xFFFF
VERDICTS = {None: 0, "OK": 1, "NG": 2, "MARGINAL": 3, "ERROR": 4}
STATES = {None: 0, "online": 1, "stopped": 2, "offline": 3}
HEALTHS = {None: 0, "init": 1, "ready": 2, "degraded": 3, "alert": 4}


@dataclass(frozen=True, slots=True)
class Field:
    """A value's place: its first address and its number of words."""

    address: int
    words: int = 1

    def put(self, image: list[int], value: int | str) -> None:
        """Write a whole number (modulo what fits) or a text into an image of all registers."""
        if isinstance(value, str):
            size = 2 * self.words
            content = value.encode("utf-8", "replace")[:size].ljust(size, b"\0")
        else:
            content = (int(value) % (1 << 16 * self.words)).to_bytes(2 * self.words, "big")
        for index in range(self.words):
            image[self.address + index] = int.from_bytes(content[2 * index : 2 * index + 2], "big")

    def number(self, image: list[int]) -> int:
        """The whole number that stands there."""
        value = 0
        for word in image[self.address : self.address + self.words]:
            value = value << 16 | word
        return value

    def text(self, image: list[int]) -> str:
        """The text that stands there, up to its first zero; what is no UTF-8 becomes U+FFFD."""
        words = image[self.address : self.address + self.words]
        content = b"".join(word.to_bytes(2, "big") for word in words)
        return content.partition(b"\0")[0].decode("utf-8", "replace")


FIELDS = {
    "map_version": Field(0),
    "bridge_session": Field(1),
    "heartbeat": Field(2),
    "status": Field(3),
    "error_code": Field(4),
    "error_trigger": Field(5, 2),
    "station_state": Field(7),
    "health": Field(8),
    "product": Field(9),
    "product_state": Field(10),
    "result_sequence": Field(16, 2),
    "verdict": Field(18),
    "score": Field(19),
    "threshold": Field(20),
    "result_trigger": Field(21, 2),
    "processing_us": Field(23, 2),
    "event_number": Field(25, 2),
    "regions": Field(27),
    "captured_s": Field(28, 2),
    "captured_ms": Field(30),
    "result_part_id": Field(32, 16),
    "event_id": Field(48, 24),
    "result_sequence_after": Field(72, 2),
    "count_ok": Field(74, 2),
    "count_ng": Field(76, 2),
    "count_marginal": Field(78, 2),
    "count_error": Field(80, 2),
    "missed_triggers": Field(82, 2),
    "control": Field(100),
    "trigger_number": Field(101, 2),
    "product_wanted": Field(103),
    "product_control": Field(104),
    "part_id": Field(112, 16),
}

STATUS_BITS = {
    name: 1 << bit
    for bit, name in enumerate(
        (
            *("ready", "trigger_ack", "busy", "result_valid", "stale", "trigger_error", "degraded", "alert"),
            *("ok", "ng", "marginal", "error"),
        )
    )
}
CONTROL_BITS = {"trigger": 1, "result_ack": 2}

ERRORS = {
    "none": 0,
    "station_away": 1,
    "refused": 2,
    "no_verdict_in_time": 3,
    "busy": 4,
    "number_zero": 5,
    "part_id": 6,
}
