"""Whether pictures of good parts lie still enough for a golden reference, and that reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device.bundle.calibration import ReferenceSpec
from device.bundle.reference import GoldenReference, Gray

LEAST_IMAGES = 8
LEAST_RESPONSE = 0.2  # of half of the good images with their mean: textures do not correlate
LEAST_EXPLAINED = 0.8  # share of the images' variance that is the part's own picture, not what differs
RESPONSE_SHARE = 0.5  # of the least response of a good image: below it, alignment has failed
FALSE_SHARE = 0.01  # of good images that may have a difference of the least area
MARGIN = 1.25  # above the greatest difference of good images: few of them were seen


class Unfit(Exception):
    """These images give no golden reference; the message says why."""


def from_images(
    images: Sequence[NDArray[np.uint8]], min_area_px: int
) -> tuple[GoldenReference, ReferenceSpec]:
    """From gray pictures (h, w) of good parts, as the model sees them.

    `min_area_px`: differences that cover less are none. Raises Unfit.
    """
    if len(images) < LEAST_IMAGES:
        raise Unfit(f"{len(images)} good images, {LEAST_IMAGES} or more are needed")
    if len({image.shape for image in images}) > 1:
        raise Unfit("the images differ in size on the model's input")
    reference = _laid_on_their_mean(images)
    _require_still(reference, images)
    return reference, _calibrated(images, min_area_px)


def _laid_on_their_mean(images: Sequence[NDArray[np.uint8]]) -> GoldenReference:
    """The mean and spread of the images, first laid on one of them, then on the mean that this gave."""
    first = images[0].astype(np.float32)
    return _laid(_laid(GoldenReference(first, np.zeros_like(first)), images), images)


def _laid(reference: GoldenReference, images: Sequence[NDArray[np.uint8]]) -> GoldenReference:
    """From the images as they lie on a reference."""
    laid: list[Gray] = []
    for image in images:
        alignment = reference.align(image)
        if alignment is not None:
            laid.append(reference.moved(image, alignment)[0])
    if len(laid) * 2 < len(images):
        raise Unfit("most good images lie further from each other than a tenth of their side")
    stack = np.stack(laid)
    return GoldenReference(stack.mean(0), stack.std(0))


def _require_still(reference: GoldenReference, images: Sequence[NDArray[np.uint8]]) -> None:
    alignments = [reference.align(image) for image in images]
    typical = float(np.median([0.0 if found is None else found.response for found in alignments]))
    if typical < LEAST_RESPONSE:
        raise Unfit(f"good images do not lie still (correlation {typical:.2f}, needed {LEAST_RESPONSE})")
    explained = float(reference.mean.var() / (reference.mean.var() + (reference.sd**2).mean()))
    if explained < LEAST_EXPLAINED:
        raise Unfit(f"good images are too unlike (share {explained:.2f}, needed {LEAST_EXPLAINED})")


def _calibrated(images: Sequence[NDArray[np.uint8]], min_area_px: int) -> ReferenceSpec:
    """Each half of the images judged by the reference of the other half."""
    worst, responses = [], []
    for half in (0, 1):
        judge = _laid_on_their_mean(images[half::2])
        for image in images[1 - half :: 2]:
            alignment = judge.align(image)
            if alignment is None:
                continue
            responses.append(alignment.response)
            deviation = judge.deviation(image, alignment)
            count = min(min_area_px, deviation.size)
            worst.append(float(np.partition(deviation, -count, axis=None)[-count]))
    cut = float(np.quantile(worst, 1 - FALSE_SHARE)) * MARGIN
    return ReferenceSpec(cut, min(responses) * RESPONSE_SHARE)
