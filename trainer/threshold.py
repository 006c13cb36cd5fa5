"""Choose a bundle's thresholds anew, on judged images from the line, without training.

    python -m trainer.threshold --bundle DIR --data PATH [--format F] [--out DIR] [--config FILE]
                                [--choose f1|precision|false_reject_rate|cost] [--precision X]
                                [--false-reject-rate X] [--cost-of-miss X] [--cost-of-false-reject X]
                                [--defect-rate X] [--confidence X] [--marginal-share X]

PATH is what `python -m device export` wrote, or any layout of docs/guide/data.md. The int8 file scores every
image through device.inspection; the thresholds follow by trainer.fit's own rule. OUT (by default the folder
that the bundle lies in) receives a new bundle with the same model, and the link `current` to it; its path is
the last line on standard output. The old bundle is not changed. docs/guide/archive.md says which it needs.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from device import config as stations
from device.bundle import bundle as bundles
from device.bundle import calibration as calibrations
from device.bundle import manifest, model_card, store
from device.bundle.bundle import Bundle, Contents, ScoreCalibration, Thresholds
from device.errors import DataError, FrameError
from device.image.region_of_interest import EVERYTHING, RegionOfInterest
from device.inspection.pipeline import Pipeline, prove
from device.system import clock
from trainer import command
from trainer import config as configs
from trainer.bundle import provenance
from trainer.config import ThresholdConfig
from trainer.data.dataset import Dataset, Sample, load, read_split_csv
from trainer.report import page
from trainer.scoring import operating_point as wishes
from trainer.scoring import thresholds
from trainer.scoring.metrics import Confusion, confusion
from trainer.steps import bar

log = logging.getLogger(__name__)

LEAST_IMAGES = 10  # good ones, and defective ones: below, a threshold would be chance
_NEVER_SURE = 1e-12  # a score of exactly 0 or 1 has no logit


@dataclass(frozen=True, slots=True, eq=False)
class ScoredImages:
    """The images that thresholds are chosen on, and what the bundle says of them."""

    labels: thresholds.Labels
    scores: thresholds.Values


def retune(
    bundle: Bundle,
    dataset: Dataset,
    out: Path,
    wish: ThresholdConfig,
    region: RegionOfInterest = EVERYTHING,
) -> Path:
    """Write the bundle with new thresholds; its path. Raises EdgeVisionError.

    `region`: where the station looks, so that the scores are those that it would give.
    """
    judged = judge(bundle, dataset, wish, region)
    scores = bundle.calibration.score_calibration
    chosen = choose(judged, scores, wish)
    described = wishes.describe(judged.labels, judged.scores, chosen.ng, wish)
    _report(judged, bundle.calibration.thresholds, chosen, described)
    calibration = replace(
        bundle.calibration,
        created=clock.stamp(),
        thresholds=chosen,
        training={
            **bundle.calibration.training,
            "thresholds": provenance.retuned(bundle, dataset, judged.labels, described),
        },
    )
    golden, others = _other_files(bundle)
    extra = {
        **others,
        thresholds.SWEEP_FILE: thresholds.sweep(judged.labels, _logits(judged, scores), scores),
    }
    contents = Contents(bundle.model_path.read_bytes(), calibration, golden, extra)
    return store.lead_to(store.publish(out, _name(bundle), contents, prove))


# ---- scores


def judge(
    bundle: Bundle, dataset: Dataset, wish: ThresholdConfig, region: RegionOfInterest = EVERYTHING
) -> ScoredImages:
    """Score the images that the bundle was not trained on. DataError where they cannot carry a threshold."""
    samples, problems = _unseen(bundle, dataset)
    _require_enough(dataset, [sample.label for sample in samples], wish)
    pipeline = Pipeline(bundle, station="threshold", session_id="threshold", region=region)
    labels: list[int] = []
    scores: list[float] = []
    for seq, sample in enumerate(bar(samples, "scoring")):
        try:
            score = pipeline.inspect(pipeline.read(sample.path, seq)).score
        except FrameError as error:
            problems.append(f"{sample.name}: not scored: {error}")
        else:
            labels.append(sample.label)
            scores.append(float(score if score is not None else math.nan))
    _require_enough(dataset, labels, wish)
    for problem in problems:
        log.warning("%s", problem)
    return ScoredImages(np.array(labels, np.int64), np.array(scores, np.float64))


def _unseen(bundle: Bundle, dataset: Dataset) -> tuple[list[Sample], list[str]]:
    """The samples that are not in the training part of the bundle's split.csv; how many others there are."""
    path = bundle.path / "split.csv"
    recorded = read_split_csv(path.read_bytes(), str(path)) if path.is_file() else {}
    trained = {sha256 for sha256, line in recorded.items() if line.split == "train"}
    samples = [sample for sample in dataset.samples if sample.sha256 not in trained]
    left_out = len(dataset.samples) - len(samples)
    return samples, [f"{left_out} images left out: the bundle was trained on them"] if left_out else []


def _require_enough(dataset: Dataset, labels: Sequence[int], wish: ThresholdConfig) -> None:
    defective = sum(labels)
    good = len(labels) - defective
    if wish.choose == "false_reject_rate" and defective < wishes.FEW_DEFECTIVE:
        wishes.require_enough(good, defective, wish)
    elif min(good, defective) < LEAST_IMAGES:
        raise DataError(
            f"{dataset.root}: thresholds need {LEAST_IMAGES} good and {LEAST_IMAGES} defective images or more"
            f", not trained on: found {good} good and {defective} defective; "
            "--choose false_reject_rate needs good ones alone"
        )


# ---- thresholds


def choose(judged: ScoredImages, scores: ScoreCalibration, wish: ThresholdConfig) -> Thresholds:
    """By the rule of trainer.fit. DataError where that rule would reject every good image."""
    chosen = thresholds.choose(judged.labels, _logits(judged, scores), scores, wish)
    if confusion(judged.labels, judged.scores, chosen.ng).tn == 0:
        best = "F1 is greatest" if wish.choose == "f1" else f"[threshold] {wish.choose} is met"
        raise DataError(
            f"the scores do not tell the good images from the defective ones: {best} where every "
            "image is NG; look at the labels, review more good images, or train anew with these"
        )
    return chosen


def _logits(judged: ScoredImages, scores: ScoreCalibration) -> thresholds.Values:
    return np.array([_pooled(score, scores) for score in judged.scores])


def _pooled(score: float, scores: ScoreCalibration) -> float:
    """The inverse of scores.score."""
    sure = min(max(score, _NEVER_SURE), 1 - _NEVER_SURE)
    return (math.log(sure / (1 - sure)) - scores.offset) / scores.slope


def _report(judged: ScoredImages, before: Thresholds, after: Thresholds, described: dict[str, Any]) -> None:
    log.info("%d images, %d defective; NG is the positive", len(judged.labels), int(judged.labels.sum()))
    for word, found in (("before", before), ("after", after)):
        row = confusion(judged.labels, judged.scores, found.ng)
        counts = f"tp {row.tp}, fp {row.fp}, tn {row.tn}, fn {row.fn}"
        log.info("%-6s NG from %.4f (%s), MARGINAL from %.4f", word, found.ng, counts, found.marginal)
    if after.marginal == after.ng:
        log.info("%s", thresholds.NO_MARGINAL)
    log.info("from   precision  recall     F1     tp    fp    tn    fn")
    for threshold in thresholds.ROUND_THRESHOLDS[:5]:
        found_there = confusion(judged.labels, judged.scores, threshold)
        ratios = ("-" if one is None else f"{one:.4f}" for one in _ratios(found_there))
        counts_there = (found_there.tp, found_there.fp, found_there.tn, found_there.fn)
        log.info("%.1f    %9s  %6s  %6s  %5d %5d %5d %5d", threshold, *ratios, *counts_there)
    for line in wishes.lines(described):
        log.info("%s", line)


def _ratios(found: Confusion) -> tuple[float | None, float | None, float | None]:
    return found.precision, found.recall, found.f1


# ---- the new bundle


def _name(bundle: Bundle) -> str:
    """The bundle's name without its version."""
    return bundle.name.removesuffix(f"-{bundle.calibration.version}") or bundle.calibration.model_id


def _other_files(bundle: Bundle) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """(golden images by name, every other file by its path) of a bundle, as Contents takes them.

    Without its report, which is about the thresholds that it had.
    """
    golden = {
        vector.file: bundle.golden_path(vector).read_bytes() for vector in bundle.calibration.golden.vectors
    }
    written_anew = {
        bundles.MODEL_FILE,
        calibrations.FILE,
        model_card.FILE,
        page.FILE,
        thresholds.SWEEP_FILE,
        *(f"{bundles.GOLDEN_FOLDER}/{n}" for n in golden),
    }
    others = manifest.verify(bundle.path).keys() - written_anew
    return golden, {path: (bundle.path / path).read_bytes() for path in sorted(others)}


# ---- the command line


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.threshold",
        description="Choose a bundle's thresholds anew on judged images, without training.",
        epilog="exit codes: 0 done, 2 wrong command line, 3 config, 4 bundle, 6 interpreter, 8 data, 9 disk",
    )
    command.add_bundle(parser)
    command.add_data(parser)
    command.add_verbose(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the folder that the bundle lies in")
    default = asdict(configs.load(None).threshold)
    wished = parser.add_argument_group("the wish", "as [threshold] in trainer/default.toml says")
    for key, value in default.items():
        wished.add_argument(
            f"--{key.replace('_', '-')}",
            type=partial(_wished, key),
            default=value,
            metavar=key.upper() if key == "choose" else "X",
            help=f"{configs.LIMITS['threshold', key].expected}; default %(default)s",
        )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the station's config.toml, for its [inspection] section"
    )
    return parser.parse_args(arguments)


def _wished(key: str, text: str) -> str | float:
    value = text if key == "choose" else float(text)
    limit = configs.LIMITS["threshold", key]
    if not limit.allows(value):
        raise argparse.ArgumentTypeError(f"must be {limit.expected}, got {text}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    return command.run(lambda: _retune(options), verbose=options.verbose)


def _retune(options: argparse.Namespace) -> Path:
    bundle = bundles.load(options.bundle)
    dataset = load(options.data, options.format, protocol="given")
    region = stations.load(options.config).inspection.region if options.config else EVERYTHING
    wish = ThresholdConfig(**{field.name: getattr(options, field.name) for field in fields(ThresholdConfig)})
    return retune(bundle, dataset, options.out or bundle.path.parent, wish, region)


if __name__ == "__main__":
    sys.exit(main())
