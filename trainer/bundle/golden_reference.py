"""Whether the good images of a data set give a golden reference, and that reference."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from device.bundle.bundle import PreprocessSpec, ReferenceSpec
from device.bundle.reference import GoldenReference
from device.learning.golden_reference import LEAST_IMAGES, Unfit, from_images
from trainer.data.dataset import Sample
from trainer.network.features import inputs

log = logging.getLogger(__name__)

MOST_IMAGES = 60  # good images that it is learned from


def learn(
    samples: Sequence[Sample], preprocess: PreprocessSpec, min_area_px: int
) -> tuple[GoldenReference, ReferenceSpec] | None:
    """From the good ones among the samples; None, with the reason in the log, where they do not lie still."""
    try:
        reference, spec = _learned_from(samples, preprocess, min_area_px)
    except Unfit as reason:
        log.info("no golden reference: %s", reason)
        return None
    log.info("golden reference: differences count from %.1f standard deviations", spec.cut)
    return reference, spec


def _learned_from(
    samples: Sequence[Sample], preprocess: PreprocessSpec, min_area_px: int
) -> tuple[GoldenReference, ReferenceSpec]:
    good = [sample for sample in samples if sample.label == 0]
    if preprocess.tiles is not None:
        raise Unfit("frames are seen in tiles")
    if len(good) < LEAST_IMAGES:
        raise Unfit(f"{len(good)} good images, {LEAST_IMAGES} or more are needed")
    few = good[:: -(-len(good) // MOST_IMAGES)]
    images = [model_input.luma() for model_input in inputs(few, preprocess, "golden reference")]
    return from_images(images, min_area_px)
