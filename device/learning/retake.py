"""`retake`: the golden reference and the drift reference anew, from good parts as they look now.

After a lamp, a lens or a fixture was changed, the model still knows good from bad, and what is compared with
it does not: differences from a picture that was taken in other light, and alarms about light that is right.
From good frames follow

    drift_reference   mean and spread of brightness, focus, score and evidence
    reference.npz     where the bundle has one: the mean picture, its spread, and where differences begin

Gates: frames must be fit (collect.py), and at most MOST_NG of them NG by the model in use: a reference of
defective parts would hide defects. The outcome is a bundle of its own version with the same model, thresholds
and golden images, checked to these; it is used when `activate` says so, and `rollback` leads back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device.bundle import bundle as bundles
from device.bundle import learned_here, model_card, store
from device.bundle import reference as references
from device.bundle.bundle import Bundle, Contents
from device.bundle.calibration import FILE as CALIBRATION_FILE
from device.bundle.calibration import Calibration, DriftReference, Reference
from device.camera.replay import image_files
from device.config import Config
from device.errors import ConfigError, DataError, FrameError
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from device.learning.collect import CollectionPlan, Fitness
from device.learning.golden_reference import Unfit, from_images
from device.learning.learn import INTERRUPTED, collect, require_place, say
from device.system import clock

LEAST = 20
MOST_NG = 0.1  # share of the frames


@dataclass(frozen=True, slots=True)
class RetakeOptions:
    """`images`, `out`: None for the camera, and for [bundle] path."""

    images: Path | None = None
    out: Path | None = None
    plan: CollectionPlan = field(default_factory=lambda: CollectionPlan(40, 1.0))

    def __post_init__(self) -> None:
        if not LEAST <= self.plan.count <= 10_000:
            raise ConfigError(f"--count: must be {LEAST}..10000, got {self.plan.count}")
        if not 0 <= self.plan.interval_s <= 86_400:
            raise ConfigError(f"--interval: must be 0..86400 seconds, got {self.plan.interval_s}")


@dataclass(frozen=True, slots=True, eq=False)
class GoodFrame:
    """A frame that was taken for good: its verdict, and its picture as the model sees it, gray (h, w)."""

    verdict: Verdict
    gray: NDArray[np.uint8]


def retake(config: Config, options: RetakeOptions) -> int:
    """Make the bundle, and print where it lies. Returns the exit code: 0, or 130 where it was interrupted.

    Raises EdgeVisionError; then no bundle was written, and the frames that were taken are there.
    """
    models = options.out or config.bundle
    require_place(models, config)
    bundle = bundles.load(config.bundle)
    pipeline = _pipeline(bundle, config)
    folder = options.images
    if folder is None:
        folder = config.state / "learned" / f"retake-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if not collect(config, options.plan, folder, lambda one: pipeline.prepare(one).checks, bundle):
            say(f"interrupted; go on with what is there: --images {folder}")
            return INTERRUPTED
    good = look(pipeline, image_files(folder), Fitness(config.health))
    calibration, files = retaken(bundle, good)
    path = _publish(bundle, calibration, files, models, config)
    if models == config.bundle:
        learned_here.record(config.state, path)
    _report(bundle.calibration.drift_reference, calibration.drift_reference, len(good))
    say(f"it is not in use yet: python -m device activate {path.name}")
    say("the way back after that: python -m device rollback")
    print(path)
    return 0


def look(pipeline: Pipeline, files: Sequence[Path], fitness: Fitness) -> list[GoodFrame]:
    """The good ones of these pictures. Raises DataError: too few, or too many of them are NG."""
    judged: list[GoodFrame] = []
    for path in files:
        found = _look_at(pipeline, path, fitness)
        if isinstance(found, str):
            say(f"left out: {path}: {found}")
        else:
            judged.append(found)
    if len(judged) < LEAST:
        raise DataError(f"{len(judged)} pictures that are fit: {LEAST} or more are needed")
    good = [one for one in judged if one.verdict.verdict != "NG"]
    bad = len(judged) - len(good)
    if bad > MOST_NG * len(judged):
        raise DataError(
            f"{bad} of {len(judged)} pictures are NG by the model in use, at most {MOST_NG:.0%} "
            "may be: these are not good parts, or they look so different now that a new model is needed "
            "(learn, or training)"
        )
    if bad:
        say(f"left out: {bad} that are NG by the model in use")
    return good


def retaken(bundle: Bundle, good: Sequence[GoodFrame]) -> tuple[Calibration, dict[str, bytes]]:
    """The calibration with the references of these frames, and the bundle's files beside model and golden/.

    Raises DataError where the bundle has a golden reference and these frames give none.
    """
    old = bundle.calibration
    files = _files(bundle)
    localization = old.localization
    if localization.reference is not None:
        try:
            reference, spec = from_images([one.gray for one in good], localization.min_area_px)
        except Unfit as reason:
            raise DataError(f"these frames give no golden reference: {reason}") from None
        files[references.FILE] = reference.to_bytes()
        localization = replace(localization, reference=spec)
    calibration = replace(
        old,
        created=clock.stamp(),
        localization=localization,
        drift_reference=_drift_reference(old.drift_reference, [one.verdict for one in good]),
        training={**old.training, "retaken": {"from": bundle.name, "good_images": len(good)}},
    )
    return calibration, files


def _pipeline(bundle: Bundle, config: Config) -> Pipeline:
    return Pipeline(
        bundle,
        config.station,
        "retake",
        config.model.threads,
        config.model.runtime,
        config.inspection.region,
    )


def _look_at(pipeline: Pipeline, path: Path, fitness: Fitness) -> GoodFrame | str:
    """One picture, or why it is left out."""
    try:
        frame = pipeline.read(path, 0)
    except FrameError as error:
        return str(error)
    prepared = pipeline.prepare(frame)
    refusal = fitness.refusal(frame, prepared.checks)
    if refusal is not None:
        return refusal
    verdict = pipeline.judge(pipeline.detect(prepared))
    return GoodFrame(verdict, prepared.model_input.luma().copy())


def _drift_reference(old: DriftReference, verdicts: Sequence[Verdict]) -> DriftReference:
    """Of what was watched before: a bundle without evidence stays without."""
    checks = [verdict.checks for verdict in verdicts if verdict.checks is not None]
    evidence = [one.evidence for one in checks if one.evidence is not None]
    return DriftReference(
        brightness_ratio=Reference.of([one.brightness_ratio for one in checks]),
        focus=Reference.of([one.focus for one in checks]),
        score=Reference.of([verdict.score for verdict in verdicts if verdict.score is not None]),
        evidence=Reference.of(evidence) if old.evidence is not None and evidence else None,
    )


def _files(bundle: Bundle) -> dict[str, bytes]:
    """All that `write` does not make itself: memory, report, split."""
    made = {bundles.MODEL_FILE, CALIBRATION_FILE, model_card.FILE, "manifest.json", "manifest.json.sig"}
    return {
        name: path.read_bytes()
        for path in sorted(bundle.path.rglob("*"))
        if path.is_file()
        and (name := path.relative_to(bundle.path).as_posix()) not in made
        and not name.startswith(f"{bundles.GOLDEN_FOLDER}/")
    }


def _publish(
    bundle: Bundle, calibration: Calibration, files: Mapping[str, bytes], models: Path, config: Config
) -> Path:
    """Write it beside the others, once it has given its golden scores; where it lies."""
    golden = {vector.file: bundle.golden_path(vector).read_bytes() for vector in calibration.golden.vectors}
    name = bundle.name.removesuffix(f"-{bundle.calibration.version}")
    contents = Contents(bundle.model_path.read_bytes(), calibration, golden, files)
    return store.publish(models, name, contents, lambda made: _pipeline(made, config).require_judged())


def _report(old: DriftReference, new: DriftReference, count: int) -> None:
    say(f"references of {count} good pictures, with those before:")
    for name in ("brightness_ratio", "focus", "score", "evidence"):
        before, after = getattr(old, name), getattr(new, name)
        if before is not None and after is not None:
            say(f"  {name}: {after.mean:.4g} ± {after.sd:.3g} (before: {before.mean:.4g} ± {before.sd:.3g})")
