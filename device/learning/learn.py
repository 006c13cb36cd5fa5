"""`learn`: a memory of good parts from this line's own camera, and a bundle with it.

What sees is the model of a bundle that has a memory already, the starter: its features are as good for
other parts. Good frames are collected (collect.py) or read from a folder; from the features of each follow

    memory      the rows that stand for all of theirs (coreset.py), as many as the starter has
    threshold   from what each frame scores against a memory without its fold: FOLDS stretches of frames that
                follow each other, for the next picture of the same part would make it look too well known
    certainty   how many good parts would be NG, with an interval (confidence.py)

The new bundle has a name and a version of its own, is checked to its golden images, and lies beside the
others. It is used when `activate` says so. Where the station asks for signatures, see learned_here.py.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle import bundle as bundles
from device.bundle import learned_here, manifest, store
from device.bundle import memory as memories
from device.bundle.bundle import (
    Bundle,
    Calibration,
    Contents,
    GoldenSpec,
    GoldenVector,
    MemorySpec,
    Pooling,
    ScoreCalibration,
    ThresholdRow,
    Thresholds,
)
from device.bundle.calibration import GoodMaps, LocalizationSpec
from device.bundle.memory import Memory
from device.camera.camera import make_camera
from device.camera.replay import image_files
from device.config import Config
from device.errors import BundleError, ConfigError, DataError, FrameError, SignatureError
from device.image.frame import Frame
from device.inspection.checks import Checks
from device.inspection.detector import pooled_tiles
from device.inspection.pipeline import prove
from device.learning.collect import Collection, CollectionPlan, Fitness, Progress
from device.learning.confidence import LEAST, Rate, limit
from device.learning.coreset import CENTRE_QUANTILE
from device.learning.familiarity import natural
from device.learning.features import Features, FrameFeatures, Sight
from device.learning.good_frames import drift_reference, pictures, remember
from device.line.trigger import make_trigger
from device.system import clock, durable
from device.system.signals import StopSignal

log = logging.getLogger(__name__)

FOLDS = 5
MOST_BYTES = 128 * 2**20  # of features that are held; frames beyond that are left out evenly
MARGINAL_TIMES = 3  # so many times the wanted share of good parts may be MARGINAL or NG
LEAST_TOLERANCE = 0.02  # of golden scores: interpreters differ by a few steps
UNFAMILIAR = 0.01  # of good parts may be MARGINAL for how their picture looks
TELL_S = 2.0
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """What `learn` was asked for. `images`, `starter`, `out`: None for the camera, and for [bundle] path."""

    images: Path | None = None
    starter: Path | None = None
    out: Path | None = None
    name: str = ""
    plan: CollectionPlan = field(default_factory=lambda: CollectionPlan(100, 1.0))
    false_rejects: float = 0.01

    def __post_init__(self) -> None:
        if not LEAST <= self.plan.count <= 10_000:
            raise ConfigError(f"--count: must be {LEAST}..10000, got {self.plan.count}")
        if not 0 <= self.plan.interval_s <= 86_400:
            raise ConfigError(f"--interval: must be 0..86400 seconds, got {self.plan.interval_s}")
        if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})?", self.name):
            raise ConfigError(f"--name: must be 1..64 letters, digits, '.', '_' or '-', got {self.name!r}")
        if not 0.0001 <= self.false_rejects <= 0.2:
            raise ConfigError(f"--false-rejects: must be 0.0001..0.2, got {self.false_rejects}")


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedMemory:
    """A memory and what follows from it.

    `held_out`: of each frame, pooled against a memory without it. `good_maps`: what their maps reach there.
    """

    memory: Memory
    scores: ScoreCalibration
    thresholds: Thresholds
    rate: Rate
    held_out: NDArray[np.float64]
    good_maps: GoodMaps


def learn(config: Config, wanted: LearnOptions) -> int:
    """Learn a bundle, and print where it lies. Returns the exit code: 0, or 130 where it was interrupted.

    Raises EdgeVisionError; then no bundle was written, and what was collected is there.
    """
    begin_s = time.monotonic()
    models = wanted.out or config.bundle
    require_place(models, config)
    starter = bundles.load(wanted.starter or config.bundle)
    teacher = Teacher(starter, config)
    folder = wanted.images
    if folder is None:
        folder = config.state / "learned" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if not collect(config, wanted.plan, folder, teacher.sight.measure, starter):
            say(f"interrupted; go on with what is there: --images {folder}")
            return INTERRUPTED
    seen = teacher.look(image_files(folder))
    taught = teach(seen, teacher.sight.spec, teacher.sight.pooling, wanted.false_rejects)
    path = teacher.publish(seen, taught, models, wanted)
    if models == config.bundle:
        learned_here.record(config.state, path)
    _report(seen, taught, wanted.false_rejects, time.monotonic() - begin_s)
    say(f"it is not in use yet: python -m device activate {path.name}")
    print(path)
    return 0


# ---- before the long part


def require_place(models: Path, config: Config) -> None:
    """Known now, not after hours of collecting. Raises SignatureError, BundleError, StorageError."""
    if config.signers is not None and not config.allow_learned and models == config.bundle:
        raise SignatureError(
            f"{config.path}: [bundle] signers: sign every bundle, and nobody signs what is learned here: "
            "set [bundle] allow_learned, or write it elsewhere (--out DIR), sign it there and push it"
        )
    if (models / manifest.FILE).exists():
        raise BundleError(f"{models}: is one bundle; a folder of bundles is needed")
    durable.require_folder(models, str(models))


# ---- frames


def collect(
    config: Config,
    plan: CollectionPlan,
    folder: Path,
    look: Callable[[Frame], Checks],
    bundle: bundles.Bundle,
) -> bool:
    """Good frames from the camera into the folder, read as the bundle says. False where it was told to stop.

    Raises EdgeVisionError.
    """
    if config.trigger.kind == "mqtt":
        raise ConfigError("[trigger] kind: this hears no commands; take another, or use --images")
    triggered = config.trigger.kind != "free-run"
    timeout_s = config.trigger.timeout_s if triggered else config.camera.timeout_s
    say(f"good frames go to {folder}; Ctrl-C keeps them")
    with StopSignal() as stop:
        collection = Collection(plan, Fitness(config.health), folder, look, stop, Teller())
        camera = make_camera(config.camera, stop.wait, lambda: bundle.calibration.preprocess.white_level)
        collection.run(camera, make_trigger(config.trigger), timeout_s)
        if collection.refused:
            say(f"refused: {', '.join(f'{n} {why}' for why, n in collection.refused.most_common())}")
        return not stop.requested


class Teller:
    """Says how far it is, every TELL_S and at the end."""

    def __init__(self) -> None:
        self._due_s = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.taken == progress.wanted or time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + TELL_S
            say(str(progress))


# ---- learning


class Teacher:
    """The starter's model at work for this station."""

    def __init__(self, starter: Bundle, config: Config) -> None:
        """Raises BundleError where the starter has no memory, InterpreterError."""
        model = config.model
        self._starter = starter
        self._config = config
        self._fitness = Fitness(config.health)
        self.sight = Sight(starter, config.inspection.region, model.threads, model.runtime)

    def look(self, files: Sequence[Path]) -> list[FrameFeatures]:
        """What the model sees in these images, without those that are not fit or are there twice.

        Raises DataError where fewer than LEAST are left.
        """
        used = _thinned(files, max(LEAST, MOST_BYTES // self.sight.tile_bytes))
        if len(used) < len(files):
            say(f"{len(files)} images: every so many, {len(used)} in all, as their features take memory")
        seen: list[FrameFeatures] = []
        teller = Teller()
        for index, path in enumerate(used, 1):
            found = self._look_at(path, {one.sha256 for one in seen})
            if isinstance(found, str):
                say(f"left out: {path}: {found}")
            else:
                seen.append(found)
            teller(Progress(index, len(used), index - len(seen), None))
        if len(seen) < LEAST:
            raise DataError(f"{len(seen)} good images: {LEAST} or more are needed")
        return seen

    def _look_at(self, path: Path, known: set[str]) -> FrameFeatures | str:
        """One image, or why it is left out."""
        try:
            frame = self.sight.read(path)
        except FrameError as error:
            return str(error)
        if frame.sha256 in known:
            return "is there already"
        return self._fitness.refusal(frame, self.sight.measure(frame)) or self.sight.see(frame)

    def publish(
        self, seen: Sequence[FrameFeatures], taught: CalibratedMemory, models: Path, wanted: LearnOptions
    ) -> Path:
        """Write the bundle beside the others, once it has given its golden scores; where it lies.

        Raises BundleError, StorageError.
        """
        calibration = self._calibration(seen, taught, wanted)
        golden = _golden(seen, taught)
        vectors = tuple(GoldenVector(name, self._score(one, taught)) for name, one in golden.items())
        tolerance = max(self._starter.calibration.golden.tolerance, LEAST_TOLERANCE)
        calibration = replace(calibration, golden=GoldenSpec(tolerance, vectors))
        name = wanted.name or f"{self._config.station.lstrip('._-')[:56] or 'station'}-learned"
        extra = {memories.FILE: taught.memory.good.to_bytes(), "split.csv": _split_csv(seen)}
        images = {file: _png(self.sight.read(one.path)) for file, one in golden.items()}
        contents = Contents(self._starter.model_path.read_bytes(), calibration, images, extra)
        return store.publish(models, name, contents, partial(prove, threads=self._config.model.threads))

    def _score(self, golden: FrameFeatures, taught: CalibratedMemory) -> float:
        return self.sight.score(self.sight.read(golden.path), taught.memory, taught.scores)

    def _calibration(
        self, seen: Sequence[FrameFeatures], taught: CalibratedMemory, wanted: LearnOptions
    ) -> Calibration:
        """All but the golden images' scores, which need it."""
        starter = self._starter.calibration
        shown = pictures(seen, taught.memory)
        scores = [taught.scores.score(float(one)) for one in taught.held_out]
        digests = "".join(sorted(f"{one.sha256}\n" for one in seen))
        return replace(
            starter,
            created=clock.stamp(),
            memory=taught.memory.spec,
            score_calibration=taught.scores,
            thresholds=taught.thresholds,
            localization=_localization(starter.localization, taught.good_maps),
            drift_reference=drift_reference(seen, shown, scores),
            familiar=natural(shown, UNFAMILIAR),
            training={
                "recipe": "learned on the station",
                "station": self._config.station,
                "starter": self._starter.name,
                "weights": starter.training.get("weights", {}),
                "good_images": len(seen),
                "images_sha256": hashlib.sha256(digests.encode()).hexdigest(),
                "false_rejects_wanted": wanted.false_rejects,
                "runtime": self.sight.runtime,
            },
            metrics={
                "judged_by": f"{FOLDS}-fold cross-validation, folds of images that follow each other",
                "good": asdict(taught.rate),
            },
        )


def teach(
    seen: Sequence[FrameFeatures],
    spec: MemorySpec,
    pooling: Pooling,
    false_rejects: float,
    known: Features | None = None,
) -> CalibratedMemory:
    """A memory of these frames, and the thresholds that good frames of the same kind rarely reach.

    `known`: rows of another memory that are to be remembered beside them; of kind "nearest" alone.
    """
    fold_of = np.arange(len(seen)) * FOLDS // len(seen)
    distances: list[Distances] = []
    for fold in range(FOLDS):
        without = remember([one for one, of in zip(seen, fold_of, strict=True) if of != fold], spec, known)
        distances += [
            Distances.of(one, without, pooling) for one, of in zip(seen, fold_of, strict=True) if of == fold
        ]
    made = remember(seen, spec, known)
    made = Memory(made.good, _scaled(made.spec, spec.image_weight, distances))
    held_out = np.array([one.evidence(made.spec) for one in distances])
    ng, marginal = (
        _limit(held_out, made.spec, share)
        for share in (false_rejects, min(MARGINAL_TIMES * false_rejects, 0.5))
    )
    slope = 1 / max(float(held_out.std()), 1e-3)
    scores = ScoreCalibration(slope, -slope * ng)  # NG begins at 0.5
    rate = Rate.seen(int((held_out >= ng).sum()), len(seen))
    thresholds = _thresholds(scores, ng, min(marginal, ng), rate, false_rejects)
    return CalibratedMemory(made, scores, thresholds, rate, held_out, _good_maps(made.spec, distances))


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """Of a frame from a memory without it. `cells`, `medians`, `images`: of each tile, pooled and as a whole.

    `greatest`: the CENTRE_QUANTILE of all cells', in medians of their tile's. `peak`: the greatest of all.
    """

    cells: NDArray[np.float64]
    medians: NDArray[np.float64]
    images: NDArray[np.float64]
    greatest: float
    peak: float

    @classmethod
    def of(cls, seen: FrameFeatures, memory: Memory, pooling: Pooling) -> Distances:
        maps = [memory.smoothed(part) for part in seen.parts]
        medians = np.array([memories.median(one) for one in maps])
        relative = [one.ravel() / middle for one, middle in zip(maps, medians, strict=True)]
        cells = np.array(pooled_tiles(seen.framing, maps, pooling))
        images = np.array([memory.image_distance(part.stored) for part in seen.parts])
        greatest = float(np.quantile(np.concatenate(relative), CENTRE_QUANTILE))
        return cls(cells, medians, images, greatest, max(float(one.max()) for one in maps))

    def evidence(self, spec: MemorySpec) -> float:
        """The score's, as memory.Memory gives it: pooling is linear where all cells are moved alike."""
        whole = (self.images - spec.image_centre) / spec.image_spread
        cells = self.cells * spec.usual / self.medians
        return float(((cells - spec.centre) / spec.spread + spec.image_weight * whole).max())


def _scaled(spec: MemorySpec, image_weight: float, distances: Sequence[Distances]) -> MemorySpec:
    """Evidence in the trainer's units: 0 is rare among good cells, and usual ones have -4."""
    usual = float(np.median(np.concatenate([one.medians for one in distances])))
    centre = usual * statistics.median(one.greatest for one in distances)
    images = [float(one.images.max()) for one in distances]
    low, _, high = statistics.quantiles(images, n=4)
    return replace(
        spec,
        usual=usual,
        centre=centre,
        spread=max((centre - usual) / 4, 1e-3),
        image_weight=image_weight,
        image_centre=statistics.median(images),
        image_spread=max((high - low) / 1.349, 1e-3),
    )


def _good_maps(spec: MemorySpec, distances: Sequence[Distances]) -> GoodMaps:
    """The edges are no others to a memory, which holds what good parts show there."""
    usual = (spec.usual - spec.centre) / spec.spread
    peaks = [(one.peak - spec.centre) / spec.spread for one in distances]
    return GoodMaps.of(usual, peaks)


def _localization(spec: LocalizationSpec, good: GoodMaps) -> LocalizationSpec:
    """As the starter's, on the scale of this station's good parts."""
    return replace(spec, cut=good.reach, reference=None, good=good)


def _limit(held_out: NDArray[np.float64], spec: MemorySpec, share: float) -> float:
    """Of evidence; what stands for no distance at all is the 0 that limit counts from."""
    least = -spec.centre / spec.spread - spec.image_weight * spec.image_centre / spec.image_spread
    return limit(np.maximum(held_out - least, 1e-6).tolist(), share) + least


def _thresholds(
    scores: ScoreCalibration, ng: float, marginal: float, rate: Rate, false_rejects: float
) -> Thresholds:
    good = rate.of - rate.count
    rule = (
        f"ng: {false_rejects:g} of good parts expected to reach it, from {rate.of} good images, each judged "
        f"without its fold; marginal: {MARGINAL_TIMES} times as many"
    )
    row = ThresholdRow(scores.score(ng), None, None, None, 0, rate.count, good, 0)
    return Thresholds(scores.score(ng), scores.score(marginal), rule, (row,))


def _golden(seen: Sequence[FrameFeatures], taught: CalibratedMemory) -> dict[str, FrameFeatures]:
    """The most usual frame, the middle one, and the strangest: there other arithmetic would show."""
    order = np.argsort(taught.held_out, kind="stable")
    picked = dict.fromkeys(int(order[at]) for at in (0, len(order) // 2, -1))
    return {f"{number}-good.png": seen[index] for number, index in enumerate(picked)}


def _split_csv(seen: Sequence[FrameFeatures]) -> bytes:
    """As the trainer writes it: what a bundle was taught is never scored as if it were new to it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "group", "split", "sha256"))
    writer.writerows((one.path.name, 0, one.path.name, "train", one.sha256) for one in seen)
    return text.getvalue().encode()


def _png(frame: Frame) -> bytes:
    encoded: NDArray[Any] = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1]
    return encoded.tobytes()


def _thinned(files: Sequence[Path], most: int) -> list[Path]:
    """At most so many of them, evenly."""
    if len(files) <= most:
        return list(files)
    return [files[index * len(files) // most] for index in range(most)]


# ---- words


def _report(seen: Sequence[FrameFeatures], taught: CalibratedMemory, wanted: float, took_s: float) -> None:
    most_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kept = taught.memory.good.items
    say(f"learned from {len(seen)} good images: {len(kept)} rows kept, {kept.nbytes / 1000:.0f} kB")
    say(f"of them would be NG, each judged without its neighbours: {taught.rate}; wanted {wanted:.1%}")
    if taught.rate.high > 10 * wanted:
        say("more good images would tell the rate of false rejects better")
    say(f"{took_s:.1f} s, {most_mib:.0f} MiB at most")


def say(line: str) -> None:
    """On stderr: stdout carries the path alone."""
    print(line, file=sys.stderr, flush=True)
