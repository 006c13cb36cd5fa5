"""Ways to build a model, for people."""

from __future__ import annotations

from trainer.recipes.in_words import in_words


def test_a_candidate_is_one_line_without_punctuation_of_python() -> None:
    described = {
        "input_px": [512, 384],
        "tiles": None,
        "cuts": ["block_6", "block_13"],
        "views": "mirrored",
        "lit": True,
        "turned": False,
        "strength": 1.0,
        "pooling_share": 0.01,
        "ap": 0.99412,
    }
    assert in_words(described) == (
        "512x384 px, cuts block_6+block_13, views mirrored, lit, strength 1, pooling 0.01, AP 0.9941"
    )
    assert in_words({}) == ""
