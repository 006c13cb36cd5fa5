"""A few known defects sharpen a bundle that was taught good parts alone: `trainer.fit --from BUNDLE`.

The model and the memory stay as they are. Beside the memory comes a head, linear in the same int8 features,
fitted to the means of images as the probe's is (recipes.probe); a cell's evidence is its distance plus a
share of what the head says. Strength and share are chosen by cross-validation: each image is judged by a head
that has not seen its fold, and, where the memory was made of some of the good ones, by a memory that has not
either: good and defective ones by the same, since a smaller memory finds everything stranger. The best head
is taken only where it gains more on the memory alone than the standard error of that gain, by the bootstrap
over groups: the best of many does a little better on few images by luck alone.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from device.bundle import memory as memories
from device.bundle import reference as references
from device.bundle import store
from device.bundle.bundle import Bundle, Contents, GoldenSpec, GoldenVector, Pooling
from device.bundle.memory import Memory, Scale
from device.errors import BundleError
from device.image.frame import frame_from_file
from device.inspection.detector import pooled_tiles
from device.inspection.pipeline import prove
from device.learning.familiarity import LEAST, natural
from device.learning.features import FrameFeatures, Sight
from device.learning.good_frames import drift_reference, pictures, remember
from device.system import clock
from trainer.bundle import calibration as calibrations
from trainer.bundle import provenance
from trainer.config import TrainerConfig
from trainer.data import dataset as datasets
from trainer.data.dataset import Dataset, Sample
from trainer.recipes import probe
from trainer.scoring import metrics, thresholds
from trainer.scoring.quality import Quality, gain_error

log = logging.getLogger(__name__)

STRENGTHS = (0.01, 0.1, 1.0)  # of regularization, scikit-learn's C
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the head, in standard deviations of its map on good images
ITERATIONS = 200

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Labelled images as the model saw them.

    `judged`: of each image, for each of its tiles the map and its scale, from a memory that has not seen it.
    """

    samples: tuple[Sample, ...]
    seen: tuple[FrameFeatures, ...]
    fold_of: NDArray[np.int64]
    judged: tuple[tuple[tuple[Map, Scale], ...], ...]
    pooling: Pooling

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([sample.label for sample in self.samples])

    def pooled(self, added: Sequence[Sequence[Map]] | None = None, share: float = 0.0) -> NDArray[np.float64]:
        """Of each image, with a share of further maps."""
        found = []
        for index, one in enumerate(self.seen):
            maps = [own for own, _ in self.judged[index]]
            scales = [scale for _, scale in self.judged[index]]
            if added is not None:
                maps = [own + np.float32(share) * more for own, more in zip(maps, added[index], strict=True)]
            found.append(max(pooled_tiles(one.framing, maps, self.pooling, scales)))
        return np.array(found)


@dataclass(frozen=True, slots=True, eq=False)
class StrengthResult:
    """`share` 0: the memory alone. `pooled`: of each image, judged by what had not seen it."""

    strength: float
    share: float
    quality: Quality
    pooled: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The memory alone and the best of the heads; `gain`: of merit, `error`: its standard error."""

    alone: StrengthResult
    best: StrengthResult
    gain: float
    error: float

    @property
    def taken(self) -> StrengthResult:
        return self.best if self.gain > self.error else self.alone


def sharpen(start: Bundle, dataset: Dataset, out: Path, config: TrainerConfig, seed: int) -> Path:
    """Write the bundle with a head and new thresholds; its path. Raises EdgeVisionError."""
    ground = _ground(start, dataset.train, config.split.folds, seed)
    heads = Heads(ground)
    choice = choose(ground, heads)
    chosen = choice.taken
    _report(choice)
    memory = _memory(start)
    if chosen.share:
        head = np.float32(chosen.share) * heads.fit(np.ones(len(ground.seen), bool), chosen.strength)
        memory = Memory(replace(memory.good, head=head), memory.spec)
    scores = thresholds.calibrate(ground.labels, chosen.pooled)
    limits = thresholds.choose(ground.labels, chosen.pooled, scores, config.threshold)
    golden = _golden(ground, thresholds.scored(chosen.pooled, scores), limits.ng, config.bundle.golden)
    good = [one for one, label in zip(ground.seen, ground.labels, strict=True) if not label]
    shown = pictures(good, memory)
    sight, spec = Sight(start), start.calibration.preprocess
    vectors = tuple(
        GoldenVector(name, sight.score(calibrations.golden_frame(sample, spec), memory, scores))
        for name, sample in golden.items()
    )
    calibration = replace(
        start.calibration,
        created=clock.stamp(),
        score_calibration=scores,
        thresholds=limits,
        golden=GoldenSpec(start.calibration.golden.tolerance, vectors),
        drift_reference=drift_reference(
            good, shown, [scores.score(float(value)) for value in chosen.pooled[ground.labels == 0]]
        ),
        familiar=natural(shown, config.familiar.rate)
        if config.familiar.rate and len(shown) >= LEAST
        else None,
        training=_training(start, dataset, config, choice, seed),
        metrics=_metrics(ground, choice),
    )
    contents = Contents(
        start.model_path.read_bytes(),
        calibration,
        {name: calibrations.png(sample, spec) for name, sample in golden.items()},
        {memories.FILE: memory.good.to_bytes(), **_extra(start, dataset)},
    )
    name = config.bundle.name or start.calibration.model_id
    return store.lead_to(store.publish(out, name, contents, prove))


# ---- what is known


def _memory(start: Bundle) -> Memory:
    """The bundle's, without a head that it may have from before. Raises BundleError where it has none."""
    found = start.memory()
    if found is None:
        raise BundleError(f"{start.path}: has no memory; --from takes what --mode good-only made")
    return Memory(replace(found.good, head=np.zeros(0, np.float32)), found.spec)


def _ground(start: Bundle, samples: Sequence[Sample], k: int, seed: int) -> Ground:
    kept = _memory(start)
    sight = Sight(start)
    white = start.calibration.preprocess.white_level
    seen = tuple(sight.see(frame_from_file(sample.path, 0, white)) for sample in samples)
    fold_of = np.array(datasets.folds(samples, probe.fold_count(samples, k), seed))
    taught = _taught(start)
    against: list[Memory] = []
    for fold in range(int(fold_of.max()) + 1):
        others = [
            one
            for one, sample, of in zip(seen, samples, fold_of, strict=True)
            if of != fold and not sample.label
        ]
        against.append(remember(others, kept.spec))
    new = not any(sample.sha256 in taught for sample in samples)
    judged = tuple(
        tuple((kept if new else against[fold]).judge(part) for part in one.parts)
        for one, fold in zip(seen, fold_of, strict=True)
    )
    return Ground(tuple(samples), seen, fold_of, judged, sight.pooling)


def _taught(start: Bundle) -> set[str]:
    """The digests of the images that the memory was made of."""
    return {sha256 for sha256, line in _split(start).items() if line.split == "train"}


def _split(start: Bundle) -> dict[str, datasets.SplitRow]:
    path = start.path / "split.csv"
    return datasets.read_split_csv(path.read_bytes(), str(path)) if path.is_file() else {}


# ---- the head


class Heads:
    """Linear heads on the features of a ground."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        rows = [one.rows.astype(np.float32) for one in ground.seen]
        self._means = np.stack([own.mean(0) for own in rows])
        self._squares = np.stack([own.T @ own / np.float32(len(own)) for own in rows])

    def fit(self, part: NDArray[np.bool_], strength: float) -> NDArray[np.float32]:
        """(channels + 1,): weights and constant; on the cells of good images its map has mean 0 and sd 1."""
        labels = self._ground.labels
        good = part & (labels == 0)
        spread = np.sqrt(np.diagonal(self._squares[good].mean(0)) + 1.0)  # of a flat one too
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=ITERATIONS)
        with threadpool_limits(1, "blas"):  # see probe._fit
            model.fit(self._means[part] / spread, labels[part])
        weights = model.coef_[0] / spread
        mean = self._means[good].mean(0)
        inner = self._squares[good].mean(0) - np.outer(mean, mean)
        sd = float(np.sqrt(max(weights @ inner @ weights, 1e-12)))
        return np.append(weights, -weights @ mean).astype(np.float32) / np.float32(sd)

    def maps(self, strength: float) -> list[list[Map]]:
        """Of each image, those of the head that has not seen its fold."""
        fold_of = self._ground.fold_of
        heads = [self.fit(fold_of != fold, strength) for fold in range(int(fold_of.max()) + 1)]
        return [
            [part.linear(heads[fold]) for part in one.parts]
            for one, fold in zip(self._ground.seen, fold_of, strict=True)
        ]


def choose(ground: Ground, heads: Heads) -> Choice:
    """The best head against the memory alone."""
    alone = _judged(ground, 0.0, 0.0, None)
    tried = []
    for strength in STRENGTHS:
        maps = heads.maps(strength)
        tried += [_judged(ground, strength, share, maps) for share in SHARES]
    best = max(tried, key=lambda one: one.quality.merit)
    groups = [sample.group for sample in ground.samples]
    error = gain_error(ground.labels, best.pooled, alone.pooled, groups)
    return Choice(alone, best, best.quality.merit - alone.quality.merit, error)


def _judged(
    ground: Ground, strength: float, share: float, maps: Sequence[Sequence[Map]] | None
) -> StrengthResult:
    pooled = ground.pooled(maps, share)
    return StrengthResult(strength, share, Quality.of(ground.labels, pooled), pooled)


# ---- what the bundle says


def _golden(ground: Ground, judged: NDArray[np.float64], ng: float, count: int) -> dict[str, Sample]:
    """A typical good one, a typical defective one, then the nearest to the threshold."""
    order = np.argsort(judged, kind="stable")
    of_label = [order[ground.labels[order] == label] for label in (0, 1)]
    picked = [int(ranked[len(ranked) // 2]) for ranked in of_label]
    picked += [int(index) for index in np.argsort(np.abs(judged - ng), kind="stable")]
    samples = [ground.samples[index] for index in list(dict.fromkeys(picked))[:count]]
    words = ("good", "defective")
    return {f"{index}-{words[sample.label]}.png": sample for index, sample in enumerate(samples)}


def _metrics(ground: Ground, choice: Choice) -> dict[str, Any]:
    labels = ground.labels
    found = {
        name: {
            "n_images": len(labels),
            "n_defective": int(labels.sum()),
            "auroc": metrics.auroc(labels, one.pooled),
            "ap": metrics.average_precision(labels, one.pooled),
        }
        for name, one in (("int8", choice.taken), ("memory", choice.alone), ("best_head", choice.best))
    }
    judged_by = f"{int(ground.fold_of.max()) + 1}-fold cross-validation"
    return {"judged_by": judged_by, **found, "gain": choice.gain, "gain_standard_error": choice.error}


def _training(
    start: Bundle, dataset: Dataset, config: TrainerConfig, choice: Choice, seed: int
) -> dict[str, Any]:
    before, chosen = start.calibration.training, choice.taken
    record = {
        "recipe": "sharpened",
        "from": start.name,
        "chosen": {"strength": chosen.strength, "share": chosen.share},
    }
    found = provenance.record(record, dataset, config, weights="none", seed=seed)
    return {**found, "weights": before.get("weights"), "before": before}


def _extra(start: Bundle, dataset: Dataset) -> dict[str, bytes]:
    """The split, with the images that the memory was made of; the golden reference where there is one."""
    own = {sample.sha256 for sample in dataset.samples}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        (one.path, one.label, one.group, one.split, sha256)
        for sha256, one in _split(start).items()
        if sha256 not in own
    )
    found = {"split.csv": datasets.split_csv(dataset) + text.getvalue().encode()}
    if start.calibration.localization.reference is not None:
        found[references.FILE] = (start.path / references.FILE).read_bytes()
    return found


def _report(choice: Choice) -> None:
    log.info("the memory alone: %s", _described(choice.alone))
    log.info(
        "with a head of strength %g and share %g: %s",
        choice.best.strength,
        choice.best.share,
        _described(choice.best),
    )
    gain = f"{choice.gain:+.3f} of merit, standard error {choice.error:.3f}"
    if choice.taken is choice.best:
        log.info("the head is taken: %s", gain)
    else:
        log.warning("no head is taken (%s): the memory stays alone, the thresholds are new", gain)


def _described(one: StrengthResult) -> str:
    return f"AP {one.quality.ap:.4f}, d' {one.quality.separation:.2f}, by cross-validation"
