"""The mark beside the outbox."""

from __future__ import annotations

from pathlib import Path

from device.outbox.mark import Count, Mark


def test_what_was_written_is_read(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "mark")
    assert mark.read() == Count(0, 0)
    mark.write(Count(7, 3))
    mark.write(Count(2**40, 2**39))
    mark.close()
    assert Mark(tmp_path / "mark").read() == Count(2**40, 2**39)
    assert Count(7, 3).waiting == 4


def test_a_torn_mark_counts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    mark = Mark(path)
    mark.write(Count(7, 3))
    mark.close()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert Mark(path).read() == Count(0, 0)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert Mark(path).read() == Count(0, 0)


def test_a_place_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "nowhere" / "mark")
    mark.write(Count(1, 0))
    mark.close()
    assert mark.read() == Count(0, 0)
