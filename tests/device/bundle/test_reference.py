"""The golden reference on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures_part import shot
from hypothesis import given, settings
from hypothesis import strategies as st

from device.bundle.reference import Alignment, GoldenReference
from device.errors import BundleError
from device.image.geometry import Size

MEAN = shot(noise=0).astype(np.float32)
REFERENCE = GoldenReference(MEAN, np.full_like(MEAN, 2.0))


@settings(max_examples=25)
@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.7, 1.3), st.integers(0, 99))
def test_a_shift_is_found_whatever_the_light(right: float, down: float, gain: float, seed: int) -> None:
    found = REFERENCE.align(shot(right, down, gain=gain, seed=seed))
    assert found is not None
    assert (found.right, found.down) == pytest.approx((right, down), abs=0.5)
    assert found.response > 0.3


def test_another_picture_hardly_correlates() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    found = REFERENCE.align(noise)
    assert found is None or found.response < 0.15


def test_a_part_in_another_place_is_not_aligned() -> None:
    assert REFERENCE.align(shot(40, 0)) is None


def test_the_deviation_is_where_the_defect_is_on_the_image() -> None:
    right, down = 4.0, -3.0
    image = shot(right, down, gain=1.1, spot=(160, 140))
    found = REFERENCE.align(image)
    assert found is not None
    deviation = REFERENCE.deviation(image, found)
    row, column = np.unravel_index(deviation.argmax(), deviation.shape)
    assert (column, row) == pytest.approx((164, 137), abs=5)
    good = REFERENCE.deviation(shot(right, down, gain=1.1), found)
    assert deviation.max() > 2 * good.max()


def test_what_the_reference_does_not_show_does_not_differ() -> None:
    image = shot(8, 0)
    image[:, :8] = 255  # the reference ends here
    deviation = REFERENCE.deviation(image, Alignment(8.0, 0.0, 1.0))
    assert deviation[:, :6].max() == 0


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(REFERENCE.to_bytes())
    back = GoldenReference.from_file(path)
    assert back.size == Size(256, 256)
    assert np.abs(back.mean - REFERENCE.mean).max() <= 0.5
    assert np.array_equal(back.sd, REFERENCE.sd)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


GOOD_MEAN, GOOD_SD = np.zeros((4, 5), np.uint8), np.ones((4, 5), np.float16)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": GOOD_MEAN}, "must hold mean, sd, got 1 arrays"),
        ({"mean": GOOD_MEAN, "sd": np.ones((4, 5))}, "sd must be float16, got float64"),
        ({"mean": GOOD_MEAN, "sd": GOOD_SD, "x": GOOD_SD}, "must hold mean, sd, got 3 arrays"),
        (
            {"mean": GOOD_MEAN, "sd": GOOD_SD[:3]},
            "(h, w) of one size, got (4, 5) and (3, 5)",
        ),
        ({"mean": GOOD_MEAN, "sd": -GOOD_SD}, "mean and sd must be finite, and sd >= 0"),
        ({"mean": GOOD_MEAN, "sd": GOOD_SD * np.float16("nan")}, "mean and sd must be finite"),
        ({"mean": GOOD_MEAN[0], "sd": GOOD_SD[0]}, "mean and sd must be (h, w)"),
    ],
)
def test_a_file_that_is_no_reference(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = saved(tmp_path / "reference.npz", **arrays)
    with pytest.raises(BundleError) as caught:
        GoldenReference.from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x04."])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"reference\.npz: "):
        GoldenReference.from_file(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        GoldenReference.from_file(tmp_path / "reference.npz")
