"""The pictures of a report: mistakes, and where the model looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import Calibration
from device.bundle.reference import GoldenReference
from device.image.geometry import Box
from device.inspection.detector import Prediction
from device.inspection.localizer import Localizer, evidence_in_frame
from device.inspection.preprocess import ModelInput
from device.inspection.verdict import decide
from trainer import localization
from trainer.config import ReportConfig
from trainer.data.dataset import Sample, read_mask, read_shown
from trainer.localization import LocalizationEstimate, Look, Saliency
from trainer.report import page, thumbnail
from trainer.report.judged import Predictions
from trainer.report.page import Markup
from trainer.scoring import boxes
from trainer.scoring.boxes import BoxFigures, VerdictBoxes


class Viewer:
    """The pictures of a report, as many as its size allows."""

    def __init__(
        self,
        calibration: Calibration,
        judged: Predictions,
        reference: GoldenReference | None,
        settings: ReportConfig,
    ) -> None:
        self._calibration, self._judged, self._settings = calibration, judged, settings
        self._reference = reference
        self._localizer = Localizer(calibration.localization, calibration.score_calibration, reference)
        self._bytes_left = settings.max_bytes
        self._left_out = 0

    def mistakes(self) -> Iterator[Markup]:
        """False rejects, misses, and the nearest to the threshold that are neither."""
        kinds = _mistakes(self._judged.labels, self._judged.scores, self._calibration.thresholds.ng)
        yield page.paragraph(
            "Left the image, with the boxes that the device draws (red; none where it says OK) and the "
            "outline of its mask, if any (green); right, as heat, how much each place speaks for a defect. "
            "A click enlarges a picture."
        )
        for title, found in kinds.items():
            yield page.heading(f"{title}: {len(found)}")
            pictures = [self._mistake(index) for index in found[: self._settings.images]]
            yield page.row_of(*pictures) if pictures else page.paragraph("None.")

    def _mistake(self, index: int) -> Markup:
        judged, calibration = self._judged, self._calibration
        sample, score = judged.samples[index], float(judged.scores[index])
        model_input, evidence = judged.look(index)
        shown = evidence_in_frame(evidence, model_input.placement, calibration.localization.shift_px)
        word = decide(score, calibration.thresholds)
        located = (
            () if word == "OK" else self._localizer.locate(model_input, Prediction(evidence, 0.0, score))
        )
        drawn = [region.box for region in located]
        caption = f"{sample.name}: {sample.kind}, score {score:.4f}, {word}"
        return self._picture(sample, [calibration.heat(shown)], drawn, caption)

    def _picture(
        self, sample: Sample, maps: Sequence[localization.Map], drawn: Sequence[Box], caption: str
    ) -> Markup:
        side = self._settings.thumbnail_px
        image = read_shown(sample)
        mask = read_mask(sample) if sample.mask else None
        small = thumbnail.side_by_side(image, maps, drawn, mask, side)
        self._bytes_left -= len(small.encoded)
        if self._bytes_left < 0:
            self._left_out += 1
            return page.figure("", f"{caption} (no picture: the report would be larger than max_bytes)")
        return page.figure(page.picture(small.encoded, caption, small.width, small.height), caption)

    def places(self) -> Iterator[Markup]:
        """The three kinds of map, measured against the masks, and a few of them side by side."""
        judged, calibration, settings = self._judged, self._calibration, self._settings
        indices = localization.few(judged.samples, settings.map_images)
        if not any(judged.samples[index].mask for index in indices):
            yield page.paragraph("No defective image has a mask: where the model looks cannot be measured.")
            return
        samples = [judged.samples[index] for index in indices]
        look, saliency = _renumbered(judged, indices)
        spec = calibration.localization
        found = localization.compare(samples, look, saliency, spec, self._reference)
        yield _place_table(found, samples)
        yield _box_table(boxes.figures([self._boxed(index) for index in indices]))
        yield page.paragraph(PLACE_NOTE)
        masked = [number for number, sample in enumerate(samples) if sample.mask]
        shown = [self._strip(samples[number], number, look, saliency) for number in masked[: settings.images]]
        yield page.row_of(*shown)

    def _boxed(self, index: int) -> VerdictBoxes:
        """What the device would draw on an image, beside its mask."""
        judged, calibration = self._judged, self._calibration
        sample, score = judged.samples[index], float(judged.scores[index])
        model_input, evidence = judged.look(index)
        word = decide(score, calibration.thresholds)
        prediction = Prediction(evidence, 0.0, score)
        located = () if word == "OK" else self._localizer.locate(model_input, prediction)
        mask = read_mask(sample) if sample.has_truth else None
        return VerdictBoxes(
            tuple((region.box, region.score) for region in located),
            None if mask is None else boxes.around_parts(mask),
            sample.size,
            word == "NG",
        )

    def _strip(self, sample: Sample, number: int, look: Look, saliency: Saliency | None) -> Markup:
        spec = self._calibration.localization
        maps, kinds = [], []
        for kind, values in localization.maps_of(number, look, saliency, spec, self._reference):
            kinds.append(kind)
            heat = self._calibration.heat
            maps.append(heat(values) if kind == "evidence" else thumbnail.as_logits(values))
        return self._picture(sample, maps, [], f"{sample.name}: the image, {', '.join(kinds)}")


PLACE_NOTE = (
    "Evidence: what the device shows, from int8. Gradient: by how much each pixel moves the score of the "
    "float network (SmoothGrad), which only a workstation can compute. Difference: from the golden reference "
    "or the local background, in units of its cut. Pixel AUROC and AUPRO are over the pixels of all these "
    "images, own AUROC is the mean of each defective image's; pointing says how often the maximum lies in "
    "the mask; box IoU is that of the box around the region with the maximum. The heat of gradient and "
    "difference is relative to their maximum in the image."
)


def _renumbered(judged: Predictions, indices: Sequence[int]) -> tuple[Look, Saliency | None]:
    """The looks and saliency of some of the judged images, which are counted from 0."""
    saliency = judged.saliency
    chosen: Saliency | None = None
    if saliency is not None:

        def chosen(number: int, seen: ModelInput) -> localization.Map:
            return saliency(indices[number], seen)

    return (lambda number: judged.look(indices[number])), chosen


def _place_table(found: Mapping[str, LocalizationEstimate], samples: Sequence[Sample]) -> Markup:
    rows = [(kind, *measured.words()) for kind, measured in found.items()]
    bad = sum(sample.label for sample in samples)
    return page.table(
        ("map", *localization.MEASURES),
        rows,
        f"Against the masks of {bad} defective images, with {len(samples) - bad} good ones",
    )


def _box_table(found: BoxFigures) -> Markup:
    best = [value for value in (found.best_iou, found.best_iou_error) if value is not None]
    rows = [
        (
            "IoU of the strongest box with the defect that it fits best",
            " ± ".join(f"{value:.3f}" for value in best),
        ),
        ("average precision of the boxes, found from an IoU of 0.3 on", found.ap30),
        ("NG images with a box over half of the image", found.large_share),
    ]
    return page.table(
        ("boxes", "value"),
        rows,
        f"Boxes on these images, {found.n} of them defective, NG and with a mask. IoU: what two "
        "boxes have in common of what they cover together, 0 to 1",
    )


def _mistakes(labels: NDArray[np.int64], scores: NDArray[np.float64], ng: float) -> dict[str, list[int]]:
    """{kind: indices, the worst first}."""
    order = np.argsort(scores, kind="stable")
    misses = [int(index) for index in order if labels[index] == 1 and scores[index] < ng]
    rejects = [int(index) for index in order[::-1] if labels[index] == 0 and scores[index] >= ng]
    wrong = {*misses, *rejects}
    nearest = [int(index) for index in np.argsort(np.abs(scores - ng), kind="stable") if index not in wrong]
    return {"False rejects": rejects, "Misses": misses, "Right, and nearest to the threshold": nearest[:6]}
