"""What a bundle says of itself to whoever finds it: what it is for, what it was made of, what it cannot do.

The parts are those of Mitchell et al., Model Cards for Model Reporting, FAT* 2019. Every bundle has one,
made from its calibration when it is written, by the trainer and by the station alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from device.bundle.calibration import Calibration

FILE = "MODEL_CARD.md"
DOUBT = 0.025  # on either side
LICENCES = {
    "imagenet": "MobileNetV2's ImageNet weights as Keras publishes them, Apache License 2.0",
    "none": "no weights of others: it began from random numbers",
}


def model_card(calibration: Calibration) -> bytes:
    """Markdown, in UTF-8."""
    training = calibration.training
    lines = [
        f"# {calibration.model_id}",
        "",
        f"Made {calibration.created} by EdgeVision's trainer. It tells defective parts from good ones on",
        "images like those it was made of, and shows where. `calibration.json` has every figure,",
        "`report.html` shows them.",
        "",
        "## Data",
        "",
        *_data(training),
        *_changes(training),
        "",
        "## Licence",
        "",
        f"- Network: {_weights(training.get('weights') or {})}.",
        "- Images: the trainer does not know on what terms they were given; whoever ships this model has to.",
        "",
        "## Limits",
        "",
        *_limits(calibration, training.get("data", {})),
        "",
    ]
    return "\n".join(lines).encode("utf-8", "replace")


def _data(training: Mapping[str, Any]) -> Iterator[str]:
    data = training.get("data", {})
    if "starter" in training:
        yield f"- {training['good_images']} good pictures of station {training['station']}"
        yield f"- the network is that of {training['starter']}"
        return
    name, layout, digest = (data.get(key, "not recorded") for key in ("name", "format", "digest"))
    yield f"- {name} ({layout}), SHA-256 {digest}"
    for part in ("train", "test"):
        counts = data.get(part, {})
        yield f"- {part}: {counts.get('good', 0)} good and {counts.get('defective', 0)} defective images"
    kinds = ", ".join(sorted(data.get("kinds", {})))
    yield f"- kinds: {kinds or 'not recorded'}; split: {data.get('split_rule', 'not recorded')}"


def _changes(training: Mapping[str, Any]) -> Iterator[str]:
    """What was done to it since it was made."""
    if adapted := training.get("adapted"):
        yield f"- adapted on a station to {adapted['good_parts']} good parts, from {adapted['from']}"
    if retaken := training.get("retaken"):
        yield f"- references taken anew from {retaken['good_images']} good pictures, from {retaken['from']}"
    if before := training.get("thresholds", {}).get("from_bundle"):
        judged = training["thresholds"]["data"]
        yield (
            f"- thresholds chosen anew on {judged['good']} good and {judged['defective']} defective images "
            f"({judged['name']}, SHA-256 {judged['digest']}), from {before}"
        )


def _weights(weights: Mapping[str, Any]) -> str:
    source = str(weights.get("source", "not recorded"))
    of_a_file = f"weights of the file {source}, SHA-256 {weights.get('sha256', '-')}, on its owner's terms"
    return LICENCES.get(source, of_a_file)


def _limits(calibration: Calibration, data: Mapping[str, Any]) -> Iterator[str]:
    counts = data.get("train", {})
    good = counts.get("good", calibration.training.get("good_images", 0))
    bad = counts.get("defective", 0)
    if good:
        most = 100 * (1 - DOUBT ** (1 / good))  # Clopper and Pearson, 1934, where none was seen
        yield (
            f"- Were none of its {good} good images rejected, up to {most:.1f} % of good parts could be "
            "rejected all the same (95 %)."
        )
    if bad:
        yield f"- Kinds of defects that are not among its {bad} defective images may pass as good."
    else:
        yield "- It has seen no defective part: what it finds is what is strange beside its good ones."
    if curve := calibration.training.get("learning_curve"):
        yield f"- {curve['says']}."
    size = calibration.preprocess.size
    yield f"- It looks at {size.width} x {size.height} px: what is invisible at that size is invisible to it."
    yield "- Other light, focus, camera or parts ask for new images, and for `trainer.evaluate` on them."
    yield "- It inspects goods. It is no safety device for people."
