"""Which of two bundles to ship: both on the same labelled images, through the device's own code.

    python -m trainer.compare A B --data PATH [--format F] [--split test|all] [--json]

Images that either of them was trained on are left out. It prints both bundles' figures, their differences
with 95 % intervals over the choice of images (in pairs: both see the same ones), every verdict that
changes, and in a sentence which one to ship. Exit codes are those of device.errors, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.bundle import bundle as bundles
from device.bundle.bundle import Bundle
from device.errors import DataError
from device.inspection.pipeline import Pipeline
from trainer import command, evaluate
from trainer.data.dataset import Dataset, Sample, load
from trainer.scoring import metrics
from trainer.steps import bar

RESAMPLES = 500  # of the bootstrap
CONFIDENCE = 95  # per cent
FASTER = 1.2  # times: a difference in speed that is worth a word

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BundleResult:
    """What one bundle said of the images (n,); its median latency, the size of its model."""

    name: str
    scores: NDArray[np.float64]
    verdicts: tuple[str, ...]
    ng: float
    latency_ms: float
    model_bytes: int

    @property
    def rejected(self) -> NDArray[np.bool_]:
        return np.array([verdict == "NG" for verdict in self.verdicts])


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of either bundle, and how much greater the second one's is: `low` to `high` with 95 %."""

    first: float
    second: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether one is greater whatever images had been drawn."""
        return self.low > 0 or self.high < 0


def compare(first: Bundle, second: Bundle, dataset: Dataset, split: str = "test") -> dict[str, Any]:
    """The whole comparison as JSON types. DataError where there is no image that both may be judged on."""
    samples = _common(first, second, dataset, split)
    labels = np.array([sample.label for sample in samples])
    judged = [_judged(bundle, samples) for bundle in (first, second)]
    found = differences(labels, *judged)
    changes = [
        {"path": sample.name, "label": sample.label, "first": one, "second": other}
        for sample, one, other in zip(samples, judged[0].verdicts, judged[1].verdicts, strict=True)
        if one != other
    ]
    return {
        "split": split,
        "n_images": len(samples),
        "n_defective": int(labels.sum()),
        **{
            place: {
                "bundle": one.name,
                "ng": one.ng,
                "latency_ms": one.latency_ms,
                "model_bytes": one.model_bytes,
            }
            for place, one in zip(("first", "second"), judged, strict=True)
        },
        "differences": {name: asdict(one) for name, one in found.items()},
        "changed_verdicts": changes,
        "advice": advice(found, *judged),
    }


def _common(first: Bundle, second: Bundle, dataset: Dataset, split: str) -> tuple[Sample, ...]:
    known = [evaluate.recorded(bundle) for bundle in (first, second)]
    allowed = [set(evaluate.chosen(dataset, one, split)[0]) for one in known]
    samples = tuple(sample for sample in dataset.samples if all(sample in some for some in allowed))
    if not samples:
        raise DataError(
            f"{dataset.root}: no image was held out by both bundles: one of them was trained on each of "
            f"{len(dataset.samples)}; pass --split all to compare on all, or give images that neither knows"
        )
    return samples


def _judged(bundle: Bundle, samples: Sequence[Sample]) -> BundleResult:
    pipeline = Pipeline(bundle, "compare", "compare")
    frames = (pipeline.read(sample.path, seq) for seq, sample in enumerate(samples))
    verdicts = [pipeline.inspect(frame) for frame in bar(frames, f"scoring by {bundle.name}", len(samples))]
    return BundleResult(
        bundle.name,
        np.array([verdict.score for verdict in verdicts], np.float64),
        tuple(verdict.verdict for verdict in verdicts),
        bundle.calibration.thresholds.ng,
        float(np.median([verdict.timing_ms["total"] for verdict in verdicts])),
        bundle.model_path.stat().st_size,
    )


# ---- differences, in pairs


def differences(labels: Labels, first: BundleResult, second: BundleResult) -> dict[str, Difference]:
    """{figure: how it differs}, of the figures that these labels define.

    By the bootstrap (Efron, 1979): images of either label are drawn anew, the same ones for both bundles.
    """
    members = [np.flatnonzero(labels == label) for label in (0, 1)]
    measures: dict[str, Callable[[NDArray[np.intp], BundleResult], float | None]] = {}
    if all(len(one) for one in members):
        measures["auroc"] = lambda drawn, one: metrics.auroc(labels[drawn], one.scores[drawn])
        measures["ap"] = lambda drawn, one: metrics.average_precision(labels[drawn], one.scores[drawn])
    if len(members[1]):
        measures["recall"] = lambda drawn, one: _share(one.rejected[drawn], labels[drawn] == 1)
    if len(members[0]):
        measures["false_reject_rate"] = lambda drawn, one: _share(one.rejected[drawn], labels[drawn] == 0)
    rng = np.random.default_rng(0)
    draws = [
        np.concatenate([rng.choice(one, len(one)) for one in members if len(one)]) for _ in range(RESAMPLES)
    ]
    every = np.arange(len(labels))
    found = {}
    for name, measure in measures.items():
        gains = [(measure(drawn, second) or 0.0) - (measure(drawn, first) or 0.0) for drawn in draws]
        low, high = np.percentile(gains, (50 - CONFIDENCE / 2, 50 + CONFIDENCE / 2))
        found[name] = Difference(
            measure(every, first) or 0.0, measure(every, second) or 0.0, float(low), float(high)
        )
    return found


def _share(rejected: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(rejected[among].mean())


# ---- which one to ship

WORTH = {  # of a difference that is sure: whether more is better, and what is said of the better one
    "recall": (True, "finds more of the defective parts"),
    "false_reject_rate": (False, "rejects fewer good parts"),
    "ap": (True, "ranks defective parts above good ones more reliably"),
}


def advice(found: Mapping[str, Difference], first: BundleResult, second: BundleResult) -> str:
    """In a sentence."""
    praised: dict[str, list[str]] = {first.name: [], second.name: []}
    for name, (more_is_better, words) in WORTH.items():
        one = found.get(name)
        if one is not None and one.sure:
            praised[second.name if (one.low > 0) == more_is_better else first.name].append(words)
    better = [name for name, words in praised.items() if words]
    if len(better) == 1:
        return (
            f"Ship {better[0]}: it {' and '.join(praised[better[0]])}, on these images beyond doubt (95 %)."
        )
    if len(better) > 1:
        sides = "; ".join(f"{name} {' and '.join(words)}" for name, words in praised.items())
        return (
            f"It depends on what a miss and a false reject cost: {sides}. Set both to the same wish with "
            "trainer.threshold, then compare again."
        )
    if max(first.latency_ms, second.latency_ms) > FASTER * min(first.latency_ms, second.latency_ms):
        quick, slow = sorted((first, second), key=lambda one: one.latency_ms)
        return (
            f"These images do not tell which is more accurate. Ship {quick.name}: it takes "
            f"{quick.latency_ms:.1f} ms where {slow.name} takes {slow.latency_ms:.1f} ms."
        )
    return "These images do not tell which is better: keep the one that runs, and judge more images."


# ---- the command line

NAMES = {
    "auroc": "AUROC",
    "ap": "average precision",
    "recall": "defective parts at NG",
    "false_reject_rate": "good parts at NG",
}


def table(comparison: Mapping[str, Any]) -> Iterator[str]:
    """The comparison for a person, line by line."""
    counts = f"{comparison['n_images']} images, {comparison['n_defective']} defective"
    yield f"{counts}{'' if comparison['split'] == 'all' else ', that neither bundle was trained on'}"
    sides = (comparison["first"], comparison["second"])
    for letter, side in zip("AB", sides, strict=True):
        megabytes = side["model_bytes"] / 1e6
        yield f"{letter}  {side['bundle']}: {side['latency_ms']:.1f} ms an image here, {megabytes:.1f} MB"
    yield f"{'':<24}{'A':>8}{'B':>8}   B - A (95 %)"
    for name, one in comparison["differences"].items():
        between = f"{one['second'] - one['first']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        yield f"{NAMES[name]:<24}{one['first']:>8.4f}{one['second']:>8.4f}   {between}"
    changed = comparison["changed_verdicts"]
    yield f"verdicts that change: {len(changed)}"
    for line in changed:
        word = ("good", "defective")[line["label"]]
        yield f"  {line['path']} ({word}): {line['first']} -> {line['second']}"
    yield comparison["advice"]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.compare",
        description="Compare two bundles on the same labelled images: which one to ship.",
        epilog="exit codes: 0 done, 2 wrong command line, 4 bundle, 6 interpreter, 8 data set",
    )
    parser.add_argument("first", type=Path, metavar="A", help="a bundle, or a folder with `current`")
    parser.add_argument("second", type=Path, metavar="B", help="the other one")
    command.add_data(parser)
    command.add_verbose(parser)
    parser.add_argument("--split", choices=("test", "all"), default="test", help="default test")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(arguments)


def _compare(options: argparse.Namespace) -> str:
    first, second = (bundles.load(path) for path in (options.first, options.second))
    comparison = compare(first, second, load(options.data, options.format, protocol="given"), options.split)
    return json.dumps(comparison, allow_nan=False) if options.json else "\n".join(table(comparison))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = _parse(arguments)
    return command.run(lambda: _compare(options), verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main())
