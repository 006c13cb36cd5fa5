"""Choose a bundle's thresholds anew, on judged images from the line, without training.

    python -m trainer.threshold --bundle DIR --data PATH [--format F] [--out DIR] [--marginal-share SHARE]
                                [--config FILE]

PATH is what `python -m device export` wrote, or any layout of docs/data.md. The int8 file scores every image
through device.pipeline.Pipeline; the thresholds follow by trainer.fit's own rule. OUT (by default the folder
that the bundle lies in) receives a new bundle with the same model, and the link `current` to it; its path is
the last line on standard output. The old bundle is not changed. docs/archive.md says what images it needs.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tqdm import tqdm

from device import bundle as bundles
from device import calibration as calibrations
from device import config as stations
from device import manifest
from device.bundle import Bundle, ScoreCalibration, Thresholds
from device.errors import DataError, FrameError
from device.frame import frame_from_file
from device.pipeline import Pipeline
from device.region_of_interest import EVERYTHING, RegionOfInterest
from trainer import command, page, provenance, thresholds
from trainer import config as configs
from trainer.data import Dataset, Sample, load, read_split_csv
from trainer.metrics import confusion

log = logging.getLogger(__name__)

LEAST_IMAGES = 10  # good ones, and defective ones: below, a threshold would be chance
_NEVER_SURE = 1e-12  # a score of exactly 0 or 1 has no logit


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The images that thresholds are chosen on, and what the bundle says of them."""

    labels: thresholds.Labels
    scores: thresholds.Values


def retune(
    bundle: Bundle,
    dataset: Dataset,
    out: Path,
    marginal_share: float,
    region: RegionOfInterest = EVERYTHING,
) -> Path:
    """Write the bundle with new thresholds; its path. Raises EdgeVisionError.

    `region`: where the station looks, so that the scores are those that it would give.
    """
    judged = judge(bundle, dataset, region)
    chosen = choose(judged, bundle.calibration.score_calibration, marginal_share)
    _report(judged, bundle.calibration.thresholds, chosen)
    calibration = replace(
        bundle.calibration,
        created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        thresholds=chosen,
        training={
            **bundle.calibration.training,
            "thresholds": provenance.retuned(bundle, dataset, judged.labels, marginal_share),
        },
    )
    files = _other_files(bundle)
    path = bundles.write(out, _name(bundle), bundle.model_path.read_bytes(), calibration, *files)
    Pipeline(bundles.load(path), "trainer", "threshold")  # opens it as the device does, golden images and all
    return path


# ---- scores


def judge(bundle: Bundle, dataset: Dataset, region: RegionOfInterest = EVERYTHING) -> Judged:
    """Score the images that the bundle was not trained on. DataError where they cannot carry a threshold."""
    samples, problems = _unseen(bundle, dataset)
    _require_enough(dataset, [sample.label for sample in samples])
    pipeline = Pipeline(bundle, station="threshold", session_id="threshold", region=region)
    labels: list[int] = []
    scores: list[float] = []
    for seq, sample in enumerate(tqdm(samples, desc="scoring", unit="image", delay=2.0, leave=False)):
        try:
            score = pipeline.inspect(frame_from_file(sample.path, seq)).score
        except FrameError as error:
            problems.append(f"{sample.name}: not scored: {error}")
        else:
            labels.append(sample.label)
            scores.append(float(score if score is not None else math.nan))
    _require_enough(dataset, labels)
    for problem in problems:
        log.warning("%s", problem)
    return Judged(np.array(labels, np.int64), np.array(scores, np.float64))


def _unseen(bundle: Bundle, dataset: Dataset) -> tuple[list[Sample], list[str]]:
    """The samples that are not in the training part of the bundle's split.csv; how many others there are."""
    path = bundle.path / "split.csv"
    recorded = read_split_csv(path.read_bytes(), str(path)) if path.is_file() else {}
    trained = {sha256 for sha256, line in recorded.items() if line.split == "train"}
    samples = [sample for sample in dataset.samples if sample.sha256 not in trained]
    left_out = len(dataset.samples) - len(samples)
    return samples, [f"{left_out} images left out: the bundle was trained on them"] if left_out else []


def _require_enough(dataset: Dataset, labels: Sequence[int]) -> None:
    defective = sum(labels)
    good = len(labels) - defective
    if min(good, defective) < LEAST_IMAGES:
        raise DataError(
            f"{dataset.root}: thresholds need {LEAST_IMAGES} good and {LEAST_IMAGES} defective images or more"
            f", not trained on: found {good} good and {defective} defective"
        )


# ---- thresholds


def choose(judged: Judged, scores: ScoreCalibration, marginal_share: float) -> Thresholds:
    """By the rule of trainer.fit. DataError where that rule would reject every good image."""
    pooled = np.array([_pooled(score, scores) for score in judged.scores])
    chosen = thresholds.choose(judged.labels, pooled, scores, marginal_share)
    if confusion(judged.labels, judged.scores, chosen.ng).tn == 0:
        raise DataError(
            "the scores do not tell the good images from the defective ones: F1 is greatest where every "
            "image is NG; look at the labels, review more good images, or train anew with these"
        )
    return chosen


def _pooled(score: float, scores: ScoreCalibration) -> float:
    """The inverse of scores.score."""
    sure = min(max(score, _NEVER_SURE), 1 - _NEVER_SURE)
    return (math.log(sure / (1 - sure)) - scores.offset) / scores.slope


def _report(judged: Judged, before: Thresholds, after: Thresholds) -> None:
    log.info("%d images, %d defective; NG is the positive", len(judged.labels), int(judged.labels.sum()))
    for word, found in (("before", before), ("after", after)):
        row = confusion(judged.labels, judged.scores, found.ng)
        counts = f"tp {row.tp}, fp {row.fp}, tn {row.tn}, fn {row.fn}"
        log.info("%-6s NG from %.4f (%s), MARGINAL from %.4f", word, found.ng, counts, found.marginal)


# ---- the new bundle


def _name(bundle: Bundle) -> str:
    """The bundle's name without its version."""
    return bundle.name.removesuffix(f"-{bundle.calibration.version}") or bundle.calibration.model_id


def _other_files(bundle: Bundle) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """(golden images by name, every other file by its path) of a bundle, as bundle.write takes them.

    Without its report, which is about the thresholds that it had.
    """
    golden = {
        vector.file: bundle.golden_path(vector).read_bytes() for vector in bundle.calibration.golden.vectors
    }
    written_anew = {
        bundles.MODEL_FILE,
        calibrations.FILE,
        page.FILE,
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
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the folder that the bundle lies in")
    parser.add_argument(
        "--marginal-share",
        type=_share,
        default=configs.load(None).threshold.marginal_share,
        metavar="SHARE",
        help="of the good images that may become MARGINAL or NG; default %(default)g",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the station's config.toml, for its [inspection] section"
    )
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be 0 <= share < 1, got {text}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    return command.run(lambda: _retune(options))


def _retune(options: argparse.Namespace) -> Path:
    bundle = bundles.load(options.bundle)
    dataset = load(options.data, options.format, protocol="given")
    region = stations.load(options.config).inspection.region if options.config else EVERYTHING
    return retune(bundle, dataset, options.out or bundle.path.parent, options.marginal_share, region)


if __name__ == "__main__":
    sys.exit(main())
