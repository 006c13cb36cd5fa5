"""What a mask marks, whatever program drew it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from device.errors import FrameError
from trainer.data import masks


def drawn(tmp_path, image, suffix=".png"):
    """(what is marked (H, W), how it was read) of an image written as a mask."""
    path = tmp_path / f"mask{suffix}"
    assert cv2.imwrite(str(path), image)
    found = masks.read([path])
    return found.marked, found.read_as


@pytest.fixture
def classes():
    """Two things of the classes 1 and 3, 256 and 144 px."""
    mask = np.zeros((96, 96), np.uint8)
    mask[30:46, 30:46] = 1
    mask[80:92, 80:92] = 3
    return mask


def test_all_classes_are_marked(tmp_path, classes):
    marked, read_as = drawn(tmp_path, classes)
    assert (marked == (classes > 0)).all()
    assert read_as == ""


def test_a_border_of_255_around_classes_is_not(tmp_path, classes):
    bordered = classes.copy()
    bordered[cv2.dilate(classes, np.ones((5, 5), np.uint8)) > 0] = 255
    bordered[classes > 0] = classes[classes > 0]
    marked, read_as = drawn(tmp_path, bordered)
    assert (marked == (classes > 0)).all()
    assert read_as == "class numbers with a border of 255"


def test_255_far_from_a_class_is_a_thing(tmp_path, classes):
    classes[classes == 3] = 255
    assert (drawn(tmp_path, classes)[0] == (classes > 0)).all()


@pytest.mark.parametrize("ground", [0, 255])
def test_a_drawing_on_a_transparent_ground(tmp_path, classes, ground):
    """White all over with the shape in alpha, or black."""
    opaque = np.uint8(classes > 0) * 255
    marked, read_as = drawn(tmp_path, np.dstack([np.full((96, 96), ground, np.uint8)] * 3 + [opaque]))
    assert (marked == (classes > 0)).all()
    assert read_as == "a drawing on a transparent ground"


def test_an_opaque_alpha_says_nothing(tmp_path, classes):
    marked, read_as = drawn(tmp_path, np.dstack([classes] * 3 + [np.full((96, 96), 255, np.uint8)]))
    assert (marked == (classes > 0)).all()
    assert read_as == ""


def test_dark_and_bright_colours(tmp_path, classes):
    coloured = np.zeros((96, 96, 3), np.uint8)
    coloured[classes == 1] = (0, 0, 60)
    coloured[classes == 3] = (255, 255, 0)
    assert (drawn(tmp_path, coloured)[0] == (classes > 0)).all()


def test_many_numbers_of_things_in_16_bits(tmp_path, classes):
    assert (drawn(tmp_path, classes.astype(np.uint16) * 300)[0] == (classes > 0)).all()


def test_soft_edges_are_cut_at_half_of_their_own_height(tmp_path):
    mask = np.zeros((96, 96), np.float32)
    mask[20:40, 20:40], mask[60:80, 60:80] = 250, 90
    soft = cv2.GaussianBlur(mask, (0, 0), 3).round().astype(np.uint8)
    marked = drawn(tmp_path, soft)[0]
    for top in (20, 60):
        assert marked[top : top + 20, top : top + 20].mean() > 0.9
    assert marked.sum() == pytest.approx((mask > 0).sum(), rel=0.1)


def test_the_noise_of_a_jpeg_is_not_marked(tmp_path):
    mask = np.zeros((96, 96), np.uint8)
    cv2.circle(mask, (40, 40), 13, 255, -1)
    marked = drawn(tmp_path, mask, ".jpg")[0]
    assert (marked != (mask > 0)).mean() < 0.01


def test_nothing_is_marked_in_an_empty_mask(tmp_path):
    for suffix in (".png", ".jpg"):
        found = (
            masks.read([tmp_path / f"mask{suffix}"])
            if drawn(tmp_path, np.zeros((16, 16), np.uint8), suffix)
            else None
        )
        assert found is not None
        assert (found.ratio, found.all_corners) == (0.0, False)


def test_several_files_mark_together(tmp_path, classes):
    for number in (1, 3):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.uint8(classes == number))
    both = masks.read([tmp_path / "1.png", tmp_path / "3.png"])
    assert (both.marked == (classes > 0)).all()
    assert both.ratio == pytest.approx(400 / 96**2)
    assert cv2.imwrite(str(tmp_path / "2.png"), classes[:50])
    with pytest.raises(FrameError, match="must be of one size"):
        masks.read([tmp_path / "1.png", tmp_path / "2.png"])


def test_a_damaged_mask_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FrameError, match=r"a\.png: truncated PNG"):
        masks.read([tmp_path / "a.png"])
