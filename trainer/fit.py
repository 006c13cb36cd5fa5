"""Train a defect model and write it as a bundle for the device.

    python -m trainer.fit --data PATH --out DIR [--format auto|dagm|mvtec|csv] [--config FILE]
                          [--weights imagenet|none|FILE] [--mode supervised|good-only] [--head evidence|dense]
                          [--qat]
                          [--limit N] [--input-size N] [--seed N] [--keep-network FILE.keras] [--logs DIR]
                          [--from BUNDLE]

    python -m trainer.fit --data PATH --preview-augmentation FILE.png [--config FILE] [--limit N]

--data may be given several times. DIR receives <name>-<UTC>-<sha8>/ and the link `current` to it; the last
line on standard output is its path. Progress goes to standard error. Exit codes are those of device.errors,
130 after Ctrl-C. docs/training.md says what happens in which order.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.bundle import bundle as bundles
from device.bundle import memory
from device.bundle import reference as references
from device.bundle.bundle import Calibration, PreprocessSpec, Thresholds
from device.errors import ConfigError, StorageError
from device.inspection.pipeline import Pipeline
from trainer import command
from trainer import config as configs
from trainer.bundle import provenance
from trainer.config import Config
from trainer.data import dataset as datasets
from trainer.data import preview, sizing, splits
from trainer.report import page
from trainer.scoring import operating_point, thresholds
from trainer.steps import Steps
from trainer.training.logbook import Logbook

if TYPE_CHECKING:
    from trainer.recipes.learned import Learned  # it brings TensorFlow

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoint"  # in DIR, while a network is trained on
STEPS = ("images", "model", "golden reference", "thresholds", "report", "bundle")
GOOD_ONLY_STEPS = ("images", "model", "thresholds", "report", "bundle")
TRAINING = ("--head", "--qat", "--keep-network", "--logs")  # what a network is trained with
NETWORK = ("--weights", "--input-size")  # and which


def fit(options: argparse.Namespace, config: Config) -> Path:
    """From images to a bundle; its path. Raises EdgeVisionError."""
    _require_all_writable(options)
    weights = _weights(options.weights)
    _require_possible(options)
    if options.mode == "good-only":
        return _good_only(options, config, weights)
    steps = Steps(STEPS)
    with steps.at("images"):
        dataset = _dataset(options, config, "supervised")
        preview.warn(dataset.train, config.augment)
        good, bad = (dataset.count(split="train", label=label) for label in (0, 1))
        operating_point.require_enough(good, bad, config.threshold)
        splits.require_folds(dataset.train)
        specs = sizing.candidates(dataset.train, config.input, options.input_size)

    # they bring TensorFlow, which what was wrong so far did not need
    if options.start is not None:
        from trainer import sharpen

        return sharpen.sharpen(bundles.load(options.start), dataset, options.out, config, options.seed)
    from trainer.bundle import calibration as calibrations
    from trainer.bundle import golden_reference
    from trainer.report import report

    with steps.at("model"):
        learned = _learned(options, config, dataset, specs, weights)
        if options.keep_network:
            _keep(learned.network, options.keep_network)
    with steps.at("golden reference"):
        least_px = calibrations.localization(learned).min_area_px
        found = golden_reference.learn(dataset.train, learned.preprocess, least_px)
    with steps.at("thresholds"):
        scores = thresholds.calibrate(learned.labels, learned.pooled)
        chosen = thresholds.choose(learned.labels, learned.pooled, scores, config.threshold)
        described = operating_point.describe(
            learned.labels, thresholds.scored(learned.pooled, scores), chosen.ng, config.threshold
        )
        golden = calibrations.golden_images(learned, scores, chosen.ng, config.bundle.golden)
        calibration = calibrations.calibration(
            learned,
            scores,
            chosen,
            golden,
            model_id=config.bundle.name or _name(dataset.name),
            training={
                **provenance.record(learned.record, dataset, config, weights=weights, seed=options.seed),
                "thresholds": described,
            },
            reference=found[1] if found else None,
            unfamiliar_rate=config.familiar.rate,
        )
    extra = {
        "split.csv": datasets.split_csv(dataset),
        thresholds.SWEEP_FILE: thresholds.sweep(learned.labels, learned.pooled, scores),
        **({references.FILE: found[0].to_bytes()} if found else {}),
    }
    with steps.at("report"):
        reference = found[0] if found else None
        content = report.of_fit(learned, calibration, dataset, reference, config.report, steps.took_s)
    with steps.at("bundle"):
        images = {name: calibrations.png(sample, learned.preprocess) for name, sample in golden.items()}
        extra[page.FILE] = content
        path = bundles.write(options.out, calibration.model_id, learned.content, calibration, images, extra)
        Pipeline(bundles.load(path), "trainer", "fit")  # opens it as the device does, golden images and all
    _report(calibration)
    for line in operating_point.lines(described):
        log.info("%s", line)
    return path


def _good_only(options: argparse.Namespace, config: Config, weights: str) -> Path:
    """The same from good images alone; see trainer.recipes.good_only."""
    steps = Steps(GOOD_ONLY_STEPS)
    with steps.at("images"):
        dataset = _dataset(options, config, "good-only")
        good = [sample for sample in dataset.train if sample.label == 0]
        specs = sizing.candidates(good, replace(config.input, tile_size=0), options.input_size)

    from trainer.bundle import calibration as calibrations
    from trainer.recipes import good_only
    from trainer.report import report
    from trainer.scoring import good_thresholds

    with steps.at("model"):
        learned = good_only.learn(good, specs, config.good_only, weights, options.seed)
    with steps.at("thresholds"):
        scores, chosen = good_thresholds.choose(learned.pooled, learned.made, config.threshold)
        golden = calibrations.golden_images(learned, scores, chosen.ng, config.bundle.golden)
        calibration = calibrations.calibration(
            learned,
            scores,
            chosen,
            golden,
            model_id=config.bundle.name or _name(dataset.name),
            training=provenance.record(learned.record, dataset, config, weights=weights, seed=options.seed),
            unfamiliar_rate=config.familiar.rate,
        )
    with steps.at("report"):
        content = report.of_good_only(learned, calibration, dataset, config.report, steps.took_s)
    with steps.at("bundle"):
        images = {name: calibrations.png(sample, learned.preprocess) for name, sample in golden.items()}
        extra = {
            "split.csv": datasets.split_csv(dataset),
            memory.FILE: learned.memory.good.to_bytes(),
            page.FILE: content,
        }
        path = bundles.write(options.out, calibration.model_id, learned.content, calibration, images, extra)
        Pipeline(bundles.load(path), "trainer", "fit")  # opens it as the device does, golden images and all
    log.info("thresholds: %s", chosen.rule)
    return path


def _dataset(options: argparse.Namespace, config: Config, protocol: datasets.Protocol) -> datasets.Dataset:
    return datasets.load(
        options.data,
        options.format,
        seed=options.seed,
        test_share=config.split.test_share,
        protocol=protocol,
        limit=config.data.limit if options.limit is None else options.limit,
    )


def _learned(
    options: argparse.Namespace,
    config: Config,
    dataset: datasets.Dataset,
    specs: Sequence[PreprocessSpec],
    weights: str,
) -> Learned:
    """A model in the way that was asked for. What is trained on leaves its checkpoints in DIR meanwhile."""
    from trainer.network import hardware
    from trainer.recipes import classic, finetune, learn, quantize_aware

    logbook, seed, folder = Logbook(options.logs), options.seed, options.out / CHECKPOINTS
    if weights == "none":
        return learn.from_scratch(dataset.train, specs[0], config, seed, logbook)
    machine = hardware.found(config.hardware)
    if options.head == "dense":
        learned = classic.learn(dataset.train, specs[0], config, machine, weights, seed, folder, logbook)
    else:
        learned = learn.by_probe(dataset.train, specs, config, weights, seed)
        learned = finetune.from_probe(learned, config, machine, seed, folder, logbook)
        if options.qat:
            learned = quantize_aware.improved(learned, config, machine, seed, folder, logbook)
    return replace(learned, record={**learned.record, "hardware": machine.describe()})


# ---- before the long part


def _require_all_writable(options: argparse.Namespace) -> None:
    """Known now, not after minutes of training: folders that are missing are made. Raises StorageError."""
    kept = options.keep_network
    _require_writable("--out", options.out, options.out)
    if kept:
        _require_writable("--keep-network", kept, kept.parent)
        if kept.is_dir():
            raise StorageError(f"--keep-network {kept}: cannot be written: is a folder")
    if options.logs:
        _require_writable("--logs", options.logs, options.logs)


def _require_writable(option: str, given: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"{option} {given}: cannot be written: {error.strerror}") from None


def _weights(given: str | None) -> str:
    if given is None:
        return "imagenet"
    if given in ("imagenet", "none") or Path(given).is_file():
        return given
    raise ConfigError(f"--weights: must be imagenet, none or a file, got {given} (no such file)")


def _require_possible(options: argparse.Namespace) -> None:
    """Raises ConfigError for what does not go together."""
    if options.mode == "good-only" and options.start is not None:
        raise ConfigError("--from: needs --mode supervised, as it is known defects that sharpen a bundle")
    if options.mode == "good-only":
        _refuse("--mode good-only", "trains no network", TRAINING, options)
    if options.start is not None:
        _refuse("--from", "keeps the bundle's network and its input", (*TRAINING, *NETWORK), options)
    if options.head == "dense" or options.weights == "none":
        way = "--head dense" if options.head == "dense" else "--weights none"
        _refuse(way, "there is no probe's model to train on", ("--qat",), options)
    if options.weights == "none":
        _refuse("--weights none", "an evidence head is trained", ("--head",), options)


def _refuse(way: str, reason: str, ignored: Sequence[str], options: argparse.Namespace) -> None:
    """What is asked for, and that way of learning would ignore."""
    usual = {"--head": "evidence", "--qat": False}
    asked = (name for name in ignored if getattr(options, _field(name)) != usual.get(name))
    if given := ", ".join(asked):
        raise ConfigError(f"{way}: {reason}: not with {given}")


def _field(name: str) -> str:
    """Of the parsed command line."""
    return name.removeprefix("--").replace("-", "_")


def _name(words: str) -> str:
    """Of the bundle: that of the data, in letters that a folder's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-._")[:64].lower() or "model"


# ---- after it


def _keep(network: Any, path: Path) -> None:
    """The float network, for trainer.report. Raises StorageError."""
    try:
        network.save(path)
    except OSError as error:
        raise StorageError(f"--keep-network {path}: cannot be written: {error.strerror}") from None


def _report(calibration: Calibration) -> None:
    judged_by = calibration.metrics["judged_by"]
    for kind in ("float", "int8"):
        found = calibration.metrics[kind]
        log.info(
            "%s, %s: AUROC %.4f, AP %.4f, best F1 %.4f, %d distinct scores",
            kind,
            judged_by,
            *(found[name] for name in ("auroc", "ap", "f1_max", "distinct_scores")),
        )
    _report_thresholds(calibration.thresholds)


def _report_thresholds(chosen: Thresholds) -> None:
    row = next(row for row in chosen.table if row.threshold == chosen.ng)
    counts = f"tp {row.tp}, fp {row.fp}, tn {row.tn}, fn {row.fn}"
    log.info("thresholds: NG from %.4f (%s), MARGINAL from %.4f", chosen.ng, counts, chosen.marginal)


# ---- the command line


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.fit", description=__doc__.split("\n", maxsplit=1)[0]
    )
    command.add_data(parser)
    result = parser.add_mutually_exclusive_group(required=True)
    result.add_argument("--out", type=Path, metavar="DIR", help="folder that receives the bundle")
    result.add_argument(
        "--preview-augmentation",
        type=Path,
        metavar="FILE.png",
        help="only write a sheet of images and of the copies that [augment] makes of them",
    )
    parser.add_argument("--limit", type=_limit, metavar="N", help="in place of [data] limit")
    parser.add_argument("--config", type=Path, help="TOML file; trainer/default.toml names every key")
    parser.add_argument("--weights", help="imagenet (the default: downloaded), none (random), or a .h5 file")
    parser.add_argument(
        "--mode", default="supervised", choices=("supervised", "good-only"), help="what is learned from"
    )
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="BUNDLE", help="sharpen what --mode good-only made"
    )
    parser.add_argument(
        "--head", default="evidence", choices=("evidence", "dense"), help="what ends the network"
    )
    parser.add_argument("--qat", action="store_true", help="train on while it rounds as its int8 file will")
    parser.add_argument("--input-size", type=int, metavar="N", help="greater side of the input, px")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of splits, folds and training")
    parser.add_argument(
        "--keep-network", type=_network_file, metavar="FILE", help="write the float network there too, .keras"
    )
    parser.add_argument("--logs", type=Path, metavar="DIR", help="what TensorBoard shows of the training")
    return parser.parse_args(arguments)


def _network_file(text: str) -> Path:
    if Path(text).suffix != ".keras":
        raise argparse.ArgumentTypeError(f"must end in .keras, got {text}")
    return Path(text)


def _limit(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 (all) or more, got {value}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must be 0..4294967295, got {value}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = _parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
    make = preview.of_command if options.preview_augmentation else fit
    return command.run(lambda: make(options, configs.load(options.config)))


if __name__ == "__main__":
    sys.exit(main())
