"""Which pictures a model can judge: the changes of light, focus and sensor that its verdicts bear.

Each change is made stronger step by step on some of the judged images, until more of the defective ones would
be OK, or more of the good ones NG, than the model may cost. A picture that lies beyond is MARGINAL on the
device.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from device.bundle.bundle import ScoreCalibration, Thresholds
from device.bundle.calibration import FamiliarRanges, Range
from device.inspection.checks import Checks
from device.learning.familiarity import LEAST, LEAST_SD, natural
from trainer.bundle.rehearsal import Rehearsal, UnderChange
from trainer.data.changes import Change, blurred, gained, lifted, noisy, smeared, tinted, uneven
from trainer.recipes.learned import TrainedModel

log = logging.getLogger(__name__)

MORE_MISSES = 0.1  # of the defective ones may be OK under a change
MORE_REJECTS = 0.1  # of the good ones may be NG
TOWARDS = 0.75  # of the way from the last step that is borne to the next: what is like that one lies outside
TAIL = 0.05  # of the pictures under a change that is borne may still lie outside


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
    Ramp("sharpness", -1, tuple(blurred(sigma) for sigma in (0.7, 1.0, 1.5, 2.5))),
    Ramp("sharpness", 1, tuple(noisy(sd) for sd in (8.0, 15.0, 25.0))),
    Ramp("smear", -1, tuple(smeared(length) for length in (3, 5, 9, 13))),
    Ramp("smear", 1, tuple(smeared(length, down=True) for length in (3, 5, 9, 13))),
    Ramp("slope_x", 1, tuple(uneven(1 - by, 1 + by, 0.0) for by in (0.25, 0.4, 0.6))),
    Ramp("slope_y", 1, tuple(uneven(1 - by, 1 + by, 90.0) for by in (0.25, 0.4, 0.6))),
)
COLOUR_RAMPS = (
    Ramp("warmth", 1, tuple(tinted((1 + by, 1.0, 1 - by)) for by in (0.1, 0.2, 0.3))),
    Ramp("warmth", -1, tuple(tinted((1 - by, 1.0, 1 + by)) for by in (0.1, 0.2, 0.3))),
)


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
    rehearsal = Rehearsal(learned)
    ramps = RAMPS + (COLOUR_RAMPS if learned.preprocess.colour == "rgb" else ())
    caps: list[tuple[Ramp, float]] = []
    for ramp in ramps:
        borne, cap = _climb(rehearsal, ramp, scores, thresholds)
        for under in borne:
            known = _widened(known, under.pictures, TAIL)
        if cap is not None:
            caps.append((ramp, cap))
    for ramp, cap in caps:
        known = _capped(known, ramp, cap, least)
    log.info("pictures that can be judged: %s", _words(known))
    return known


def _climb(
    rehearsal: Rehearsal, ramp: Ramp, scores: ScoreCalibration, thresholds: Thresholds
) -> tuple[list[UnderChange], float | None]:
    """(the steps that are borne, the value of the quantity between the last and one that is not)."""
    borne: list[UnderChange] = []
    last, most = rehearsal.usual, _wrong(rehearsal.usual, scores, thresholds)
    for step in ramp.steps:
        under = rehearsal.under(step)
        misses, rejects = _wrong(under, scores, thresholds)
        if misses > most[0] + MORE_MISSES or rejects > most[1] + MORE_REJECTS:
            near, far = _middle(last, ramp.quantity), _middle(under, ramp.quantity)
            return borne, near + TOWARDS * (far - near)
        borne.append(under)
        last = under
    return borne, None


def _wrong(under: UnderChange, scores: ScoreCalibration, thresholds: Thresholds) -> tuple[float, float]:
    """(share of the defective ones that are OK, share of the good ones that are NG)."""
    judged = np.array([scores.score(one) for one in under.logits])
    bad, good = judged[under.labels == 1], judged[under.labels == 0]
    return (
        float((bad < thresholds.marginal).mean()) if len(bad) else 0.0,
        float((good >= thresholds.ng).mean()) if len(good) else 0.0,
    )


def _value(picture: Checks, quantity: str) -> float:
    if quantity == "brightness":
        return picture.brightness_ratio
    source = picture if quantity == "evidence" else picture.look
    return float(getattr(source, quantity))


def _middle(under: UnderChange, quantity: str) -> float:
    return float(np.median([_value(one, quantity) for one in under.pictures]))


def _widened(known: FamiliarRanges, pictures: Sequence[Checks], tail: float) -> FamiliarRanges:
    """Such that these lie inside as well, but for the tails; lights from either side are as well borne."""
    if not pictures:
        return known
    wider: dict[str, Any] = {}
    for name in LEAST_SD:
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
    ranges = {name: astuple(getattr(known, name)) for name in LEAST_SD if name != "evidence"}
    return ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (_, _, low, high) in ranges.items())
