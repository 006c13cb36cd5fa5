"""Text as spreadsheets and editors write it."""

from __future__ import annotations

import pytest

from device.errors import DataError
from trainer.layouts.text import read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_text("Gehäuse", encoding=encoding)
    assert read_text(path) == "Gehäuse"


def test_what_cannot_be_read_is_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"Geh\xe4use")
    with pytest.raises(DataError, match=r"a\.csv: must be UTF-8 text"):
        read_text(path)
    with pytest.raises(DataError, match=r"b\.csv: cannot be read: No such file"):
        read_text(tmp_path / "b.csv")
