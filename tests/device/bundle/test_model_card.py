"""What a bundle says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel

from device.bundle import bundle as bundles
from device.bundle.model_card import model_card

DATA = {
    "name": "press 4",
    "format": "folders",
    "digest": "d1",
    "train": {"good": 70, "defective": 6},
    "test": {"good": 14, "defective": 3},
    "kinds": {"good": {}, "crack": {}},
    "split_rule": "by hand",
}


def card(tiny_model: TinyModel, **training: object) -> str:
    return model_card(replace(tiny_model.calibration, training=training)).decode()


def test_it_names_data_licence_and_limits(tiny_model: TinyModel) -> None:
    said = card(tiny_model, data=DATA, weights={"source": "imagenet"})
    assert said.startswith(f"# {tiny_model.calibration.model_id}\n")
    assert "- train: 70 good and 6 defective images\n" in said
    assert "- kinds: crack, good; split: by hand\n" in said
    assert "ImageNet weights as Keras publishes them, Apache License 2.0." in said
    assert "up to 5.1 % of good parts could be rejected all the same" in said
    assert "not among its 6 defective images" in said


@pytest.mark.parametrize(
    ("weights", "licence"),
    [
        ({"source": "none"}, "no weights of others"),
        (
            {"source": "mine.h5", "sha256": "abc"},
            "weights of the file mine.h5, SHA-256 abc, on its owner's terms",
        ),
        ({}, "weights of the file not recorded"),
    ],
)
def test_weights_of_each_source(tiny_model: TinyModel, weights: dict[str, str], licence: str) -> None:
    assert licence in card(tiny_model, data=DATA, weights=weights)


def test_whether_more_images_would_help(tiny_model: TinyModel) -> None:
    said = card(tiny_model, data=DATA, learning_curve={"says": "From 10 images 0.5, and more would help"})
    assert "- From 10 images 0.5, and more would help.\n" in said


def test_without_a_defective_image_it_says_so(tiny_model: TinyModel) -> None:
    good = {**DATA, "train": {"good": 70, "defective": 0}}
    assert "It has seen no defective part" in card(tiny_model, data=good)


def test_one_that_was_learned_on_a_station(tiny_model: TinyModel) -> None:
    learned = {"starter": "screws-1", "station": "press-4", "good_images": 100}
    said = card(tiny_model, **learned, weights={"source": "imagenet"})
    assert "- 100 good pictures of station press-4\n- the network is that of screws-1\n" in said
    assert "up to 3.6 % of good parts" in said
    assert "It has seen no defective part" in said


def test_what_was_done_to_it_since(tiny_model: TinyModel) -> None:
    judged = {"name": "reviewed", "digest": "d2", "good": 50, "defective": 9}
    said = card(
        tiny_model,
        data=DATA,
        adapted={"from": "a", "good_parts": 30},
        retaken={"from": "b", "good_images": 40},
        thresholds={"from_bundle": "c", "data": judged},
    )
    assert "- adapted on a station to 30 good parts, from a\n" in said
    assert "- references taken anew from 40 good pictures, from b\n" in said
    assert (
        "- thresholds chosen anew on 50 good and 9 defective images (reviewed, SHA-256 d2), from c\n" in said
    )


def test_every_bundle_has_one(tiny_model: TinyModel, tmp_path: Path) -> None:
    tiny_model.write(tmp_path)
    written = (tmp_path / "current/MODEL_CARD.md").read_bytes()
    assert written == model_card(bundles.load(tmp_path).calibration)
