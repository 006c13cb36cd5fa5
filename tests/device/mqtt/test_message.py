"""One message before it has a number on a connection."""

from __future__ import annotations

from device.mqtt.message import Message, as_bytes
from device.outbox.database import INSPECTION, OutboxRow


def test_a_message_is_known_again_on_another_connection() -> None:
    row = OutboxRow(7, "5e55", INSPECTION, 0.0, "{}")
    assert Message("a/inspection", b"{}", row=row).key == "message on a/inspection, verdict 7"
    assert Message("a/inspection", b"{}", row=row).key != Message("a/defect", b"{}", row=row).key
    assert Message("a/health", b"1").key == Message("a/health", b"2", retain=True).key


def test_text_goes_out_as_utf_8() -> None:
    assert as_bytes("Grün") == b"Gr\xc3\xbcn"
    assert as_bytes(b"\xff") == b"\xff"
