"""Which pictures a model can judge: the changes of light, focus and sensor that its verdicts bear.

Each change is made stronger step by step on some of the judged images, until more of the defective ones would
be OK, or more of the good ones NG, than the model may cost. A picture that lies beyond is MARGINAL on the
device. An image's logit under a change is the one that it had when a model had not seen it, moved by what the
change does to the logit of the model that ships.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import ScoreCalibration, Thresholds
from device.bundle.calibration import FamiliarRanges, Range
from device.image.frame import Frame, frame_from_file
from device.inspection.checks import Checks, measure
from device.inspection.detector import mean_evidence
from device.inspection.preprocess import Preprocessor
from device.learning.familiarity import LEAST, natural
from trainer.data.changes import Change, blurred, gained, lifted, noisy, tinted, uneven
from trainer.network.export import Int8Model
from trainer.recipes.learned import TrainedModel

log = logging.getLogger(__name__)

IMAGES = 12  # of either label that are changed
MORE_MISSES = 0.1  # of the defective ones may be OK under a change
MORE_REJECTS = 0.1  # of the good ones may be NG
TOWARDS = 0.75  # of the way from the last step that is borne to the next: what is like that one lies outside
TAIL = 0.05  # of the pictures under a change that is borne may still lie outside

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ramp:
    """A change in steps, and by which quantity it is told: below its range (-1) or above (1)."""

    quantity: str
    side: int
    steps: tuple[Change, ...]


RAMPS = (
    Ramp("brightness", -1, tuple(gained(gain) for gain in (0.8, 0.65, 0.5, 0.4))),
    Ramp("brightness", 1, tuple(gained(gain) for gain in (1.25, 1.4, 1.6, 1.8))),
    Ramp("brightness", 1, tuple(lifted(by) for by in (25.0, 40.0, 60.0))),
    Ramp("sharpness", -1, tuple(blurred(sigma) for sigma in (0.5, 0.75, 1.0, 1.5, 2.5))),
    Ramp("sharpness", 1, tuple(noisy(sd) for sd in (4.0, 8.0, 15.0, 25.0))),
    Ramp("slope_x", 1, tuple(uneven(1 - by, 1 + by, 0.0) for by in (0.25, 0.4, 0.6))),
    Ramp("slope_y", 1, tuple(uneven(1 - by, 1 + by, 90.0) for by in (0.25, 0.4, 0.6))),
)
COLOUR_RAMPS = (
    Ramp("warmth", 1, tuple(tinted((1 + by, 1.0, 1 - by)) for by in (0.1, 0.2, 0.3))),
    Ramp("warmth", -1, tuple(tinted((1 - by, 1.0, 1 + by)) for by in (0.1, 0.2, 0.3))),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Under:
    """Some images under a change: their pictures, and their logits (n,), unseen."""

    pictures: list[Checks]
    logits: Values


def measured(
    learned: TrainedModel,
    scores: ScoreCalibration,
    thresholds: Thresholds,
    good: Sequence[Checks],
    bad: Sequence[Checks],
    rate: float,
) -> FamiliarRanges | None:
    """The pictures that can be judged. `good`, `bad`: of images as they are. None where the good are too few.

    A defect may change a picture's figures: those of defective images lie inside, or NG would be MARGINAL.
    """
    if len(good) < LEAST:
        return None
    known = least = _widened(natural(good, rate), bad, 0.0)
    labels = learned.labels
    few = np.concatenate([_spread(np.flatnonzero(labels == label)) for label in (0, 1)])
    white = learned.preprocess.white_level
    frames = [frame_from_file(learned.judged[index].path, 0, white) for index in few]
    trial = _Trial(learned, scores, frames, learned.pooled[few], labels[few], thresholds)
    ramps = RAMPS + (COLOUR_RAMPS if learned.preprocess.colour == "rgb" else ())
    caps: list[tuple[Ramp, float]] = []
    for ramp in ramps:
        borne, cap = trial.climb(ramp)
        for under in borne:
            known = _widened(known, under.pictures, TAIL)
        if cap is not None:
            caps.append((ramp, cap))
    for ramp, cap in caps:
        known = _capped(known, ramp, cap, least)
    log.info("pictures that can be judged: %s", _words(known))
    return known


class _Trial:
    """The model that ships, on some images under changes."""

    def __init__(
        self,
        learned: TrainedModel,
        scores: ScoreCalibration,
        frames: Sequence[Frame],
        pooled: Values,
        labels: NDArray[np.int64],
        thresholds: Thresholds,
    ) -> None:
        self._model = Int8Model(learned.content)
        self._preprocessor = Preprocessor(learned.preprocess)
        self._pooling, self._scores, self._thresholds = learned.pooling, scores, thresholds
        self._frames, self._labels = frames, labels
        plain = self._looked_at(None)
        self._moved = pooled - plain.logits
        self._usual = replace(plain, logits=pooled)

    def climb(self, ramp: Ramp) -> tuple[list[_Under], float | None]:
        """(the steps that are borne, the value of the quantity between the last and one that is not)."""
        borne: list[_Under] = []
        last = self._usual
        for step in ramp.steps:
            under = self._looked_at(step)
            under = replace(under, logits=under.logits + self._moved)
            if not self._bears(under):
                near, far = _middle(last, ramp.quantity), _middle(under, ramp.quantity)
                return borne, near + TOWARDS * (far - near)
            borne.append(under)
            last = under
        return borne, None

    def _bears(self, under: _Under) -> bool:
        misses, rejects = self._wrong(self._usual.logits)
        more_misses, more_rejects = self._wrong(under.logits)
        return more_misses <= misses + MORE_MISSES and more_rejects <= rejects + MORE_REJECTS

    def _wrong(self, logits: Values) -> tuple[float, float]:
        """(share of the defective ones that are OK, share of the good ones that are NG)."""
        judged = np.array([self._scores.score(one) for one in logits])
        bad, good = judged[self._labels == 1], judged[self._labels == 0]
        return (
            float((bad < self._thresholds.marginal).mean()) if len(bad) else 0.0,
            float((good >= self._thresholds.ng).mean()) if len(good) else 0.0,
        )

    def _looked_at(self, change: Change | None) -> _Under:
        pictures, logits = [], []
        for number, frame in enumerate(self._frames):
            shown = frame
            if change is not None:
                shown = replace(frame, image=change(frame.image, np.random.default_rng(number)))
            model_input = self._preprocessor.prepare(shown)
            prediction = self._model.predict(model_input, self._pooling, self._scores)
            evidence = mean_evidence(model_input.framing, prediction.evidence)
            pictures.append(replace(measure(model_input), evidence=evidence))
            logits.append(prediction.pooled)
        return _Under(pictures, np.array(logits))


def _spread(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    few = np.linspace(0, len(indices) - 1, min(IMAGES, len(indices))).round().astype(np.intp)
    return np.asarray(indices[np.unique(few)], np.intp)


def _value(picture: Checks, quantity: str) -> float:
    if quantity == "brightness":
        return picture.brightness_ratio
    source = picture if quantity == "evidence" else picture.look
    return float(getattr(source, quantity))


def _middle(under: _Under, quantity: str) -> float:
    return float(np.median([_value(one, quantity) for one in under.pictures]))


def _widened(known: FamiliarRanges, pictures: Sequence[Checks], tail: float) -> FamiliarRanges:
    """Such that these lie inside as well, but for the tails; lights from either side are as well borne."""
    if not pictures:
        return known
    wider: dict[str, Any] = {}
    for name in ("brightness", "sharpness", "warmth", "slope_x", "slope_y", "evidence"):
        values = [_value(one, name) for one in pictures]
        own: Range = getattr(known, name)
        low, high = np.quantile(values, (tail, 1 - tail))
        if name.startswith("slope"):
            low = min(low, 2 * own.usual - high)
        wider[name] = replace(
            own,
            low=None if own.low is None else min(own.low, float(low)),
            high=None if own.high is None else max(own.high, float(high)),
        )
    return replace(known, **wider)


def _capped(known: FamiliarRanges, ramp: Ramp, cap: float, least: FamiliarRanges) -> FamiliarRanges:
    """Such that pictures beyond `cap` lie outside, but none that good parts have anyway."""
    own, natural_one = getattr(known, ramp.quantity), getattr(least, ramp.quantity)
    if ramp.side > 0:
        changed = replace(own, high=max(natural_one.high, min(own.high, cap)))
        if ramp.quantity.startswith("slope"):
            changed = replace(changed, low=min(natural_one.low, max(own.low, 2 * own.usual - cap)))
    else:
        changed = replace(own, low=min(natural_one.low, max(own.low, cap)))
    return replace(known, **{ramp.quantity: changed})


def _words(known: FamiliarRanges) -> str:
    names = ("brightness", "sharpness", "warmth", "slope_x", "slope_y")
    ranges = [astuple(getattr(known, name)) for name in names]
    return ", ".join(
        f"{name} {low:.3g} to {high:.3g}" for name, (_, _, low, high) in zip(names, ranges, strict=True)
    )
