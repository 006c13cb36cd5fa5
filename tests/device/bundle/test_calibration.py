"""calibration.json: round trips, and everything that is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_bundle import make_calibration
from fixtures_daemon import REPOSITORY

from device.bundle.calibration import (
    Calibration,
    GoldenSpec,
    GoldenVector,
    GoodMaps,
    Level,
    LocalizationSpec,
    MemorySpec,
    Pooling,
    PreprocessSpec,
    Quantization,
    Reference,
    ScoreCalibration,
    Thresholds,
    TrainedFrames,
    sigmoid,
)
from device.errors import BundleError
from device.image.geometry import Polygon, Size

GOLDEN = REPOSITORY / "tests" / "golden" / "calibration.json"
VERSION_1 = GOLDEN.with_name("calibration-1.json")
VERSION_2 = GOLDEN.with_name("calibration-2.json")
FREE = ("training", "metrics")  # of any content
MEMORY = MemorySpec("nearest", 32, 16, 900, True, 1.0, 2.0, 3.5, 0.25, 0.0, 1.0, 2.0)


def content() -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(make_calibration().to_json())
    return decoded


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field in the strict part of the contract, and of every object's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            if (*path, name) not in [(free,) for free in FREE]:
                yield from fields(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from fields(inner, (*path, index))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def named(path: tuple[Any, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


ALL = list(fields(content()))
OPTIONAL = ("drift_reference", "evidence")
OBJECTS = [(), *(path for path in ALL if isinstance(at(content(), path), dict) and path[0] not in FREE)]


@pytest.mark.parametrize("white_level", [None, 1023, 65535])
def test_what_is_white_is_kept_and_may_be_absent(white_level: int | None) -> None:
    calibration = make_calibration()
    changed = replace(calibration, preprocess=replace(calibration.preprocess, white_level=white_level))
    assert ("white_level" in json.loads(changed.to_json())["preprocess"]) is (white_level is not None)
    assert Calibration.from_json(changed.to_json()) == changed


def test_what_sharpens_the_map_is_kept_and_may_be_absent() -> None:
    changed = replace(make_calibration(), pooling=Pooling("top", 0.01, 1.5))
    assert Calibration.from_json(changed.to_json()) == changed
    assert "sharpened" not in json.loads(make_calibration().to_json())["pooling"]


def test_the_frames_that_were_trained_on_are_kept_and_may_be_absent() -> None:
    frames = TrainedFrames((90, 110), (64, 64), (1.4, 1.7188))
    changed = replace(make_calibration(), frames=frames)
    assert Calibration.from_json(changed.to_json()) == changed
    assert "frames" not in json.loads(make_calibration().to_json())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("preprocess", "white_level"),
            255,
            "preprocess.white_level: must be a whole number 256..65535, got 255",
        ),
        (("preprocess", "white_level"), 4095.5, "preprocess.white_level: must be a whole number 256..65535"),
        (("frames", "width_px"), [5, 4], "frames.width_px: must be [least, greatest], above 0, got [5, 4]"),
        (("frames", "width_px"), [0, 4], "frames.width_px[0]: must be a number above 0, got 0"),
        (("frames", "aspect_ratio"), [1], "frames.aspect_ratio: must be"),
        (("frames",), {}, "frames.width_px: missing"),
    ],
)
def test_wrong_values_of_what_may_be_absent(path: tuple[Any, ...], value: Any, message: str) -> None:
    changed = content()
    changed["frames"] = {"width_px": [1, 2], "height_px": [1, 2], "aspect_ratio": [1, 2]}
    at(changed, path[:-1])[path[-1]] = value
    assert message in refused(changed)


def test_a_frame_of_another_size_is_unlike_in_words() -> None:
    frames = TrainedFrames((96, 100), (64, 64), (1.5, 1.5625))
    assert frames.unlike(Size(120, 80)) == ""  # within a quarter, and of the same aspect
    assert frames.unlike(Size(76, 64)) == (
        "76 px wide (trained on 96 to 100), of aspect 1.19 (trained on 1.5 to 1.5625)"
    )
    assert frames.unlike(Size(96, 90)).startswith("90 px high (trained on 64 to 64)")


def refused(changed: Any) -> str:
    with pytest.raises(BundleError) as caught:
        Calibration.from_json(json.dumps(changed), "/b/calibration.json")
    message = str(caught.value)
    assert message.startswith("/b/calibration.json: ")
    return message.removeprefix("/b/calibration.json: ")


def test_the_golden_file_byte_for_byte() -> None:
    assert make_calibration().to_json() == GOLDEN.read_text()


def test_there_and_back() -> None:
    calibration = make_calibration(
        score_calibration=ScoreCalibration(0.1 + 0.2, -1e-17),
        localization=LocalizationSpec(-2.5, 0, 1.0, 1.0, 0.0),
        thresholds=Thresholds(0.6, 0.3, "ünïcode", ()),
    )
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert Calibration.from_json(GOLDEN.read_bytes()) == make_calibration()


def test_a_bundle_from_before_the_evidence_was_kept() -> None:
    old = make_calibration(drift_reference=replace(make_calibration().drift_reference, evidence=None))
    assert "evidence" not in json.loads(old.to_json())["drift_reference"]
    assert Calibration.from_json(old.to_json()) == old


GOOD = GoodMaps(-6.0, -2.0, 0.4, Level(((3.0, 1.0), (0.5, 0.0))))


def test_a_bundle_from_before_good_maps_were_kept() -> None:
    assert "good" not in json.loads(make_calibration().to_json())["localization"]
    known = make_calibration(localization=LocalizationSpec(-2.0, 4, 5.0, 40.0, 0.0, good=GOOD))
    assert Calibration.from_json(known.to_json()) == known


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reach": -6.0}, "localization.good.reach: must be more than -6.0"),
        ({"share": 1.0}, "localization.good.share: "),
        ({"level": [[-1.0]]}, "localization.good.level[0][0]"),
        ({"level": [[0.0], [0.0, 0.0]]}, "localization.good.level: must be rows of one length"),
        ({"level": [[0.0]] * 65}, "localization.good.level: "),
        ({"more": 1}, "localization.good.more"),
    ],
)
def test_good_maps_are_strict(changed: dict[str, Any], message: str) -> None:
    known = make_calibration(localization=LocalizationSpec(-2.0, 4, 5.0, 40.0, 0.0, good=GOOD))
    broken = json.loads(known.to_json())
    broken["localization"]["good"].update(changed)
    assert message in refused(broken)


def test_the_number_of_a_region_is_on_the_scale_of_good_images() -> None:
    peaks = [-6.0, -2.0, 2.0, 14.0, 1000.0]
    assert [round(GOOD.standing(peak), 3) for peak in peaks] == [0.25, 0.5, 0.75, 0.9, 0.998]


def test_the_level_is_laid_over_a_map_of_any_size() -> None:
    assert GOOD.level.over((3, 4)).tolist() == [[3, 3, 1, 1], [3, 3, 1, 1], [0.5, 0.5, 0, 0]]
    assert GOOD.level.over((1, 1)).tolist() == [[3.0]]
    assert not Level().over((2, 2)).any()


def test_heat_is_on_the_scale_of_good_images_where_it_is_known() -> None:
    evidence = np.array([[-6.0, -2.0]], np.float32)
    old = make_calibration(score_calibration=ScoreCalibration(2.0, 1.0))
    known = make_calibration(localization=LocalizationSpec(-2.0, 4, 5.0, 40.0, 0.0, good=GOOD))
    assert old.heat(evidence).tolist() == [[-11.0, -3.0]]
    assert known.heat(evidence).tolist() == [[-4.0, 0.0]]


def test_regions_and_tiles_there_and_back() -> None:
    triangle, square = Polygon(((0, 0), (9, 0), (0, 9))), Polygon(((5, 5), (9, 5), (9, 9), (5, 9)))
    spec = PreprocessSpec(
        Size(64, 96), "stretch", "gray", 0, (triangle, square), (square,), Size(128, 192), 0.25
    )
    calibration = make_calibration(preprocess=spec)
    written = json.loads(calibration.to_json())["preprocess"]
    assert written["roi"] == [[[0, 0], [9, 0], [0, 9]], [[5, 5], [9, 5], [9, 9], [5, 9]]]
    assert written["tiles"] == {"width": 128, "height": 192}
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_a_file_of_version_1_looks_at_all_of_a_frame_as_one() -> None:
    calibration = Calibration.from_json(VERSION_1.read_bytes())
    drift = replace(make_calibration().drift_reference, evidence=None)
    assert calibration == make_calibration(drift_reference=drift)
    assert (calibration.preprocess.roi, calibration.preprocess.tiles) == ((), None)


def test_a_file_of_version_2_has_no_memory() -> None:
    assert Calibration.from_json(VERSION_2.read_text()) == make_calibration()


def test_a_memory_comes_back() -> None:
    calibration = make_calibration(memory=replace(MEMORY, image_weight=0.5))
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_a_file_of_version_1_is_as_strict() -> None:
    old = json.loads(VERSION_1.read_text())
    assert refused({**old, "preprocess": None}).startswith("preprocess: must be an object")
    del old["preprocess"]["resize"]
    assert refused(old) == "preprocess.resize: missing"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("roi", [[[0, 0], [1, 1]]], "preprocess.roi[0]: must be a list of 3 items or more"),
        ("ignore", [[[0, 0], [1, -1], [2, 2]]], "preprocess.ignore[0][1][1]: must be a whole number from 0"),
        ("roi", [[[0, 0], [1, 1], [0, 0]]], "a polygon must have 3 different corners"),
        ("tiles", {"width": 4}, "preprocess.tiles: must be a size or null"),
        ("overlap", 0.6, "preprocess.overlap: must be a number 0..0.5"),
    ],
)
def test_regions_and_tiles_that_are_none(field: str, value: Any, message: str) -> None:
    changed = content()
    changed["preprocess"][field] = value
    assert refused(changed).startswith(message)


@pytest.mark.parametrize("path", [path for path in ALL if path != OPTIONAL], ids=named)
def test_a_missing_field(path: tuple[Any, ...]) -> None:
    changed = content()
    del at(changed, path[:-1])[path[-1]]
    assert refused(changed) == f"{named(path)}: missing"


@pytest.mark.parametrize("path", OBJECTS, ids=named)
def test_an_unknown_field(path: tuple[Any, ...]) -> None:
    changed = content()
    at(changed, path)["thresold"] = 1
    assert refused(changed) == f"{named((*path, 'thresold'))}: unknown field"


LEGAL = [
    (("thresholds", "rule"), "\n"),
    (("thresholds", "rule"), "x" * 200),
    (("thresholds", "table"), []),
    (("preprocess", "roi"), []),
    (("preprocess", "ignore"), []),
]
WRONG = [(path, value) for path in ALL for value in ([], True, "\n", "x" * 200) if (path, value) not in LEGAL]


@pytest.mark.parametrize(
    ("path", "value"), WRONG, ids=lambda part: named(part) if isinstance(part, tuple) else None
)
def test_a_wrong_type(path: tuple[Any, ...], value: Any) -> None:
    changed = content()
    at(changed, path[:-1])[path[-1]] = value
    assert refused(changed).startswith(f"{named(path)}: must be ")


@pytest.mark.parametrize("path", [path for path in ALL if type(at(content(), path)) is float], ids=named)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none(path: tuple[Any, ...], number: str) -> None:
    changed = content()
    at(changed, path[:-1])[path[-1]] = "@"
    with pytest.raises(BundleError, match=f"every number must be finite, got {number}"):
        Calibration.from_json(json.dumps(changed).replace('"@"', number))


def test_not_even_among_what_is_free() -> None:
    with pytest.raises(BundleError, match=r"calibration.json: "):
        make_calibration(metrics={"int8": {"auroc": math.nan}}).to_json()
    with pytest.raises(BundleError, match=r"calibration.json: Object of type PosixPath"):
        make_calibration(training={"data": Path("/")}).to_json()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("preprocess", "pad_value"), 256, "preprocess.pad_value: must be a whole number 0..255, got 256"),
        (("preprocess", "size", "width"), 0, "preprocess.size.width: must be a whole number 1..8192, got 0"),
        (
            ("preprocess", "resize"),
            "crop",
            'preprocess.resize: must be one of "letterbox", "stretch", got "crop"',
        ),
        (("pooling", "share"), 0, "pooling.share: must be a number above 0, at most 1, got 0"),
        (("pooling", "sharpened"), 11, "pooling.sharpened: must be a number from 0 to 10, got 11"),
        (("score_calibration", "slope"), -1, "score_calibration.slope: must be a number above 0, got -1"),
        (("thresholds", "ng"), 1.5, "thresholds.ng: must be a number 0..1, got 1.5"),
        (("thresholds", "marginal"), 0.7, "thresholds.marginal: must be 0..0.6 (thresholds.ng), got 0.7"),
        (("localization", "cut"), "otso", 'localization.cut: must be a number or "otsu", got "otso"'),
        (("golden", "tolerance"), 0.21, "golden.tolerance: must be a number 0..0.2, got 0.21"),
        (("golden", "vectors"), [], "golden.vectors: must be a list of 1 items or more, got []"),
        (("model_sha256"), "0" * 63, f'model_sha256: must be 64 lower-case hex digits, got "{"0" * 63}"'),
        (("created"), "2026-02-30T00:00:00Z", "created: must be an RFC 3339 time with its offset"),
        (("created"), "2026-02-03 00:00:00", "created: must be an RFC 3339 time with its offset"),
        (("schema_version"), 4, "schema_version: must be 3 (or 1 or 2, which are read as well), got 4"),
        (
            ("golden", "vectors", 0, "file"),
            "../x.png",
            "golden.vectors[0].file: must be the name of a .png file",
        ),
    ],
)
def test_a_value_out_of_range(path: Any, value: Any, message: str) -> None:
    steps = (path,) if isinstance(path, str) else path
    changed = content()
    at(changed, steps[:-1])[steps[-1]] = value
    assert refused(changed).startswith(message)


def test_a_mean_of_a_share_is_no_mean() -> None:
    changed = content()
    changed["pooling"] = {"kind": "mean", "share": 0.5}
    assert refused(changed) == "pooling.share: must be 1 with kind mean, got 0.5"


def test_the_same_golden_file_twice() -> None:
    changed = content()
    changed["golden"]["vectors"] *= 2
    assert refused(changed).startswith("golden.vectors: must be each file only once")


@pytest.mark.parametrize(
    "make",
    [
        lambda: PreprocessSpec(Size(1, 1), "crop", "rgb", 0),
        lambda: PreprocessSpec(Size(1, 1), "stretch", "rgb", 0, overlap=0.6),
        lambda: PreprocessSpec(Size(40, 64), "stretch", "rgb", 0, tiles=Size(80, 80)),
        lambda: PreprocessSpec(Size(1, 1), "stretch", "bgr", 0),
        lambda: PreprocessSpec(Size(1, 1), "stretch", "rgb", -1),
        lambda: Quantization(0.0, 0),
        lambda: Quantization(math.inf, 0),
        lambda: Pooling("max", 1.0),
        lambda: Pooling("top", 1.1),
        lambda: Pooling("top", 0.1, -0.5),
        lambda: ScoreCalibration(math.nan, 0.0),
        lambda: ScoreCalibration(1.0, math.inf),
        lambda: Thresholds(0.5, 0.6, "", ()),
        lambda: Thresholds(0.5, math.nan, "", ()),
        lambda: LocalizationSpec(math.nan, 0, 1.0, 1.0, 0.0),
        lambda: LocalizationSpec("mean", 0, 1.0, 1.0, 0.0),
        lambda: LocalizationSpec(0.0, -1, 1.0, 1.0, 0.0),
        lambda: LocalizationSpec(0.0, 0, 0.0, 1.0, 0.0),
        lambda: LocalizationSpec(0.0, 0, 1.0, 256.0, 0.0),
        lambda: LocalizationSpec(0.0, 0, 1.0, 1.0, -1.0),
        lambda: LocalizationSpec(0.0, 0, 1.0, 1.0, 65.0),
        lambda: Reference(math.nan, 0.0),
        lambda: Reference(0.0, -1.0),
        lambda: GoldenSpec(0.1, ()),
        lambda: replace(MEMORY, kind="mean"),
        lambda: replace(MEMORY, channels=257),
        lambda: replace(MEMORY, row_channels=0),
        lambda: replace(MEMORY, row_channels=33),
        lambda: replace(MEMORY, items=0),
        lambda: replace(MEMORY, sigma_cells=9.0),
        lambda: replace(MEMORY, centre=math.nan),
        lambda: replace(MEMORY, spread=0.0),
        lambda: replace(MEMORY, image_weight=-1.0),
        lambda: replace(MEMORY, image_spread=math.inf),
        lambda: GoldenSpec(1.0, (GoldenVector("a.png", 0.5),)),
        lambda: make_calibration(model_sha256="xyz"),
        lambda: make_calibration(created="yesterday"),
        lambda: make_calibration(created="2026-03-04T05:06:07"),
    ],
)
def test_the_values_check_themselves(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_the_version_is_the_time_in_utc_and_the_model() -> None:
    calibration = make_calibration(created="2026-03-04T05:06:07.5+02:00", model_sha256="abcdef01" * 8)
    assert calibration.version == "20260304T030607Z-abcdef01"


@pytest.mark.parametrize("logit", [-1e300, -800.0, -3.0, 0.0, 3.0, 800.0, 1e300])
def test_the_sigmoid_does_not_overflow(logit: float) -> None:
    assert sigmoid(logit) == pytest.approx(1 - sigmoid(-logit))
    assert 0 <= sigmoid(logit) <= 1


def test_the_score_is_platts() -> None:
    assert ScoreCalibration(2.0, -1.0).score(1.5) == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_calibration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        make_calibration().model_id = "other"  # type: ignore[misc]
    assert replace(make_calibration(), model_id="other").model_id == "other"


def test_a_reference_is_mean_and_standard_deviation_of_all_values() -> None:
    assert Reference.of(np.array([1.0, 3.0])) == Reference(2.0, 1.0)
