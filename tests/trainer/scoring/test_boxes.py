"""Boxes against masks."""

from __future__ import annotations

import numpy as np
import pytest

from device.image.geometry import Box, Size
from trainer.scoring.boxes import VerdictBoxes, around_parts, average_precision, figures, iou

SIZE = Size(100, 100)
LEFT, RIGHT = Box(10, 10, 20, 20), Box(60, 60, 20, 20)


def boxed(
    *boxes: Box, truth: tuple[Box, ...] | None = (LEFT,), rejected: bool = True, score: float = 0.9
) -> VerdictBoxes:
    return VerdictBoxes(tuple((box, score - 0.1 * n) for n, box in enumerate(boxes)), truth, SIZE, rejected)


def test_what_two_boxes_have_in_common() -> None:
    assert iou(LEFT, LEFT) == 1.0
    assert iou(LEFT, RIGHT) == 0.0
    assert iou(LEFT, Box(20, 10, 20, 20)) == pytest.approx(1 / 3)
    assert iou(LEFT, Box(30, 10, 20, 20)) == 0.0


def test_parts_of_a_mask_that_touch_at_a_corner_are_one_and_specks_none() -> None:
    mask = np.zeros((50, 60), bool)
    mask[5:10, 5:10] = mask[10:15, 10:20] = True
    mask[40, 50] = True
    assert around_parts(mask) == (Box(5, 5, 15, 10),)


def test_the_strongest_box_is_compared_with_the_defect_it_fits_best() -> None:
    found = figures([boxed(RIGHT, LEFT, truth=(LEFT, RIGHT)), boxed(Box(20, 10, 20, 20)), boxed()])
    assert found.n == 3
    assert found.best_iou == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found.best_iou_error == pytest.approx(np.std([1, 1 / 3, 0], ddof=1) / np.sqrt(3))


def test_who_counts_where() -> None:
    missed = boxed(truth=(LEFT,), rejected=False)
    unmasked = boxed(Box(0, 0, 100, 100), truth=None)
    found = figures([missed, unmasked])
    assert (found.n, found.best_iou, found.large_share) == (0, None, 1.0)
    assert found.ap30 == 0.0  # the missed one has a defect that no box finds


def test_a_box_over_half_of_the_image_points_at_nothing() -> None:
    images = [
        boxed(Box(0, 0, 100, 51)),
        boxed(Box(0, 0, 100, 50)),
        boxed(LEFT),
        boxed(LEFT, Box(0, 0, 90, 90)),
    ]
    assert figures(images).large_share == 0.5


def test_each_defect_is_found_once_and_strays_cost_precision() -> None:
    assert average_precision([boxed(LEFT)]) == 1.0
    assert average_precision([boxed(LEFT, LEFT)]) == 1.0  # the second comes after all were found
    assert average_precision([boxed(RIGHT, LEFT)]) == 0.5
    assert average_precision([boxed(LEFT, truth=(LEFT, RIGHT))]) == 0.5
    stray_on_good = boxed(LEFT, truth=(), score=0.95)
    assert average_precision([boxed(LEFT), stray_on_good]) == 0.5
    assert average_precision([boxed(Box(20, 10, 20, 20))]) == 1.0  # an IoU of 1/3
    assert average_precision([boxed(Box(22, 10, 20, 20))]) == 0.0  # of 1/4
    assert average_precision([stray_on_good]) is None


def test_nothing_to_tell_from() -> None:
    found = figures([])
    assert (found.n, found.best_iou, found.ap30, found.large_share) == (0, None, None, None)
