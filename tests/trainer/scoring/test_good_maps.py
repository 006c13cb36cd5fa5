"""What good images reach, what each place shows in them, and the cut that fits masks best."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from device.bundle.calibration import LocalizationSpec, PreprocessSpec
from device.image.geometry import Box, Size
from device.inspection.checks import Checks
from device.inspection.framing import Framing
from device.inspection.localizer import above_level, boxes_by_evidence
from trainer.data.dataset import Sample
from trainer.scoring import good_maps
from trainer.scoring.boxes import iou
from trainer.scoring.good_maps import ImageMap

SIZE = Size(256, 256)
CELLS = (32, 32)
FRAMING = Framing.of(SIZE, PreprocessSpec(SIZE, "stretch", "gray", 0))
PLAIN = LocalizationSpec("otsu", 1, 5.0, 40.0, 0.0)


def seen(evidence: np.ndarray, mask: Path | None = None) -> ImageMap:
    label = int(mask is not None)
    sample = Sample("one.png", Path("one.png"), label, "kind", mask, "one", "train", "0" * 64, SIZE)
    return ImageMap(sample, FRAMING, Checks(0.5, 100.0), evidence.astype(np.float32))


def goods(edge: float = 0.0) -> list[ImageMap]:
    rng = np.random.default_rng(0)
    maps = rng.normal(-6, 0.5, (20, *CELLS))
    maps[:, 0] += edge
    return [seen(one) for one in maps]


def a_defect(peak: float) -> np.ndarray:
    """A blob of evidence that falls off slowly, as maps of strong defects do."""
    y, x = np.mgrid[: CELLS[0], : CELLS[1]]
    distance = np.hypot(x - 16, y - 12)
    return np.maximum(-6 + (peak + 6) * np.exp(-(distance**2) / 18), -6)


def test_nine_of_ten_good_images_stay_below_what_is_reached() -> None:
    found = good_maps.measured(goods())
    peaks = [above_level(one.evidence, FRAMING.placement, found.level).max() for one in goods()]
    assert found.usual == pytest.approx(-6, abs=0.3)
    assert (np.array(peaks) > found.reach).sum() == 2


def test_a_place_that_stands_out_in_good_images_is_known_and_taken_off() -> None:
    plain, edged = good_maps.measured(goods()), good_maps.measured(goods(edge=5.0))
    level = edged.level.over(CELLS)
    assert level[:2] == pytest.approx(5.0, abs=1.0)  # and its neighbours: parts do not lie still
    assert level[2:].max() < 1.5
    assert edged.reach == pytest.approx(plain.reach, abs=0.5)


def test_a_large_map_is_kept_coarser_and_what_is_high_in_it_stays_so() -> None:
    maps = [np.tile(one.evidence, (5, 3)) for one in goods(edge=5.0)]
    level = good_maps._level(maps)
    assert (len(level.rows), len(level.rows[0])) == (64, 64)
    assert level.over((160, 96))[[0, 32, 64]].min() > 4


def test_few_good_images_and_such_of_different_shapes_have_no_level() -> None:
    assert good_maps.measured(goods()[:9]).level.rows == ()
    assert good_maps._level([np.zeros((8, 8), np.float32)] * 10 + [np.zeros((8, 9), np.float32)]).rows == ()


def test_the_cut_is_the_one_whose_boxes_fit_the_masks(tmp_path: Path) -> None:
    mask = np.zeros((256, 256), np.uint8)
    cv2.circle(mask, (132, 100), 28, (255,), cv2.FILLED)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    bad = [seen(a_defect(peak), tmp_path / "mask.png") for peak in (10, 20, 30, 40, 60, 80)]
    known = good_maps.measured(goods())
    plain = good_maps.fitted(PLAIN, known, bad[:1])  # one mask is no ground to choose on
    spec = good_maps.fitted(PLAIN, known, bad)
    assert (plain.cut, plain.good) == (known.reach, known)
    truth = Box(104, 72, 57, 57)

    def fit(chosen: LocalizationSpec) -> float:
        firsts = [boxes_by_evidence(one.evidence, one.framing, chosen)[0] for one in bad]
        return float(np.mean([iou(first, truth) for first in firsts]))

    assert fit(spec) > 0.6
    assert fit(spec) > fit(plain) + 0.05
