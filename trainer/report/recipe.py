"""What made a model: the recipe part by part, its data and its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from device.bundle.bundle import Calibration
from trainer import config as configs
from trainer.report import page
from trainer.report.judged import ReportFacts
from trainer.report.page import Markup

# What each part of the recipe is set by: sections of the settings, and entries of the training record.
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "data": (("input", "split"), ()),
    "augmentation": (("augment",), ()),
    "imbalance": (("sampling",), ()),
    "model": (("probe", "dense", "scratch"), ("recipe", "weights", "chosen")),
    "schedule": (("finetune",), ()),
    "metrics": ((), ("judged_by",)),
    "thresholds": (("threshold",), ()),
    "good parts only": (("good_only",), ()),
    "int8": (("quantization", "qat"), ()),
    "output": (("bundle", "report"), ()),
    "hardware": (("hardware",), ("hardware",)),
}


SETTINGS_NOTE = "Settings of every way to a model; those of a way that was not taken had no influence"


def recipe(training: Mapping[str, Any]) -> Iterator[Markup]:
    """Every part of the recipe with its settings, and what of them is not as it is by default."""
    given: Mapping[str, Mapping[str, Any]] = training.get("config", {})
    default = asdict(configs.load(None))
    named = {section for sections, _ in PARTS.values() for section in sections}
    parts = {**PARTS, "others": (tuple(section for section in given if section not in named), ())}
    rows = []
    for part, (sections, entries) in parts.items():
        said = [f"{entry}: {page.shown(training[entry])}" for entry in entries if entry in training]
        said += [
            f"[{section}] {_settings_of(given[section], default.get(section, {}))}"
            for section in sections
            if section in given
        ]
        rows.append((part, Markup("<br>".join(said)) if said else "not part of this bundle's training"))
    yield page.table(
        ("part", "how it was set; what differs from the default is in bold"), rows, SETTINGS_NOTE, long=True
    )


def _settings_of(given: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    shown = []
    for key, value in given.items():
        text = f"{page.shown(key)} = {page.shown(value)}"
        if key in default and default[key] != value:
            text = f"<b>{text}</b> (default {page.shown(default[key])})"
        shown.append(text)
    return "; ".join(shown)


def data(training: Mapping[str, Any], facts: ReportFacts) -> Markup:
    """The data that the model was made of beside those that the report is on."""
    made_of = training.get("data", {})
    names = list(dict.fromkeys([*(name.replace("_", " ") for name in made_of), *facts.data]))
    learned = {name.replace("_", " "): value for name, value in made_of.items()}
    rows = [(name, learned.get(name), facts.data.get(name)) for name in names]
    return page.table(("what", "the model was made of", "this report is on"), rows, "Data", long=True)


def environment(calibration: Calibration, facts: ReportFacts) -> Iterator[Markup]:
    """Command, seed, versions, and how long it took."""
    training = calibration.training
    rows = [
        ("command", facts.command_line),
        ("seed", training.get("seed")),
        ("model", calibration.model_sha256),
        ("input", f"{calibration.preprocess.size.width} x {calibration.preprocess.size.height} px"),
        ("git", training.get("git")),
        *training.get("versions", {}).items(),
    ]
    yield page.table(("what", "which"), rows, "What it was made with", long=True)
    if facts.took:
        rows = [(name, f"{seconds:.1f}") for name, seconds in facts.took.items()]
        yield page.table(("step", "seconds"), rows, "How long it took, until this report was written")
