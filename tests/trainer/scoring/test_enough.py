"""What the numbers of images let anyone know."""

from __future__ import annotations

import pytest

from trainer.scoring.enough import afterwards, beforehand


def test_what_so_many_images_can_show() -> None:
    assert list(beforehand(250, 110)) == [
        "250 good: were none of them rejected, up to 1.5 % of good parts could be (95 %)",
        "110 defective: recall can be known to within 6 points (95 %)",
    ]


def test_few_defective_images_suggest_another_way() -> None:
    *_, hint = beforehand(100, 6)
    assert hint.startswith("6 defective images are few: --mode good-only")
    assert len(list(beforehand(100, 14))) == 2
    assert list(beforehand(100, 14))[1] == "14 defective: recall can be known to within 17 points (95 %)"


@pytest.mark.parametrize("good", [1, 9, 40])
def test_good_ones_alone(good: int) -> None:
    assert len(list(beforehand(good, 0))) == 1
    assert list(beforehand(0, 0)) == []


@pytest.mark.parametrize(
    ("ap", "gain_error", "verdict"),
    [
        ([0.6, 0.7, 0.8], 0.02, "twice the images brought 0.10, and more would probably help again"),
        ([0.6, 0.7, 0.8], 0.06, "twice the images brought +0.10, which may be luck: more need not help"),
        ([0.78, 0.81, 0.80], 0.0, "twice the images brought -0.01, which may be luck"),
        ([0.8, 0.9, 0.995], 0.01, "more images like these would bring little"),
    ],
)
def test_what_the_learning_curve_says_of_more_images(
    ap: list[float], gain_error: float, verdict: str
) -> None:
    said = afterwards({"images": [40, 80, 160], "ap": ap, "gain_error": gain_error})
    assert said.startswith(f"From 40 images average precision is {ap[0]:.3f}, from 80 {ap[1]:.3f}, from 160 ")
    assert verdict in said
