"""What the numbers of images let anyone know."""

from __future__ import annotations

import pytest

from trainer.scoring.enough import beforehand


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
