"""Every file below a folder is used or counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fixtures_data import write_image

from trainer.layouts.inventory import Inventory, printable, some


def left_out(root: Path, *used: str) -> list[str]:
    return list(Inventory.of(root).left_out([root / name for name in used]))


def test_what_is_used_is_not_left_out(tmp_path):
    write_image(tmp_path / "a/1.png", 1)
    assert left_out(tmp_path, "a/1.png") == []
    assert left_out(tmp_path) == ["a: 1 image left out: 1.png"]


def test_names_that_differ_in_case_only_are_two_files(tmp_path):
    write_image(tmp_path / "Good/IMG_1.png", 1)
    write_image(tmp_path / "Good/img_1.PNG", 2)
    write_image(tmp_path / "good/img_1.PNG", 3)
    assert len(Inventory.of(tmp_path).images) == 3


def test_other_files_are_counted_by_their_suffix(tmp_path):
    for name in ("a.pgm", "b.pgm", "c.pgm", "d.pgm", "readme.txt", "LICENSE"):
        (tmp_path / name).write_text("x")
    assert left_out(tmp_path) == [
        "4 files left out, .pgm is no image that is read: a.pgm, b.pgm, c.pgm and 1 more",
        "1 file left out, .txt is no image that is read: readme.txt",
        "1 file left out, no suffix is no image that is read: LICENSE",
    ]


def test_a_jfif_is_an_image(tmp_path):
    (tmp_path / "a.jfif").write_bytes(b"")
    assert [file.name for file in Inventory.of(tmp_path).images] == ["a.jfif"]


def test_links_to_nothing_and_in_circles(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/broken.png").symlink_to("/nonexistent/a.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to("self")
    assert left_out(tmp_path) == [
        "1 left out, a broken link: a/broken.png",
        "1 left out, a link to a folder above it: a/up",
        "1 left out, cannot be looked at (Too many levels of symbolic links): a/self",
    ]


def test_a_link_to_another_folder_is_walked(tmp_path):
    write_image(tmp_path / "elsewhere/1.png", 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/good").symlink_to(tmp_path / "elsewhere")
    assert [file.name for file in Inventory.of(tmp_path / "set").images] == ["good/1.png"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert left_out(tmp_path) == ["1 left out, neither file nor folder: a.png"]


def test_what_disks_and_archives_leave_behind(tmp_path):
    write_image(tmp_path / "@eaDir/1.png/thumb.jpg", 1)
    (tmp_path / ".DS_Store").write_text("x")
    assert left_out(tmp_path) == [
        "1 left out, hidden: .DS_Store",
        "1 left out, made by a disk or an archive, not by a camera: @eaDir (1 files)",
    ]


def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path, monkeypatch):
    """Whoever runs the tests as root may read everything: the system's answer is given in its place."""
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refused(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert left_out(tmp_path) == ["1 left out, a folder that cannot be read (Permission denied): locked"]


def test_empty_folders_are_known(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    assert Inventory.of(tmp_path).empty == ["a/b"]


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path):
    write_image(tmp_path / "plain.png", 1).rename(tmp_path / os.fsdecode(b"Geh\xe4use.png"))
    [file] = Inventory.of(tmp_path).images
    assert file.name == "Geh\\xe4use.png"
    assert file.path.read_bytes().startswith(b"\x89PNG")
    assert printable("Gehäuse") == "Gehäuse"


@pytest.mark.parametrize(("count", "shown"), [(1, "0"), (3, "0, 1, 2"), (5, "0, 1, 2 and 2 more")])
def test_some_of_many_names(count, shown):
    assert some([str(number) for number in range(count)]) == shown
