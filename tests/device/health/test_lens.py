"""Whether the lens is dirty: a spot that stays where it is, and all that is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures_scene import HEIGHT, WIDTH, scene, spotted

from device.health.frame_watch import DIRT_RATIO
from device.health.lens import LEARNED_FROM, WINDOW, Lens

Change = Callable[[np.ndarray, int], np.ndarray]


def learned(path: Path | None = None) -> Lens:
    lens = Lens(path)
    for seed in range(LEARNED_FROM):
        assert not lens.learned
        lens.learn(scene(seed))
    assert lens.learned
    return lens


def seen(lens: Lens, change: Change) -> float | None:
    """What it says after a window of changed pictures."""
    return [lens.observe(change(scene(seed + 100), seed)) for seed in range(WINDOW)][-1]


def lit(gain: np.ndarray | float) -> Change:
    return lambda image, _: np.clip(image * np.asarray(gain)[..., np.newaxis], 0, 255).astype(np.uint8)


def test_a_spot_that_stays_is_dirt() -> None:
    assert seen(learned(), lambda image, _: spotted(image)) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image, _: image, id="nothing"),
        pytest.param(lit(0.6), id="darker"),
        pytest.param(lit(0.9), id="a little darker"),
        pytest.param(lit(1.5), id="brighter"),
        pytest.param(lit(np.linspace(0.6, 1.2, WIDTH)[np.newaxis]), id="lit from a side"),
        pytest.param(lambda image, seed: lit(0.8 + 0.4 * (seed % 5) / 4)(image, seed), id="flicker"),
        pytest.param(lambda image, seed: spotted(image, 40 + 19 * seed), id="parts with a spot somewhere"),
        pytest.param(
            lambda image, _: (255 * (image / 255) ** 1.2).astype(np.uint8), id="another camera's gamma"
        ),
        pytest.param(lambda image, _: np.zeros_like(image), id="darkness"),
    ],
)
def test_what_is_no_dirt(change: Change) -> None:
    assert (seen(learned(), change) or 0.0) < DIRT_RATIO


def test_there_is_no_word_before_there_are_enough_pictures() -> None:
    assert Lens(None).observe(scene(0)) is None
    lens = learned()
    for seed in range(WINDOW - 1):
        assert lens.observe(spotted(scene(seed))) is None


def test_darkness_teaches_nothing() -> None:
    lens = Lens(None)
    for _ in range(2 * LEARNED_FROM):
        lens.learn(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert not lens.learned


def test_it_is_remembered(tmp_path: Path) -> None:
    learned(tmp_path / "lens.npz")
    again = Lens(tmp_path / "lens.npz")
    assert again.learned
    assert seen(again, lambda image, _: spotted(image)) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"x" * 2**17])
def test_a_damaged_memory_is_learned_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lens.npz").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        lens = Lens(tmp_path / "lens.npz")
    assert not lens.learned
    assert "cannot be read, the lens is learned anew" in caplog.text
    for seed in range(LEARNED_FROM):
        lens.learn(scene(seed))
    assert Lens(tmp_path / "lens.npz").learned


def test_a_memory_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lens.npz").mkdir()
    with caplog.at_level(logging.WARNING):
        learned(tmp_path / "lens.npz")
    assert "the lens is learned anew at the next start" in caplog.text
