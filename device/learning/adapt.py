"""`adapt`: the bundle at work, re-centred on good parts of another lot or in another light.

What the model says of every part has moved a little; how it tells parts apart has not. So from 20 to 200 good
parts of today follow

    threshold   moved by as much as the typical good part has, or to where a further good part rarely reaches
                it, whichever is higher (a normal logit: confidence.py); NG begins at the same score as before
    regions     what good maps reach now, and the cut moved with it
    pictures    the ranges outside of which a picture cannot be judged, and the drift reference

and where the bundle has a memory, one of its rows and of today's together, as `learn` makes it. The network
stays as it is. It is refused where the parts are too strange, which asks for new training: where the typical
good part has moved by more than MOST_MOVES times what lay between it and NG. And where parts of known truth,
pictures in <state>/known/good and known/bad taken in today's light, are told apart worse than before. Without
bad ones nothing says what is found now, and the report says so.

The new bundle lies beside the others and is used when `activate` says so; to `activate` the one before, which
is named, takes it back.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np

from device.bundle import bundle as bundles
from device.bundle import learned_here, store
from device.bundle.bundle import (
    Bundle,
    Calibration,
    Contents,
    DriftReference,
    GoldenVector,
    Reference,
    ScoreCalibration,
    Thresholds,
)
from device.bundle.calibration import GoodMaps, LocalizationSpec
from device.camera.replay import image_files
from device.config import Config
from device.errors import BundleError, ConfigError, DataError, FrameError
from device.image.frame import Frame, frame_from_file
from device.inspection.checks import Checks
from device.inspection.detector import mean_evidence
from device.inspection.framing import counted_cells
from device.inspection.localizer import above_level
from device.inspection.pipeline import Pipeline, prove
from device.inspection.verdict import Word, decide
from device.learning import learn
from device.learning.collect import CollectionPlan, Fitness
from device.learning.confidence import Rate, student_quantile
from device.learning.familiarity import natural
from device.system import clock

LEAST_PARTS, MOST_PARTS = 20, 200
MOST_MOVES = 2.0  # of a score's logit, in distances from the typical good part to NG
MOST_MOVES_OF_MEMORY = 5.0  # today's parts are remembered: what was strange is not any more
FEWER_FOUND = 0.05  # of the known bad parts, than before
MORE_REJECTED = 0.05  # of the known good parts, than before


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """What `adapt` was asked for. `images`: None for the camera; `known`: None for <state>/known."""

    images: Path | None = None
    known: Path | None = None
    out: Path | None = None
    plan: CollectionPlan = field(default_factory=lambda: CollectionPlan(30, 1.0))
    false_rejects: float = 0.01

    def __post_init__(self) -> None:
        if not LEAST_PARTS <= self.plan.count <= MOST_PARTS:
            raise ConfigError(f"--count: must be {LEAST_PARTS}..{MOST_PARTS}, got {self.plan.count}")
        if not 0 <= self.plan.interval_s <= 86_400:
            raise ConfigError(f"--interval: must be 0..86400 seconds, got {self.plan.interval_s}")
        if not 0.0001 <= self.false_rejects <= 0.2:
            raise ConfigError(f"--false-rejects: must be 0.0001..0.2, got {self.false_rejects}")


@dataclass(frozen=True, slots=True)
class Part:
    """What the bundle says of the picture of a good part. `usual`, `peak`: of its map less the level."""

    sha256: str
    pooled: float
    usual: float
    peak: float
    checks: Checks


@dataclass(frozen=True, slots=True)
class Limits:
    """`moved`: by how much the threshold, a logit. `rate`: of the good parts that reach it."""

    scores: ScoreCalibration
    thresholds: Thresholds
    moved: float
    rate: Rate


@dataclass(frozen=True, slots=True)
class TruthGate:
    """Parts of known truth, before and now: good ones that were NG, bad ones that were found (not OK)."""

    rejected: tuple[Rate, Rate] | None
    found: tuple[Rate, Rate] | None

    @classmethod
    def of(cls, good: Sequence[tuple[Word, Word]], bad: Sequence[tuple[Word, Word]]) -> TruthGate:
        """From (the word before, the word now) of each."""
        return cls(_rates(good, lambda word: word == "NG"), _rates(bad, lambda word: word != "OK"))

    def require(self) -> None:
        """Raise DataError where they are told apart worse than before."""
        if self.found and _share(self.found[1]) < _share(self.found[0]) - FEWER_FOUND:
            raise DataError(f"of the known bad parts {self.found[1]} would be found, before {self.found[0]}")
        if self.rejected and _share(self.rejected[1]) > _share(self.rejected[0]) + MORE_REJECTED:
            raise DataError(
                f"of the known good parts {self.rejected[1]} would be NG, before {self.rejected[0]}"
            )


def adapt(config: Config, wanted: AdaptOptions) -> int:
    """Write an adapted bundle, and print where it lies. Returns the exit code: 0, or 130 where interrupted.

    Raises EdgeVisionError; then no bundle was written, and what was collected is there.
    """
    begin_s = time.monotonic()
    models = wanted.out or config.bundle
    learn.require_place(models, config)
    before = bundles.load(config.bundle)
    way = _OfScores(before, config) if before.calibration.memory is None else _OfMemory(before, config)
    folder = wanted.images
    if folder is None:
        folder = config.state / "adapted" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if not learn.collect(config, wanted.plan, folder, way.measure, before):
            learn.say(f"interrupted; go on with what is there: --images {folder}")
            return learn.INTERRUPTED
    rate, moved = way.learn(image_files(folder)[:MOST_PARTS], wanted)
    known = wanted.known or config.state / "known"
    gate = TruthGate.of(*(way.words(_frames(known / name, way.read)) for name in ("good", "bad")))
    gate.require()
    path = way.publish(models, wanted, gate)
    if models == config.bundle:
        learned_here.record(config.state, path)
    _report(before, rate, moved, gate, wanted)
    learn.say(
        f"{time.monotonic() - begin_s:.1f} s; it is not in use yet: python -m device activate {path.name}"
    )
    learn.say(f"back again: python -m device activate {before.name}")
    print(path)
    return 0


# ---- a bundle whose model scores


class _OfScores:
    """measure(), learn(), words(), publish(), in this order."""

    def __init__(self, before: Bundle, config: Config) -> None:
        self._before, self._config = before, config
        model, region = config.model, config.inspection.region
        self._pipeline = Pipeline(
            before, "adapt", "adapt", model.threads, model.runtime, region, doubts=False
        )
        self._parts: list[Part] = []

    def read(self, path: Path) -> Frame:
        """The picture in a file, as the bundle reads it. Raises FrameError."""
        return self._pipeline.read(path, 0)

    def measure(self, frame: Frame) -> Checks:
        """Light and focus of a frame."""
        return self._pipeline.prepare(frame).checks

    def learn(self, files: Sequence[Path], wanted: AdaptOptions) -> tuple[Rate, float]:
        """(how many of these good parts are NG at the new threshold, by how much that has moved)."""
        fitness, known = Fitness(self._config.health), set[str]()
        for path in files:
            try:
                frame = self.read(path)
            except FrameError as error:
                learn.say(f"left out: {error}")
                continue
            refusal = fitness.refusal(frame, self.measure(frame))
            if frame.sha256 in known or refusal is not None:
                learn.say(f"left out: {path}: {refusal or 'is there already'}")
                continue
            known.add(frame.sha256 or "")
            self._parts.append(self._seen(frame))
        if len(self._parts) < LEAST_PARTS:
            raise DataError(f"{len(self._parts)} good parts: {LEAST_PARTS} or more are needed")
        pooled = [part.pooled for part in self._parts]
        self._limits = recentred(self._before.calibration, pooled, wanted.false_rejects)
        return self._limits.rate, self._limits.moved

    def _seen(self, frame: Frame) -> Part:
        model_input, prediction = self._pipeline.predict(frame)
        good = self._before.calibration.localization.good
        evidence = prediction.evidence
        checks = replace(self.measure(frame), evidence=mean_evidence(model_input.framing, evidence))
        if good is not None:
            evidence = above_level(evidence, model_input.placement, good.level)
        cells = evidence[counted_cells(model_input.framing, (evidence.shape[0], evidence.shape[1]))]
        usual, peak = float(np.median(cells)), float(cells.max())
        return Part(frame.sha256 or "", prediction.pooled, usual, peak, checks)

    def words(self, frames: Sequence[Frame]) -> list[tuple[Word, Word]]:
        """(before, now) of each."""
        old, new = self._before.calibration.thresholds, self._limits
        found = []
        for frame in frames:
            _, prediction = self._pipeline.predict(frame)
            now = decide(new.scores.score(prediction.pooled), new.thresholds)
            found.append((decide(prediction.score, old), now))
        return found

    def publish(self, models: Path, wanted: AdaptOptions, gate: TruthGate) -> Path:
        """Write the bundle; where it lies. Raises BundleError, StorageError."""
        before, limits = self._before, self._limits
        old = before.calibration
        frames = {vector: frame_from_file(before.golden_path(vector), 0) for vector in old.golden.vectors}
        plain = Pipeline(before, "adapt", "adapt", self._config.model.threads, doubts=False)
        vectors = tuple(
            GoldenVector(vector.file, limits.scores.score(plain.predict(frame)[1].pooled))
            for vector, frame in frames.items()
        )
        checks = [part.checks for part in self._parts]
        pooled = [part.pooled for part in self._parts]
        calibration = replace(
            old,
            created=clock.stamp(),
            score_calibration=limits.scores,
            thresholds=limits.thresholds,
            localization=_localization(old.localization, self._parts),
            drift_reference=_drift(checks, pooled, limits.scores),
            familiar=natural(checks, old.familiar.rate) if old.familiar else None,
            golden=replace(old.golden, vectors=vectors),
            training=_training(before, wanted, limits, gate, [part.sha256 for part in self._parts]),
        )
        images = {vector.file: before.golden_path(vector).read_bytes() for vector in frames}
        kept = ("reference.npz", "split.csv", "thresholds.csv")
        extra = {name: (before.path / name).read_bytes() for name in kept if (before.path / name).is_file()}
        contents = Contents(before.model_path.read_bytes(), calibration, images, extra)
        proof = partial(prove, threads=self._config.model.threads)
        return store.publish(models, old.model_id, contents, proof)


def recentred(old: Calibration, pooled: Sequence[float], false_rejects: float) -> Limits:
    """The threshold for good parts of these logits. Raises DataError where they are too strange."""
    scores, thresholds = old.score_calibration, old.thresholds
    ng, marginal = (_logit(limit, scores) for limit in (thresholds.ng, thresholds.marginal))
    usual = typical(old)
    moved = median(pooled) - usual
    room = max(ng - usual, 1e-6)
    if abs(moved) > MOST_MOVES * room:
        raise DataError(
            f"the good parts are too strange: they have moved by {abs(moved) / room:.1f} times what lies "
            f"between a good part and NG, {MOST_MOVES:g} times at most can be adapted to: train anew"
        )
    new_ng = max(ng + moved, bound(pooled, false_rejects))
    share = min(learn.MARGINAL_TIMES * false_rejects, 0.5)
    new_marginal = min(max(marginal + moved, bound(pooled, share)), new_ng)
    shift = new_ng - ng
    adapted = ScoreCalibration(scores.slope, scores.offset - scores.slope * shift)
    rate = Rate.seen(sum(one >= new_ng for one in pooled), len(pooled))
    rule = (
        f"{thresholds.rule}; adapted to {len(pooled)} good parts: moved by {shift:+.3g} (logit), at most "
        f"{false_rejects:g} of good parts expected to be NG"
    )
    limits = Thresholds(thresholds.ng, min(adapted.score(new_marginal), thresholds.ng), rule, ())
    return Limits(adapted, limits, shift, rate)


def typical(old: Calibration) -> float:
    """The logit of a typical good part of the training."""
    known = old.drift_reference.pooled
    return known.mean if known is not None else _logit(old.drift_reference.score.mean, old.score_calibration)


def bound(pooled: Sequence[float], share: float) -> float:
    """The logit that a further good part exceeds with probability `share`, as far as these tell.

    As confidence.limit, of logits, which are normal themselves; no lower than that share of them.
    """
    n = len(pooled)
    whitmore = fmean(pooled) + student_quantile(1 - share, n - 1) * stdev(pooled) * math.sqrt(1 + 1 / n)
    return max(whitmore, sorted(pooled)[max(0, n - 1 - int(share * n))])


def _logit(score: float, scores: ScoreCalibration) -> float:
    """The pooled logit that has a score; of 0 and 1 a far one."""
    inner = min(max(score, 1e-9), 1 - 1e-9)
    return (math.log(inner / (1 - inner)) - scores.offset) / scores.slope


def _localization(spec: LocalizationSpec, parts: Sequence[Part]) -> LocalizationSpec:
    """The cut goes with what good maps reach."""
    if spec.good is None or isinstance(spec.cut, str):
        return spec
    level = spec.good.level
    found = GoodMaps.of(median(part.usual for part in parts), [part.peak for part in parts], level)
    good = replace(found, share=spec.good.share)
    return replace(spec, cut=spec.cut + good.reach - spec.good.reach, good=good)


def _drift(checks: Sequence[Checks], pooled: Sequence[float], scores: ScoreCalibration) -> DriftReference:
    return DriftReference(
        Reference.of([one.brightness_ratio for one in checks]),
        Reference.of([one.focus for one in checks]),
        Reference.of([scores.score(one) for one in pooled]),
        Reference.of([one.evidence for one in checks if one.evidence is not None]),
        Reference.of(pooled),
    )


def _training(
    before: Bundle, wanted: AdaptOptions, limits: Limits, gate: TruthGate, digests: Sequence[str]
) -> dict[str, object]:
    """What was done, beside what is known of the model from before."""
    text = "".join(f"{one}\n" for one in sorted(digests))
    return {
        **before.calibration.training,
        "adapted": {
            "from": before.name,
            "good_parts": len(digests),
            "images_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "false_rejects_wanted": wanted.false_rejects,
            "moved": limits.moved,
            "good": asdict(limits.rate),
            "known": asdict(gate),
        },
    }


# ---- a bundle with a memory


class _OfMemory:
    """A memory and what good parts show today: measure(), learn(), words(), publish(), in this order."""

    def __init__(self, before: Bundle, config: Config) -> None:
        self._before = before
        self._teacher = learn.Teacher(before, config)
        self.measure, self.read = self._teacher.sight.measure, self._teacher.sight.read

    def learn(self, files: Sequence[Path], wanted: AdaptOptions) -> tuple[Rate, float]:
        sight, old = self._teacher.sight, self._before.calibration
        self._seen = self._teacher.look(files)
        if len(self._seen) < LEAST_PARTS:
            raise DataError(f"{len(self._seen)} good parts: {LEAST_PARTS} or more are needed")
        memory = self._before.memory()
        if memory is None:
            raise BundleError(f"{self._before.path}: has no memory")
        self._memory = memory
        pooled = [one.pooled(memory, sight.pooling) for one in self._seen]
        ng, usual = _logit(old.thresholds.ng, old.score_calibration), typical(old)
        moved = (median(pooled) - usual) / max(ng - usual, 1e-6)
        if moved > MOST_MOVES_OF_MEMORY:
            raise DataError(
                f"the good parts are too strange: {moved:.1f} times as far from what is remembered as NG is, "
                f"{MOST_MOVES_OF_MEMORY:g} times at most can be adapted to: learn anew"
            )
        known = memory.good.items if memory.spec.kind == "nearest" else None
        self._taught = learn.teach(self._seen, sight.spec, sight.pooling, wanted.false_rejects, known)
        return self._taught.rate, moved

    def words(self, frames: Sequence[Frame]) -> list[tuple[Word, Word]]:
        sight, old, new = self._teacher.sight, self._before.calibration, self._taught
        return [
            (
                decide(sight.score(frame, self._memory, old.score_calibration), old.thresholds),
                decide(sight.score(frame, new.memory, new.scores), new.thresholds),
            )
            for frame in frames
        ]

    def publish(self, models: Path, wanted: AdaptOptions, gate: TruthGate) -> Path:
        del gate  # it is in the report
        asked = learn.LearnOptions(name=self._before.calibration.model_id, false_rejects=wanted.false_rejects)
        return self._teacher.publish(self._seen, self._taught, models, asked)


# ---- words


def _frames(folder: Path, read: Callable[[Path], Frame]) -> list[Frame]:
    """The pictures of known parts; none where there is no such folder. Raises FrameError."""
    return [read(path) for path in image_files(folder)] if folder.is_dir() else []


def _rates(words: Sequence[tuple[Word, Word]], hit: Callable[[Word], bool]) -> tuple[Rate, Rate] | None:
    if not words:
        return None
    before, now = (sum(hit(pair[index]) for pair in words) for index in (0, 1))
    return Rate.seen(before, len(words)), Rate.seen(now, len(words))


def _share(rate: Rate) -> float:
    return rate.count / rate.of


def _report(before: Bundle, rate: Rate, moved: float, gate: TruthGate, wanted: AdaptOptions) -> None:
    learn.say(f"adapted {before.name} to {rate.of} good parts; the threshold has moved by {moved:+.3g}")
    learn.say(f"of them would be NG: {rate}; wanted {wanted.false_rejects:.1%}")
    if gate.rejected:
        learn.say(f"of the known good parts are NG: {gate.rejected[1]}; before: {gate.rejected[0]}")
    if gate.found:
        learn.say(f"of the known bad parts are found: {gate.found[1]}; before: {gate.found[0]}")
    else:
        learn.say("there are no known bad parts: nothing says what is found now")
