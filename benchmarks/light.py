"""What copies in other light do for the probe, by repeated cross-validation of all images of a data set.

    python benchmarks/light.py --data PATH --weights FILE [--repeats N] [--limit N]

Heads on all three cuts at the greatest input size, taught by masks with the weight 0.1 where there are some,
strength 1: with the image and its mirrored copies, and with those in other light beside them. Each image,
those of the test part too, is judged by the head that has not seen its group, in float, on the int8 features.
Folds are drawn anew each time. What is printed: AUROC with each pooling, and the difference, each the mean
over the repeats with its standard error by the bootstrap over groups.

Exit codes: 0 done, 2 wrong command line, 3 no such weights, 8 data.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

import numpy as np
from numpy.typing import NDArray

from device.errors import EdgeVisionError
from trainer import config as configs
from trainer.data import dataset as datasets
from trainer.data import sizing
from trainer.network.network import CANDIDATE_CUTS
from trainer.recipes import learn, probe
from trainer.scoring import metrics

CUTS = CANDIDATE_CUTS[3]  # all three
MASK_WEIGHT = 0.1
RESAMPLES = 200

Logits = NDArray[np.float64]


def judged(size: probe.InputSize, samples: Sequence[datasets.Sample], seed: int) -> list[list[Logits]]:
    """Without and with other light: the pooled logits (n,) with each pooling."""
    config = configs.load(None)
    search = probe.Search([size], samples, config.probe, config.split.folds, seed)
    weight = min(MASK_WEIGHT, max(search.mask_weights(size)))
    views = min(2, len(size.views))
    fitted = [search.fit(size, CUTS, views, 1.0, weight, lit=lit) for lit in (False, True)]
    found = search.judge(fitted)
    return [[one.pooled for one in found if one.fitted is heads] for heads in fitted]


def auroc(labels: NDArray[np.int64], repeats: Sequence[Logits], drawn: NDArray[np.intp] | slice) -> float:
    """The mean over the repeats."""
    return float(np.mean([metrics.auroc(labels[drawn], pooled[drawn]) for pooled in repeats]))


def resampled(groups: Sequence[str]) -> list[NDArray[np.intp]]:
    """Indices of images, whole groups drawn anew."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    parts = [np.array(one) for one in members.values()]
    rng = np.random.default_rng(0)
    return [
        np.concatenate([parts[at] for at in rng.integers(0, len(parts), len(parts))])
        for _ in range(RESAMPLES)
    ]


def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    config = configs.load(None)
    dataset = datasets.load(
        options.data, "auto", seed=0, test_share=0.0, protocol="given", limit=options.limit
    )
    samples = dataset.samples
    spec = sizing.candidates(samples, config.input, None)[0]
    size = learn.input_size(samples, spec, config, str(options.weights), turn=False)
    labels = np.array([sample.label for sample in samples])
    found = [judged(size, samples, seed) for seed in range(options.repeats)]
    groups = [sample.group for sample in samples]
    draws = resampled(groups)
    print(f"{len(samples)} images, {labels.sum()} defective, {len(set(groups))} groups")
    print("| pooling | mirrored | and in other light | difference |\n|---|---|---|---|")
    for index, pooling in enumerate(probe.poolings(config.probe)):
        ways = [[repeat[lit][index] for repeat in found] for lit in (0, 1)]
        each = np.array([[auroc(labels, way, drawn) for way in ways] for drawn in draws])
        plain, lit = (auroc(labels, way, slice(None)) for way in ways)
        errors = (*each.std(0), (each[:, 1] - each[:, 0]).std())
        cells = zip((plain, lit, lit - plain), errors, strict=True)
        print(f"| {pooling.share:g} | {' | '.join(f'{value:.4f} ± {error:.4f}' for value, error in cells)} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="What copies in other light do for the probe.")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="as of trainer.fit")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="as of trainer.fit")
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="default 2")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="so many of each label; 0: all")
    options = parser.parse_args(arguments)
    try:
        measure(options)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
