"""What a bundle says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_bundle import TinyModel

from trainer.bundle.model_card import model_card

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


def test_without_a_defective_image_it_says_so(tiny_model: TinyModel) -> None:
    good = {**DATA, "train": {"good": 70, "defective": 0}}
    assert "It has seen no defective part" in card(tiny_model, data=good)
