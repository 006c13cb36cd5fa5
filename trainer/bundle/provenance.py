"""Where a model comes from: the `training` record that its bundle carries, for people to read."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from device.bundle.bundle import Bundle
from trainer.config import TrainerConfig
from trainer.data.dataset import Dataset
from trainer.scoring.thresholds import Labels

PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "numpy",
    "scikit-learn",
    "opencv-python-headless",
    "ai-edge-litert",
)


def record(
    choice: Mapping[str, Any], dataset: Dataset, config: TrainerConfig, *, weights: str, seed: int
) -> dict[str, Any]:
    """`choice`: how the model was chosen (Learned.record). `weights`: imagenet, none or a file."""
    return {
        **choice,
        "seed": seed,
        "weights": _weights(weights),
        "config": asdict(config),
        "data": _data(dataset),
        "versions": _versions(),
        "git": _git_hash(),
    }


def retuned(bundle: Bundle, dataset: Dataset, labels: Labels, described: Mapping[str, Any]) -> dict[str, Any]:
    """Where thresholds come from that were chosen anew.

    `labels`: of the images they were chosen on. `described`: how (wish.describe).
    """
    old = bundle.calibration.thresholds
    defective = int(labels.sum())
    return {
        "from_bundle": bundle.name,
        "from_version": bundle.calibration.version,
        "from_thresholds": {"ng": old.ng, "marginal": old.marginal, "rule": old.rule},
        **described,
        "data": {
            "name": dataset.name,
            "format": dataset.format,
            "digest": dataset.digest,
            "good": len(labels) - defective,
            "defective": defective,
            "problems": len(dataset.problems),
        },
        "versions": _versions(),
        "git": _git_hash(),
    }


def _weights(weights: str) -> dict[str, str]:
    if weights in ("imagenet", "none"):
        return {"source": weights}
    return {"source": Path(weights).name, "sha256": hashlib.sha256(Path(weights).read_bytes()).hexdigest()}


def _data(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "format": dataset.format,
        "digest": dataset.digest,
        "split_rule": dataset.split_rule,
        "kinds": {
            kind: {split: dataset.count(split=split, kind=kind) for split in ("train", "test", "unassigned")}
            for kind in sorted({sample.kind for sample in dataset.samples})
        },
        "sets": [{"name": one.name, "format": one.format, "digest": one.digest} for one in dataset.sets],
        "train": {
            "good": dataset.count(split="train", label=0),
            "defective": dataset.count(split="train", label=1),
        },
        "test": {
            "good": dataset.count(split="test", label=0),
            "defective": dataset.count(split="test", label=1),
        },
        "problems": len(dataset.problems),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # of tensorflow and tensorflow-cpu one is there
    return found


def _git_hash() -> str | None:
    """Of the checkout that this file lies in; None outside of one, or without git."""
    command = ("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None
