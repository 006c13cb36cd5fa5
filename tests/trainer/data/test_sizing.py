"""The input is never smaller than the images without need, and never so small that a defect is lost."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_trainer import make_sample, make_samples, with_mask
from hypothesis import given
from hypothesis import strategies as st

from device.bundle.bundle import PreprocessSpec
from device.errors import ConfigError
from device.image.geometry import Size
from trainer import config
from trainer.data import sizing, tiling
from trainer.data.dataset import Sample, load

DEFAULT = config.load(None).input


def sizes(specs: list[PreprocessSpec]) -> list[tuple[int, int]]:
    return [(spec.size.width, spec.size.height) for spec in specs]


def test_the_native_size_and_half_of_it(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(512, 512)] * 4)
    assert sizing.candidates(samples, DEFAULT, None) == [
        PreprocessSpec(Size(512, 512), "stretch", "gray", 114),
        PreprocessSpec(Size(256, 256), "stretch", "gray", 114),
    ]


@given(st.integers(1, 1024), st.integers(1, 1024), st.sampled_from([1.0, 0.7, 0.5, 0.05]))
def test_rounding_gives_multiples_of_32_and_never_shrinks(width: int, height: int, scale: float) -> None:
    size = sizing._rounded(Size(width, height), scale)
    assert size.width % 32 == size.height % 32 == 0
    assert 0 <= size.width - round(scale * width) < 32 or size.width == 32
    assert 0 <= size.height - round(scale * height) < 32 or size.height == 32


def test_an_oblong_image_keeps_its_proportions(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(640, 480), (640, 480)])
    assert sizes(sizing.candidates(samples, DEFAULT, None)) == [
        (640, 480),
        (512, 384),
        (384, 288),
        (320, 256),
    ]


def test_the_usual_image_counts_not_the_odd_one(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [*[(96, 64)] * 39, (1500, 1000)])
    assert sizing.native_size(samples) == Size(96, 64)
    assert sizes(sizing.candidates(samples, DEFAULT, None)) == [(96, 64), (64, 32)]


def test_images_of_nearly_one_aspect_keep_it(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(500, height) for height in range(1240, 1272, 4)])
    assert sizing.native_size(samples) == Size(500, 1254)
    specs = sizing.candidates(samples, DEFAULT, None)
    assert [tiling.framing_of(Size(500, 1254), spec).tiled for spec in specs] == [True, False, False, False]
    assert sizes(specs)[1:] == [(256, 640), (224, 512), (160, 384)]


def test_an_odd_aspect_among_many_does_not_make_a_square(tmp_path: Path) -> None:
    assert sizing.native_size(make_samples(tmp_path, [*[(96, 64)] * 19, (64, 96)])) == Size(96, 64)


def test_two_aspects_are_said_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = make_samples(tmp_path, [(160, 120), (120, 160)] * 3)
    with caplog.at_level(logging.INFO):
        sizing.candidates(samples, DEFAULT, None)
    assert "images are 120x160 to 160x120, of different aspects, shown as 160x160 (gray)" in caplog.text


def test_mixed_aspects_give_a_square_of_the_median_side(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(640, 480), (300, 500), (96, 96)])
    assert not sizing.one_aspect(samples)
    assert sizes(sizing.candidates(samples, DEFAULT, None)) == [(512, 512), (256, 256)]


def test_aspects_within_ten_percent_are_one(tmp_path: Path) -> None:
    assert sizing.one_aspect(make_samples(tmp_path, [(100, 100), (109, 100), (100, 104)]))
    assert not sizing.one_aspect(make_samples(tmp_path, [(100, 100), (100, 100), (125, 100)]))


@pytest.mark.parametrize(("defect_px", "expected"), [(12, [256, 128]), (11, [256])])
def test_a_scale_that_loses_the_smallest_defects_is_not_tried(
    tmp_path: Path, defect_px: int, expected: list[int]
) -> None:
    """Of 12 px half of the size leaves 6, the least that [input] min_defect_px asks for."""
    good, bad = make_samples(tmp_path, [(256, 256)] * 2)
    marked = with_mask(bad, (100, 40, 60, defect_px), (5, 5, 3, 3))  # the widest part of a mask counts
    assert sizes(sizing.candidates([good, marked], DEFAULT, None)) == [(side, side) for side in expected]


def test_the_greatest_scale_is_tried_however_small_the_defects(tmp_path: Path) -> None:
    good, bad = make_samples(tmp_path, [(256, 256)] * 2)
    tried = replace(DEFAULT, scales=[0.25, 0.5])
    assert sizes(sizing.candidates([good, with_mask(bad, (9, 9, 3, 3))], tried, None)) == [(128, 128)]


def test_one_stray_mask_does_not_decide(tmp_path: Path) -> None:
    samples = [
        with_mask(make_sample(tmp_path / f"{n}.png", (96, 96), n), (8, 8, 40, 3 if n == 0 else 20))
        for n in range(41)
    ]
    assert sizing._smallest_defect_px(samples) == 20


# ---- images that are too large for one input


def tiled(width: int, height: int, shown: tuple[int, int]) -> PreprocessSpec:
    return PreprocessSpec(Size(width, height), "stretch", "gray", 114, tiles=Size(*shown), overlap=0.2)


def test_large_images_become_tiles_at_every_scale_that_is_still_too_large(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(1500, 1000)] * 2)
    config = replace(DEFAULT, max_size=512, tile_size=250, scales=[1.0, 0.5, 0.25])
    assert sizing.candidates(samples, config, None) == [
        tiled(256, 256, (256, 256)),
        tiled(256, 256, (512, 512)),
        PreprocessSpec(Size(512, 352), "stretch", "gray", 114),
        PreprocessSpec(Size(384, 256), "stretch", "gray", 114),
    ]


def test_photographs_are_looked_at_as_a_whole_as_well(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(1600, 1200)] * 2)
    found = sizing.candidates(samples, DEFAULT, None)
    assert sizes(found)[1:] == [(800, 608), (512, 384), (384, 288)]
    assert [spec.tiles for spec in found[1:]] == [None] * 3
    samples[1] = with_mask(samples[1], (100, 100, 50, 22))  # 5.3 px at 384, 7.0 at 512
    assert sizes(sizing.candidates(samples, DEFAULT, None))[-1] == (512, 384)


def test_a_tile_is_no_larger_than_the_image_and_than_an_input_may_be(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(800, 90)] * 2)
    config = replace(DEFAULT, max_size=256, tile_size=512, scales=[1.0])
    assert sizing.candidates(samples, config, None) == [tiled(256, 96, (256, 96))]


@pytest.mark.parametrize(("defect_px", "shown"), [(18, True), (17, False)])
def test_the_whole_image_is_tried_where_masks_say_that_its_defects_are_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, defect_px: int, *, shown: bool
) -> None:
    """Shrunk to a third, 18 px are 6, the least that [input] min_defect_px asks for."""
    samples = make_samples(tmp_path, [(960, 960)] * 2)
    samples[1] = with_mask(samples[1], (100, 100, 50, defect_px))
    config = replace(DEFAULT, max_size=320, tile_size=160, scales=[1.0])
    with caplog.at_level(logging.INFO):
        found = sizing.candidates(samples, config, None)
    whole = PreprocessSpec(Size(320, 320), "stretch", "gray", 114)
    assert found == [tiled(160, 160, (160, 160))] + [whole] * shown
    said, warned = caplog.messages
    assert "images are 960x960 (gray); inputs to try: 160x160 in 64 tiles of 160x160 px (9.8 G mul" in said
    assert warned.startswith(
        "160x160 in 64 tiles of 160x160 px (9.8 G multiply-adds): each image costs as much"
    )


@pytest.mark.parametrize(("most", "kept"), [(0.0, 3), (2e9, 2), (9e8, 1)])
def test_inputs_that_cost_too_much_are_not_tried(tmp_path: Path, most: float, kept: int) -> None:
    samples = make_samples(tmp_path, [(700, 700)] * 2)
    wanted = replace(DEFAULT, max_macs=most, scales=[1.0])
    assert sizes(sizing.candidates(samples, wanted, None)) == [(704, 704), (512, 512), (384, 384)][-kept:]


def test_where_all_inputs_cost_too_much_the_cheapest_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = make_samples(tmp_path, [(96, 96)] * 2)
    with caplog.at_level(logging.WARNING):
        found = sizing.candidates(samples, replace(DEFAULT, max_macs=1e6), None)
    assert sizes(found) == [(64, 64)]
    assert (
        "[input] max_macs is 1e+06, and the cheapest input takes 2.44e+07 multiply-adds: 64x64" in caplog.text
    )


def test_a_scale_that_loses_the_defects_has_no_tiles_either(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(960, 960)] * 2)
    samples[1] = with_mask(samples[1], (100, 100, 50, 8))
    config = replace(DEFAULT, max_size=320, tile_size=160)
    assert sizing.candidates(samples, config, None) == [tiled(160, 160, (160, 160))]


def test_without_tiles_large_images_shrink_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = make_samples(tmp_path, [(800, 600)] * 2)
    samples[1] = with_mask(samples[1], (100, 100, 50, 20))
    with caplog.at_level(logging.WARNING):
        specs = sizing.candidates(samples, replace(DEFAULT, max_size=416, tile_size=0), None)
    assert sizes(specs)[0] == (416, 320)
    [warning] = caplog.messages
    assert "800 px" in warning
    assert "max_size is 416 and tile_size 0: defects shrink to 10.4 px from 20.0" in warning


def test_nothing_is_said_where_nothing_shrinks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sizing.candidates(make_samples(tmp_path, [(800, 600)] * 2), DEFAULT, None)
    assert caplog.messages == []


def test_one_size_that_was_asked_for(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, [(640, 480)] * 2)
    assert sizes(sizing.candidates(samples, DEFAULT, 320)) == [(320, 256)]
    assert sizes(sizing.candidates(samples, DEFAULT, 1024)) == [(1024, 768)]


@pytest.mark.parametrize(("side", "told"), [(128, True), (160, False)])
def test_a_size_that_was_asked_for_and_loses_defects_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, side: int, *, told: bool
) -> None:
    good, bad = make_samples(tmp_path, [(320, 320)] * 2)
    with caplog.at_level(logging.WARNING):
        found = sizing.candidates([good, with_mask(bad, (40, 40, 60, 12))], DEFAULT, side)
    assert sizes(found) == [(side, side)]
    assert ("--input-size 128: the smallest defects shrink to 4.8 px from 12.0" in caplog.text) is told


@pytest.mark.parametrize("side", [-32, 0, 16, 100, 4128])
def test_a_size_that_the_network_cannot_have(tmp_path: Path, side: int) -> None:
    with pytest.raises(ConfigError) as caught:
        sizing.candidates(make_samples(tmp_path, [(64, 64)] * 2), DEFAULT, side)
    assert str(caught.value) == f"--input-size: must be a multiple of 32 from 32 to 4096, got {side}"


def test_sizes_that_are_rounded_to_the_same_are_tried_once(tmp_path: Path) -> None:
    assert sizes(sizing.candidates(make_samples(tmp_path, [(30, 20)] * 2), DEFAULT, None)) == [(32, 32)]


def test_one_image_in_colour_makes_the_input_coloured(tmp_path: Path) -> None:
    """Whichever it is: colour may be all that is wrong with a few defective ones."""
    for odd in range(60):
        samples = [one_px(Path(f"{number}.png"), coloured=number == odd) for number in range(60)]
        assert sizing.candidates(samples, DEFAULT, 64)[0].colour == "rgb"
    assert sizing.candidates(samples[:-1], DEFAULT, 64)[0].colour == "gray"


def test_the_colour_is_seen_when_images_are_opened(tmp_path: Path) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    for number, folder in enumerate(("good", "good", "bad")):
        image[0, 0] = (90 + number, 90 + number, 90 + number + (folder == "bad"))
        (tmp_path / folder).mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    found = load(tmp_path, protocol="given").samples
    assert [sample.coloured for sample in found] == [True, False, False]
    assert [sample.label for sample in found] == [1, 0, 0]


# ---- more than 8 bits, and what was trained on


@pytest.mark.parametrize(
    ("peak", "white"), [(0, None), (700, 1023), (3000, 4095), (4096, 16383), (65535, 65535)]
)
def test_the_least_full_scale_that_holds_all_levels_is_white(peak: int, white: int | None) -> None:
    samples = [one_px(Path("a.png")), one_px(Path("b.png"), peak=peak)]
    assert sizing.white_level(samples) == white
    assert sizing.candidates(samples, DEFAULT, 64)[0].white_level == white


def test_the_usual_frames_are_kept_without_the_odd_one() -> None:
    samples = [one_px(Path(f"{n}.png"), size=Size(96 + n % 3, 64)) for n in range(99)]
    samples.append(one_px(Path("odd.png"), size=Size(1500, 1000)))
    frames = sizing.trained_frames(samples)
    assert (frames.width_px, frames.height_px, frames.aspect_ratio) == ((96, 98), (64, 64), (1.5, 1.5312))
    assert frames.unlike(Size(97, 64)) == ""
    assert frames.unlike(Size(384, 256)) == (
        "384 px wide (trained on 96 to 98), 256 px high (trained on 64 to 64)"
    )
    assert frames.unlike(Size(110, 55)) == "of aspect 2.00 (trained on 1.5 to 1.5312)"


def one_px(path: Path, **fields: object) -> Sample:
    """A sample whose file nobody opens."""
    values = {"size": Size(64, 64), "coloured": False, **fields}
    return Sample(path.name, path, 0, "good", None, path.name, "train", "0" * 64, **values)  # type: ignore[arg-type]
