"""A head's weights on the grid of int8."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from device.image.geometry import Size
from trainer.network import network
from trainer.network.export import to_int8
from trainer.network.network import CANDIDATE_CUTS, CHANNELS, Head
from trainer.network.rounding import MOST, rounded

CUTS = CANDIDATE_CUTS[1]
CHANNEL_COUNT = sum(CHANNELS[cut] for cut in CUTS)


@pytest.fixture
def seen() -> np.ndarray:
    """What goes together, as the channels of a network do: 576 channels of 20 causes, all >= 0."""
    rng = np.random.default_rng(5)
    causes = rng.exponential(size=(400, 20))
    found = causes @ rng.exponential(size=(20, CHANNEL_COUNT)) + 0.1 * rng.exponential(
        size=(400, CHANNEL_COUNT)
    )
    return found.astype(np.float32)


@pytest.fixture
def head() -> Head:
    """Two heads, each with a weight that is far greater than the others, and sets their scale."""
    weights = np.random.default_rng(6).normal(size=(CHANNEL_COUNT, 2)).astype(np.float32)
    weights[7], weights[9, 1] = (40, -30), 35
    return Head(CUTS, weights, np.array([0.5, -1], np.float32))


def said(head: Head, rows: np.ndarray) -> np.ndarray:
    return rows @ head.weights + head.bias


def by_itself(head: Head) -> Head:
    """Each weight rounded without regard to the others."""
    scales = np.abs(head.weights).max(0) / MOST
    return Head(head.cuts, np.round(head.weights / scales) * scales, head.bias)


def test_all_weights_are_on_the_grid_that_the_greatest_sets(head: Head, seen: np.ndarray) -> None:
    found = rounded(head, seen, seen[:0])
    assert np.abs(found.weights).max(0).tolist() == [40, 35]
    levels = found.weights / (np.array([40, 35]) / MOST)
    assert levels == pytest.approx(np.round(levels), abs=1e-4)
    assert found.weights.dtype == found.bias.dtype == np.float32


def test_what_it_says_changes_far_less_than_by_rounding_each_by_itself(head: Head, seen: np.ndarray) -> None:
    few, others = seen[:300], seen[300:]
    error = np.std(said(rounded(head, few, few[:0]), others) - said(head, others), axis=0)
    plain = np.std(said(by_itself(head), others) - said(head, others), axis=0)
    assert (error < plain / 3).all()


def test_what_it_says_of_the_mean_stays(head: Head, seen: np.ndarray) -> None:
    middle = seen.mean(0, keepdims=True)
    assert said(rounded(head, seen, seen[:50] * 3), middle) == pytest.approx(said(head, middle), rel=1e-3)


def test_single_cells_count_too(head: Head, seen: np.ndarray) -> None:
    """Channels that the means of images do not tell apart."""
    cells = np.random.default_rng(8).exponential(size=(500, 5)) @ np.random.default_rng(9).normal(
        size=(5, CHANNEL_COUNT)
    )
    flat = np.tile(seen.mean(0), (40, 1)).astype(np.float32)
    without, with_them = rounded(head, flat, cells[:0]), rounded(head, flat, cells)
    errors = [np.std((one.weights - head.weights).T @ cells.T) for one in (without, with_them)]
    assert errors[1] < errors[0] / 3


def test_each_cut_has_a_scale_of_its_own_and_one_without_weights_keeps_none(seen: np.ndarray) -> None:
    cuts = CANDIDATE_CUTS[2]
    counts = [CHANNELS[cut] for cut in cuts]
    weights = np.random.default_rng(3).normal(size=(sum(counts), 1)).astype(np.float32)
    weights[: counts[0]] = 0
    rows = np.random.default_rng(4).exponential(size=(60, sum(counts))).astype(np.float32)
    found = rounded(Head(cuts, weights, np.zeros(1, np.float32)), rows, rows[:0])
    assert not np.abs(found.weights[: counts[0]]).max() > 1e-30
    assert np.isfinite(found.weights).all()
    assert np.abs(found.weights[counts[0] :]).max() == np.abs(weights).max()


def test_the_converter_leaves_them_as_they_are() -> None:
    """Whole numbers in the int8 file, times its scales, are the weights."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    base = network.backbone(Size(64, 64), "none")
    maps = [network.called(keras.Model(base.input, each), network.scaled(images)) for each in base.outputs]
    rows = np.concatenate([each.mean((1, 2)) for each in maps], axis=1)
    weights = rng.standard_t(3, size=(rows.shape[1], 2)).astype(np.float32)
    found = rounded(Head(CANDIDATE_CUTS[3], weights, np.zeros(2, np.float32)), rows, rows[:0])
    content = to_int8(network.evidence_model(base, found, rows.mean(0)), list(images[:, np.newaxis]))
    assert len(stored := heads_in(content)) == 3
    parts = np.split(found.weights, np.cumsum([CHANNELS[cut] for cut in CANDIDATE_CUTS[3]])[:-1])
    for expected in parts:
        assert stored[len(expected)] == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def heads_in(content: bytes) -> dict[int, np.ndarray]:
    """The kernels (channels, 2) of the heads, by their channels."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    found = {}
    for tensor in interpreter.get_tensor_details():
        if tensor["shape"].tolist()[:3] == [2, 1, 1] and tensor["dtype"] == np.int8:
            stored = interpreter.get_tensor(tensor["index"])[:, 0, 0].T
            found[len(stored)] = stored * tensor["quantization_parameters"]["scales"]
    return found
