"""Train a defect model and write it as a bundle for the device.

    python -m trainer.fit --data PATH --out DIR [--format auto|dagm|mvtec|csv] [--config FILE]
                          [--weights imagenet|none|FILE] [--mode supervised|good-only] [--head evidence|dense]
                          [--qat] [--quick]
                          [--limit N] [--input-size N] [--seed N] [--keep-network FILE.keras] [--logs DIR]
                          [--from BUNDLE] [--groups found|given] [--verbose]

    python -m trainer.fit --data PATH --preview-augmentation FILE.png [--config FILE] [--limit N]

--data may be given several times. DIR receives <name>-<UTC>-<sha8>/ and the link `current` to it; the last
line on standard output is its path. Progress goes to standard error. Exit codes are those of device.errors,
130 after Ctrl-C. docs/guide/training.md says what happens in which order.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.bundle import bundle as bundles
from device.bundle import reference as references
from device.bundle import store
from device.bundle.bundle import Calibration, Contents
from device.errors import StorageError
from device.inspection.pipeline import prove
from trainer import command
from trainer import config as configs
from trainer.bundle import provenance
from trainer.config import TrainerConfig
from trainer.data import dataset as datasets
from trainer.data import preview, splits
from trainer.options import FitOptions
from trainer.report import page
from trainer.scoring import enough, operating_point
from trainer.steps import Steps

if TYPE_CHECKING:  # it brings TensorFlow
    from trainer.strategy import Model, Strategy

log = logging.getLogger(__name__)

# Before and after a model is learned, with their usual shares of the time; what the learning takes is 100.
BEFORE = {"images": 1.0}
AFTER = {"golden reference": 1.0, "thresholds": 6.0, "report": 6.0, "bundle": 1.0}


def fit(options: FitOptions, config: TrainerConfig) -> Path:
    """From images to a bundle; its path. Raises EdgeVisionError."""
    options.check()
    if options.start is not None:
        return _sharpen(options.start, options, config)

    from trainer.strategy import GoodOnly, Supervised

    if options.mode == "good-only":
        return _tell(GoodOnly(options, config), options, config)
    return _tell(Supervised(options, config), options, config)


def _tell(strategy: Strategy[Model], options: FitOptions, config: TrainerConfig) -> Path:
    """The story that both ways share."""
    from trainer.bundle import calibration as calibrations

    steps = Steps({**BEFORE, **strategy.steps, **AFTER})
    with steps.at("images"):
        dataset = _dataset(options, config)
        _tell_what_counts_allow(dataset, options)
        specs = strategy.inputs(dataset)
    model = strategy.learn(dataset, specs, steps)
    if options.keep_network is not None:
        _keep(strategy.network(model), options.keep_network)
    with steps.at("golden reference"):
        reference = strategy.reference(dataset, model)
    with steps.at("thresholds"):
        decision = strategy.decide(model)
        ng, weights = decision.thresholds.ng, options.weights or "imagenet"
        golden = calibrations.golden_images(model, decision.scores, ng, config.bundle.golden)
        record = provenance.record(model.record, dataset, config, weights=weights, seed=options.seed)
        calibration = calibrations.calibration(
            model,
            decision.scores,
            decision.thresholds,
            golden,
            model_id=config.bundle.name or _name(dataset.name),
            training={**record, **decision.training},
            reference=reference[1] if reference else None,
            unfamiliar_rate=config.familiar.rate,
        )
    with steps.at("report"):
        shown = reference[0] if reference else None
        content = strategy.report(model, calibration, dataset, shown, steps.took_s)
    with steps.at("bundle"):
        extra = {
            "split.csv": datasets.split_csv(dataset),
            page.FILE: content,
            **decision.files,
            **strategy.files(model),
            **({references.FILE: reference[0].to_bytes()} if reference else {}),
        }
        images = {name: calibrations.png(sample, model.preprocess) for name, sample in golden.items()}
        contents = Contents(model.content, calibration, images, extra)
        path = store.lead_to(store.publish(options.out, calibration.model_id, contents, prove))
    _report(calibration)
    for line in decision.lines:
        log.info("%s", line)
    log.info("report: %s", path / page.FILE)
    return path


def _tell_what_counts_allow(dataset: datasets.Dataset, options: FitOptions) -> None:
    """Before hours are spent on too few images."""
    good, bad = (dataset.count(split="train", label=label) for label in (0, 1))
    for line in enough.beforehand(good, 0 if options.mode == "good-only" else bad):
        log.info("%s", line)


def _sharpen(start: Path, options: FitOptions, config: TrainerConfig) -> Path:
    """A bundle made from good images alone, with what known defects teach; its path."""
    dataset = _dataset(options, config)
    good, bad = (dataset.count(split="train", label=label) for label in (0, 1))
    operating_point.require_enough(good, bad, config.threshold)
    splits.require_folds(dataset.train)

    from trainer import sharpen

    return sharpen.sharpen(bundles.load(start), dataset, options.out, config, options.seed)


def _dataset(options: FitOptions, config: TrainerConfig) -> datasets.Dataset:
    return datasets.load(
        options.data,
        options.format,
        seed=options.seed,
        test_share=config.split.test_share,
        protocol=options.mode,
        limit=config.data.limit if options.limit is None else options.limit,
        groups=options.groups,
    )


def _name(words: str) -> str:
    """Of the bundle: that of the data, in letters that a folder's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-._")[:64].lower() or "model"


def _keep(network: Any, path: Path) -> None:
    """The float network, for trainer.report. Raises StorageError."""
    try:
        network.save(path)
    except OSError as error:
        raise StorageError(f"--keep-network {path}: cannot be written: {error.strerror}") from None


def _report(calibration: Calibration) -> None:
    """What was measured on images that had not been seen, and whether more of them would help."""
    judged_by = calibration.metrics["judged_by"]
    for kind in ("float", "int8"):
        found = calibration.metrics[kind]
        if found["auroc"] is not None:
            log.info(
                "%s, %s: AUROC %.4f, AP %.4f, best F1 %.4f, %d distinct scores",
                kind,
                judged_by,
                *(found[name] for name in ("auroc", "ap", "f1_max", "distinct_scores")),
            )
    if curve := calibration.training.get("learning_curve"):
        log.info("enough images? %s", curve["says"])


# ---- the command line


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.fit", description=__doc__.split("\n", maxsplit=1)[0]
    )
    command.add_data(parser)
    command.add_groups(parser)
    command.add_verbose(parser)
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
    parser.add_argument(
        "--quick", action="store_true", help="no decoder: the probe alone, or the memory of good parts"
    )
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
    given = vars(_parse(arguments))
    config, sheet, verbose = (given.pop(name) for name in ("config", "preview_augmentation", "verbose"))
    given["data"] = tuple(given["data"])
    if sheet is None:
        return command.run(lambda: fit(FitOptions(**given), configs.load(config)), verbose=verbose)
    seen = {name: given[name] for name in ("data", "format", "limit", "seed")}
    return command.run(lambda: preview.of_fit(sheet, configs.load(config), **seen), verbose=verbose)


if __name__ == "__main__":
    sys.exit(main())
