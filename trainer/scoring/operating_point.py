"""Where NG begins, as wished: at the greatest F1, a precision, a false-reject rate, or the least cost.

A wish for a rate is granted only where the judged images vouch for it: with the confidence asked for, the
true rate is as wished (device.learning.confidence). Else it is refused, with the number of images that it
would take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.errors import DataError
from device.learning.confidence import allowed, images_needed, lower_bound, upper_bound
from trainer.config import ThresholdConfig
from trainer.scoring import metrics

RESAMPLES = 2000
FEW_DEFECTIVE = 10  # images: that not one of so few is found does not refuse a wished false-reject rate
FACTORS = tuple(2**step for step in range(1, 16))  # of the images at hand, that may be asked for
SPACED = 10  # of the greatest good images: how far apart they lie says how far above them NG begins
SEED = 0  # of the resampling: the same images give the same interval

Labels = NDArray[np.int64]  # (n,), 0 good, 1 defective
Values = NDArray[np.float64]  # (n,)


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Every place between two judged images where NG may begin, from the top: (m,) each.

    `logit`: halfway in the gap, as wide as `gap`. `tp`, `fp`: how many are rejected there. `good`, `bad`: how
    many there are.
    """

    logit: Values
    gap: Values
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    good: int
    bad: int

    @classmethod
    def of(cls, labels: Labels, pooled: Values) -> Cuts:
        """Images of equal logit fall on the same side. Below the least there is room of 1."""
        order = np.argsort(-pooled, kind="stable")
        ranked, hits = pooled[order], np.cumsum(labels[order])
        below = np.append(ranked[1:], ranked[-1] - 1.0)
        real = ranked > below
        rejected = np.arange(1, len(ranked) + 1)
        bad = int(hits[-1])
        return cls(
            ((ranked + below) / 2)[real],
            (ranked - below)[real],
            hits[real].astype(np.int64),
            (rejected - hits)[real].astype(np.int64),
            len(ranked) - bad,
            bad,
        )

    def widest(self, among: NDArray[np.bool_]) -> float:
        """The logit of the cut with the widest gap of some."""
        chosen = np.flatnonzero(among)
        return float(self.logit[chosen[np.argmax(self.gap[chosen])]])

    def first_of_most_hits(self, among: NDArray[np.bool_]) -> float:
        """Of some, the one with the most defects rejected, and of those the fewest good images."""
        chosen = np.flatnonzero(among)
        return float(self.logit[chosen[np.argmax(self.tp[chosen])]])  # argmax: the first, the highest


def begin(
    labels: Labels, pooled: Values, wish: ThresholdConfig, changed: Sequence[tuple[Labels, Values]] = ()
) -> float:
    """The logit from which images are NG. Raises DataError where the images do not carry the wish.

    `changed`: labels and logits of some images, for each slight change of light, focus or sensor. F1 is then
    the greatest of the images as they are and under the changes, each half of it; a promise (a precision, a
    rate, a cost) is made of the images as they are.
    """
    bad = int(labels.sum())
    require_enough(len(labels) - bad, bad, wish)
    if changed and wish.choose == "f1":
        return _steadiest_f1(labels, pooled, changed)
    cuts = Cuts.of(labels, pooled)
    if wish.choose == "false_reject_rate" and bad < FEW_DEFECTIVE and not cuts.tp[_legal(cuts, wish)].any():
        return above_good(np.sort(pooled[labels == 0])[::-1], wish.false_reject_rate, wish.confidence)
    return {"f1": _best_f1, "precision": _precise, "false_reject_rate": _rarely, "cost": _cheapest}[
        wish.choose
    ](cuts, wish)


def require_enough(good: int, bad: int, wish: ThresholdConfig) -> None:
    """Refuse what so many images could not show even if every one of them were judged right."""
    found = f"found {good} good and {bad} defective"
    if wish.choose != "false_reject_rate" and not (good and bad):
        raise DataError(
            f'[threshold] choose = "{wish.choose}": needs good and defective images, {found}; '
            'from good ones alone: choose = "false_reject_rate"'
        )
    if wish.choose == "false_reject_rate":
        _require(good, "good", wish.false_reject_rate, wish, "false_reject_rate")
    if wish.choose == "precision":
        _require(bad, "defective", 1 - wish.precision, wish, "precision")


def _require(count: int, word: str, rate: float, wish: ThresholdConfig, key: str) -> None:
    if allowed(count, rate, wish.confidence) is not None:
        return
    bound = upper_bound(0, count, wish.confidence)
    best = f"precision of {1 - bound:.4f} or more" if key == "precision" else f"rate of {bound:.4f} or less"
    raise DataError(
        f"[threshold] {key} = {getattr(wish, key):g} at a confidence of {wish.confidence:g}: needs "
        f"{images_needed(rate, wish.confidence)} {word} images or more, found {count}, "
        f"which show a {best} at best"
    )


# ---- the four wishes


def _steadiest_f1(labels: Labels, pooled: Values, changed: Sequence[tuple[Labels, Values]]) -> float:
    own, theirs = zip((labels, pooled), *changed, strict=True)
    cuts = Cuts.of(np.concatenate(own), np.concatenate(theirs))
    bad, good = int(labels.sum()), int((labels == 0).sum())
    found = [_f1_at(cuts.logit, *one, bad=bad, good=good) for one in changed]
    mean = _f1_at(cuts.logit, labels, pooled, bad=bad, good=good) + np.mean(found, axis=0)
    return cuts.widest(mean >= mean.max() - 1e-9)


def _f1_at(logits: Values, labels: Labels, pooled: Values, *, bad: int, good: int) -> Values:
    """F1 at some thresholds (m,), as if so many images of either label had been judged."""
    hits, rejects = (
        count * (pooled[labels == label][:, np.newaxis] >= logits).mean(axis=0)
        for label, count in ((1, bad), (0, good))
    )
    return np.asarray(2 * hits / (hits + rejects + bad))


def _best_f1(cuts: Cuts, wish: ThresholdConfig) -> float:
    f1 = (
        2 * cuts.tp / (cuts.tp + cuts.fp + cuts.bad)
    )  # quotients of whole numbers: equal ones are exactly equal
    return cuts.widest(f1 == f1.max())


def _rarely(cuts: Cuts, wish: ThresholdConfig) -> float:
    """Of the cuts that the allowed number of good images reach, the one that finds the most defects."""
    legal = _legal(cuts, wish)
    if not cuts.tp[legal].any():
        most = allowed(cuts.good, wish.false_reject_rate, wish.confidence)
        raise DataError(
            f"[threshold] false_reject_rate = {wish.false_reject_rate:g}: no defective image would be found: "
            f"more than the {most} allowed of {cuts.good} good ones score above all of them"
        )
    return cuts.first_of_most_hits(legal)


def _legal(cuts: Cuts, wish: ThresholdConfig) -> NDArray[np.bool_]:
    """The cuts that no more good images reach than a wished false-reject rate allows."""
    most = allowed(cuts.good, wish.false_reject_rate, wish.confidence)
    return np.asarray(cuts.fp <= (-1 if most is None else most))


def _precise(cuts: Cuts, wish: ThresholdConfig) -> float:
    """Of the cuts whose precision is vouched for, the one that finds the most defects."""
    rejected = cuts.tp + cuts.fp
    pairs = zip(cuts.tp.tolist(), rejected.tolist(), strict=True)
    bounds = np.array([lower_bound(tp, of, wish.confidence) for tp, of in pairs])
    if (bounds >= wish.precision).any():
        return cuts.first_of_most_hits(bounds >= wish.precision)
    best = int(np.argmax(bounds))
    seen = int(cuts.fp[best]) / int(rejected[best])
    needed = images_needed(1 - wish.precision, wish.confidence, seen)
    raise DataError(
        f"[threshold] precision = {wish.precision:g} at a confidence of {wish.confidence:g}: the most that "
        f"these images show is {bounds[best]:.4f} ({cuts.fp[best]} of {rejected[best]} rejected are good); "
        + (
            f"{needed} rejected images with as few mistakes would be needed"
            if needed
            else "no number of such images would show it: wish for less, or train a better model"
        )
    )


def _cheapest(cuts: Cuts, wish: ThresholdConfig) -> float:
    """The least expected cost of a part, where it is sure to be less than that of not inspecting at all."""
    cost = expected_cost(cuts.tp, cuts.fp, cuts.good, cuts.bad, wish)
    logit = cuts.widest(cost <= cost.min() * (1 + 1e-12))
    at = int(np.flatnonzero(cuts.logit == logit)[0])
    found = (int(cuts.tp[at]), int(cuts.fp[at]), cuts.good, cuts.bad)
    blind, dearest = min(_blind_costs(cuts.good, cuts.bad, wish)), _dearest(found, 1, wish)
    if dearest < blind:
        return logit
    sure = (factor for factor in FACTORS if _dearest(found, factor, wish) < blind)
    more = next(sure, None) if cost[at] < blind else None
    raise DataError(
        f'[threshold] choose = "cost": a part costs {cost[at]:.4g} at the best threshold, at a confidence of '
        f"{wish.confidence:g} {dearest:.4g} or less; to reject every part, or none, costs {blind:.4g}; "
        + (
            f"{more * cuts.good} good and {more * cuts.bad} defective images as these would be enough, "
            f"found {cuts.good} and {cuts.bad}"
            if more
            else "no number of such images would do: train a better model, or check the costs"
        )
    )


def expected_cost(tp: Any, fp: Any, good: int, bad: int, wish: ThresholdConfig) -> Any:
    """Of a part from the line, by the rates seen: of misses and of false rejects, each times its cost."""
    return _cost((bad - tp) / bad, fp / good, _defect_rate(good, bad, wish), wish)


def _cost(missed: Any, false_rejects: Any, defect_rate: float, wish: ThresholdConfig) -> Any:
    return (
        defect_rate * missed * wish.cost_of_miss
        + (1 - defect_rate) * false_rejects * wish.cost_of_false_reject
    )


def _defect_rate(good: int, bad: int, wish: ThresholdConfig) -> float:
    return wish.defect_rate or bad / (good + bad)


def _blind_costs(good: int, bad: int, wish: ThresholdConfig) -> tuple[float, float]:
    """(of rejecting no part, of rejecting every part)."""
    rate = _defect_rate(good, bad, wish)
    return float(_cost(1.0, 0.0, rate, wish)), float(_cost(0.0, 1.0, rate, wish))


def _dearest(found: tuple[int, int, int, int], factor: int, wish: ThresholdConfig) -> float:
    """The cost with both rates at their upper bounds, which share what the confidence leaves open.

    `found`: (tp, fp, good, bad), `factor` times as many of each.
    """
    tp, fp, good, bad = (factor * count for count in found)
    each = 1 - (1 - wish.confidence) / 2
    missed, rejects = upper_bound(bad - tp, bad, each), upper_bound(fp, good, each)
    return float(_cost(missed, rejects, _defect_rate(good, bad, wish), wish))


# ---- good parts alone


def above_good(good: Values, rate: float, confidence: float) -> float:
    """A logit that at most `rate` of all good parts reach, from the logits of some (descending).

    Between the last that may be rejected and the next (Wilks, 1941; see device.learning.confidence). Where
    none may be, above the greatest: by half of what the greatest SPACED lie apart on the average.
    Raises DataError where so few images cannot show it.
    """
    most = allowed(len(good), rate, confidence)
    if most is None:
        needed = images_needed(rate, confidence)
        raise DataError(
            f"a false-reject rate of {rate:g} at a confidence of {confidence:g} needs {needed} good "
            f"images or more, found {len(good)}"
        )
    next_one = float(good[most])
    greater = good[good > next_one]
    if len(greater):
        return float(greater[-1] + next_one) / 2
    top = good[:SPACED]
    return next_one + max(float(top[0] - top[-1]) / max(1, len(top) - 1) / 2, 1e-6)


# ---- what is known of the choice


def describe(labels: Labels, scores: Values, ng: float, wish: ThresholdConfig) -> dict[str, Any]:
    """How `ng` was chosen and what is known of it there, for people and for the record in a bundle.

    Each of `at_ng` is (seen, low, high) at the wish's confidence, two-sided, or None where it is not defined:
    Clopper and Pearson's interval for shares, the bootstrap for F1 and cost.
    """
    found = metrics.confusion(labels, scores, ng)
    good, bad = found.fp + found.tn, found.tp + found.fn
    keys = {
        "precision": ("precision",),
        "false_reject_rate": ("false_reject_rate",),
        "cost": ("cost_of_miss", "cost_of_false_reject", "defect_rate"),
    }.get(wish.choose, ())
    shares = {
        "precision": (found.tp, found.tp + found.fp),
        "recall": (found.tp, bad),
        "false_reject_rate": (found.fp, good),
    }
    at_ng: dict[str, list[float] | None] = {
        name: [hits / of, *metrics.interval(hits, of, wish.confidence)] if of else None
        for name, (hits, of) in shares.items()
    }
    both = bool(good and bad)
    at_ng["f1"] = [found.f1 or 0.0, *_resampled(found, wish, _f1)] if both else None
    if wish.choose == "cost":
        seen = float(expected_cost(found.tp, found.fp, good, bad, wish))
        at_ng["cost"] = [seen, *_resampled(found, wish, expected_cost)]
    return {
        "choose": wish.choose,
        "wanted": {key: getattr(wish, key) for key in keys},
        "marginal_share": wish.marginal_share,
        "confidence": wish.confidence,
        "good": good,
        "defective": bad,
        "at_ng": at_ng,
    }


def lines(described: dict[str, Any]) -> list[str]:
    """The operating points, for the log."""
    wanted = ", ".join(f"{key} {value:g}" for key, value in described["wanted"].items())
    shown = [
        f"{name} not defined" if values is None else "{} {:.4f} ({:.4f} to {:.4f})".format(name, *values)
        for name, values in described["at_ng"].items()
    ]
    by = f"{described['choose']}{f' ({wanted})' if wanted else ''}"
    return [
        f"NG chosen by {by}; at it, with {described['confidence']:.0%} intervals:",
        *(f"  {line}" for line in shown),
    ]


def _f1(tp: Any, fp: Any, good: int, bad: int, wish: ThresholdConfig) -> Any:
    return 2 * tp / (tp + fp + bad)


def _resampled(found: metrics.Confusion, wish: ThresholdConfig, statistic: Any) -> tuple[float, float]:
    """Of a statistic of (tp, fp): the bootstrap, with images of either label drawn anew.

    The threshold is kept, so a draw is two binomial numbers (Efron, Annals of Statistics 7, 1979). Their
    rates are (hits + 1/2) / (of + 1): where no image was judged wrong, what was seen never draws a mistake.
    """
    good, bad = found.fp + found.tn, found.tp + found.fn
    rng = np.random.default_rng(SEED)
    tp = rng.binomial(bad, (found.tp + 0.5) / (bad + 1), RESAMPLES)
    fp = rng.binomial(good, (found.fp + 0.5) / (good + 1), RESAMPLES)
    tail = 50 * (1 - wish.confidence)
    low, high = np.percentile(statistic(tp, fp, good, bad, wish), (tail, 100 - tail))
    return float(low), float(high)
