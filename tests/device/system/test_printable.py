"""One line stays one line."""

from __future__ import annotations

import pytest

from device.system.printable import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gehäuse 7.png", "Gehäuse 7.png"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u2028", "\\u2028"),
        ("\udce4", "\\udce4"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_undecodable_bytes_of_a_file_name_can_be_kept() -> None:
    assert one_line("k\udce4se\n7.png") == "k\udce4se\\n7.png"
