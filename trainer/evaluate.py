"""Score a bundle on labelled images, with the device's own code, and say how good it is.

    python -m trainer.evaluate --bundle DIR --data PATH [--format F] [--split test|all] [--json]
                               [--mistakes DIR]

Every image goes through device.inspection: what is measured is the int8 file as the Pi will run it. With
--json one JSON object is all that standard output carries; progress and the log go to standard error. With
--mistakes DIR every misjudged image is written there, annotated. docs/guide/data.md says which images are
scored and what is counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle
from device.errors import DataError, FrameError
from device.image.geometry import Size
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from trainer import command, mistakes
from trainer.data.dataset import Dataset, Sample, SplitRow, load, read_mask, read_split_csv
from trainer.scoring import boxes, metrics, sorting
from trainer.scoring.boxes import VerdictBoxes, around_parts
from trainer.steps import bar

EVIDENCE_RANGE = 256.0  # of a distance from a memory, either way: good cells lie around -4
MAP_SIDE_PX = 1024  # maps of larger images are compared with their masks at this greater side


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What the bundle said of one image."""

    sample: Sample
    score: float
    verdict: Verdict

    @property
    def total_ms(self) -> float:
        return self.verdict.timing_ms["total"]

    @property
    def boxed(self) -> VerdictBoxes:
        """Its boxes beside those of its mask."""
        mask = read_mask(self.sample) if self.sample.label else None
        truth = () if not self.sample.label else None if mask is None else around_parts(mask)
        return VerdictBoxes(
            tuple((region.box, region.score) for region in self.verdict.regions),
            truth,
            self.sample.size,
            self.verdict.verdict == "NG",
        )


# ---- which images


def chosen(
    dataset: Dataset, recorded: Mapping[str, SplitRow], split: str
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """(samples to score, problems). `split` is "all" or "test".

    In test is an image that the bundle's split.csv records as held out, or one that it does not know and that
    the layout puts in test. So nothing that the bundle was trained on is ever scored as test, whatever folder
    it lies in. DataError where that leaves no image.
    """
    if split == "all":
        return dataset.samples, ()
    sides = [(sample, _side(sample, recorded)) for sample in dataset.samples]
    samples = tuple(sample for sample, side in sides if side == "test")
    if not samples:
        known = sum(sample.sha256 in recorded for sample in dataset.samples)
        raise DataError(
            f"{dataset.root}: none of {len(dataset.samples)} images is a test image: the bundle knows "
            f"{known} of them and held none of these out, and the layout puts none of the others in test; "
            "pass --split all to score all of them"
        )
    trained = sum(sample.split == "test" and side == "train" for sample, side in sides)
    unassigned = sum(side == "unassigned" for _, side in sides)
    problems = []
    if trained:
        problems.append(
            f"{trained} images of the layout's test split left out: the bundle was trained on them"
        )
    if unassigned:
        problems.append(f"{unassigned} images left out: they have no split and the bundle does not know them")
    return samples, tuple(problems)


def _side(sample: Sample, recorded: Mapping[str, SplitRow]) -> str:
    known = recorded.get(sample.sha256)
    return known.split if known else sample.split


def recorded(bundle: Bundle) -> dict[str, SplitRow]:
    """What the bundle says of the images it was made from; nothing where it does not say."""
    path = bundle.path / "split.csv"
    return read_split_csv(path.read_bytes(), str(path)) if path.is_file() else {}


# ---- scoring


def score(
    pipeline: Pipeline, samples: Sequence[Sample], pixels: metrics.PixelTally
) -> tuple[tuple[ImageResult, ...], tuple[str, ...]]:
    """(scored, problems): each image inspected, its evidence map compared with its mask if one is known."""
    scored: list[ImageResult] = []
    problems: list[str] = []
    for seq, sample in enumerate(bar(samples, "scoring")):
        try:
            scored.append(_score_one(pipeline, sample, seq, pixels))
        except FrameError as error:
            problems.append(f"{sample.name}: not scored: {error}")
    return tuple(scored), tuple(problems)


def _score_one(pipeline: Pipeline, sample: Sample, seq: int, pixels: metrics.PixelTally) -> ImageResult:
    frame = pipeline.read(sample.path, seq)
    verdict = pipeline.inspect(frame)
    model_input, prediction = pipeline.predict(frame)  # a verdict does not carry its map
    size = map_size(sample.size)
    mask = read_mask(sample, size)
    if mask is not None:
        shift_px = pipeline.bundle.calibration.localization.shift_px
        evidence = evidence_in_frame(prediction.evidence, model_input.placement, shift_px)
        shown = cv2.resize(evidence, (size.width, size.height), interpolation=cv2.INTER_AREA)
        pixels.add(np.asarray(shown), mask)
    return ImageResult(sample, prediction.score, verdict)


def map_size(size: Size) -> Size:
    """The resolution at which maps are compared: the image's own, up to MAP_SIDE_PX."""
    scale = min(1.0, MAP_SIDE_PX / max(size.width, size.height))
    return Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def tally(bundle: Bundle) -> metrics.PixelTally:
    """Bins over all that the model's 8-bit output can say, signed or not; wide ones of a distance."""
    memory = bundle.calibration.memory
    if memory is not None:
        return metrics.PixelTally(-EVIDENCE_RANGE, EVIDENCE_RANGE)
    output = bundle.calibration.output_quantization
    low, high = ((level - output.zero_point) * output.scale for level in (-128, 255))
    return metrics.PixelTally(low, high)


# ---- the report


def evaluate(
    bundle: Bundle, dataset: Dataset, split: str = "test", mistakes_in: Path | None = None
) -> dict[str, Any]:
    """The whole report as JSON types; what is not defined is None. DataError where nothing can be scored.

    `mistakes_in`: a folder for pictures of the misjudged images.
    """
    known = recorded(bundle)
    samples, left_out = chosen(dataset, known, split)
    pipeline = Pipeline(bundle, station="evaluate", session_id="evaluate")
    pixels = tally(bundle)
    scored, faults = score(pipeline, samples, pixels)
    if not scored:
        raise DataError(f"{dataset.root}: none of {len(samples)} images could be scored: {faults[0]}")
    if mistakes_in is not None:
        mistakes.write(mistakes_in, pipeline, scored)
    return {
        "bundle": bundle.name,
        "model_sha256": bundle.calibration.model_sha256,
        "runtime": pipeline.runtime,
        "split": split,
        "split_rule": _rule(dataset, known, samples, split),
        "n_seen_in_training": sum(_trained_on(result.sample, known) for result in scored),
        **_image_metrics(scored, bundle.calibration.thresholds.ng),
        "pixel_auroc": pixels.auroc,
        "aupro": pixels.aupro,
        "pointing_hit_rate": pixels.pointing_hit_rate,
        "boxes": asdict(boxes.figures([result.boxed for result in scored])),
        "latency_ms": _latency([result.total_ms for result in scored]),
        "mistakes": [_line(result) for result in scored if mistakes.is_mistake(result)],
        "problems": [*dataset.problems, *_other_sizes(bundle, samples), *left_out, *faults],
        "scores": [_line(result) for result in scored],
    }


def _other_sizes(bundle: Bundle, samples: Sequence[Sample]) -> list[str]:
    """A line for the images that are not of the size of those that the bundle was made from."""
    frames = bundle.calibration.frames
    unlike = [words for sample in samples if frames and (words := frames.unlike(sample.size))]
    if not unlike:
        return []
    return [f"{len(unlike)} of {len(samples)} images are unlike those that were trained on: {unlike[0]}"]


def _image_metrics(scored: Sequence[ImageResult], threshold: float) -> dict[str, Any]:
    labels = [result.sample.label for result in scored]
    scores = [result.score for result in scored]
    at_threshold = metrics.confusion(labels, scores, threshold)
    best = metrics.f1_max(labels, scores)
    return {
        "n_images": len(scored),
        "n_defective": sum(labels),
        "auroc": metrics.auroc(labels, scores),
        "auroc_error": metrics.standard_error(metrics.auroc, labels, scores),
        "ap": metrics.average_precision(labels, scores),
        "ap_error": metrics.standard_error(metrics.average_precision, labels, scores),
        "f1_max": best.f1 if best else None,
        "threshold": threshold,
        "precision": at_threshold.precision,
        "recall": at_threshold.recall,
        "false_reject_rate": at_threshold.false_reject_rate,
        "confusion": asdict(at_threshold),
        "sorted": {name: asdict(share) for name, share in sorting.shares(labels, scores).items()},
    }


def _rule(dataset: Dataset, recorded: Mapping[str, SplitRow], samples: Sequence[Sample], split: str) -> str:
    """How the scored images were chosen, in words."""
    if split == "all":
        return "every readable image"
    known = sum(sample.sha256 in recorded for sample in samples)
    return f"{known} held out by the bundle's own split.csv, {len(samples) - known} by {dataset.split_rule}"


def _trained_on(sample: Sample, recorded: Mapping[str, SplitRow]) -> bool:
    return sample.sha256 in recorded and recorded[sample.sha256].split == "train"


def _latency(total_ms: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(total_ms, (50, 95))
    return {"p50": float(p50), "p95": float(p95)}


def _line(result: ImageResult) -> dict[str, Any]:
    sample = result.sample
    word = result.verdict.verdict
    return {"path": sample.name, "label": sample.label, "score": result.score, "verdict": word}


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person, line by line, without the scores."""
    for name, value in report.items():
        if name == "scores":
            continue
        if name == "sorted":
            yield from _sorted(value)
            continue
        if name == "mistakes":
            shown = "".join(f"\n  {_in_words(line)}" for line in value) or "none"
        elif isinstance(value, Mapping):
            shown = "  ".join(f"{key} {_number(part)}" for key, part in value.items())
        elif name == "problems":
            shown = "".join(f"\n  {problem}" for problem in value) or "none"
        else:
            shown = _number(value)
        yield f"{name:<20}{shown}"


def _sorted(shares: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, one in shares.items():
        share = one["hits"] / one["of"]
        yield f"{name:<20}{share:.4f} ({one['low']:.4f} to {one['high']:.4f}), {one['hits']} of {one['of']}"


def _in_words(mistake: Mapping[str, Any]) -> str:
    word = ("good", "defective")[mistake["label"]]
    return f"{mistake['path']}: {word}, {mistake['verdict']} at {mistake['score']:.4f}"


def _number(value: object) -> str:
    if value is None:
        return "not defined"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


# ---- command line


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Score a bundle on labelled images with the device's own code.",
        epilog="exit codes: 0 done, 2 wrong command line, 4 bundle, 6 interpreter, 8 data set",
    )
    command.add_bundle(parser)
    command.add_data(parser)
    command.add_verbose(parser)
    parser.add_argument("--split", choices=("test", "all"), default="test", help="default test")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--mistakes", type=Path, metavar="DIR", help="for pictures of misjudged images")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    return command.run(lambda: _evaluate(options), verbose=options.verbose)


def _evaluate(options: argparse.Namespace) -> str:
    bundle = bundles.load(options.bundle)
    dataset = load(options.data, options.format, protocol="given")
    report = evaluate(bundle, dataset, options.split, options.mistakes)
    return json.dumps(report, allow_nan=False) if options.json else "\n".join(table(report))


if __name__ == "__main__":
    sys.exit(main())
