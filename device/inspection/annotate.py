"""The inspected image as a person wants to see it: boxes, the verdict in words, the evidence as heat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Box, Size
from device.inspection.heat import Heat
from device.inspection.verdict import Verdict

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {  # RGB, dark enough for white letters
    "OK": (30, 130, 60),
    "NG": (205, 30, 30),
    "MARGINAL": (180, 105, 0),
    "ERROR": (150, 40, 170),
}
_HEAT = cv2.COLORMAP_INFERNO  # even steps to the eye, also for who sees few colours, and in print
_MOST_HEAT = 0.75  # opacity: the image stays to be seen under the greatest evidence
_UNSEEN = 0.4  # of its light: what is not looked at is dark
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PLAIN_PX = 512  # an image with this smaller side has letters and lines of plain size, others in proportion
_LETTERS = 0.5  # OpenCV's font scale at plain size: capitals 11 px high
_MARGIN_PX = 4  # around letters, at plain size


def annotate(image: Pixels, verdict: Verdict) -> Pixels:
    """A copy of the RGB image (H, W, 3): each region boxed with its score, and a line with the verdict.

    The line lies along the top; along the bottom where it would hide a region at the top and none there.
    """
    canvas = image.copy(order="C")
    pen = _Pen(canvas, COLOURS[verdict.verdict])
    boxes = [region.box for region in verdict.regions]
    words = pen.fitted(headline(verdict), boxes)
    for box in reversed(boxes):  # the strongest last, on top of the others
        pen.box(box)
    for region in reversed(verdict.regions):
        pen.label(f"{region.score:.2f}", region.box, words.free)
    pen.headline(words)  # over all that is drawn
    return canvas


def heat_map(image: Pixels, evidence: NDArray[np.float32], looked_at: Pixels | None = None) -> Pixels:
    """The RGB image (H, W, 3) in gray under the evidence over it (H, W), logits: a new image (H, W, 3).

    A place is as opaque, and as far up the colours from black over red to yellow, as the sigmoid of its
    logit; of Calibration.heat() the middle of the colours is what good images reach. So no evidence leaves
    the image as it is, a good part is dark, and a colour means the same on every image.
    `looked_at` (H, W), 0 where the image is not looked at: there is no heat, and the image is darker.
    """
    if evidence.shape != image.shape[:2]:
        raise ValueError(f"evidence must be {image.shape[:2]}, as the image, got {evidence.shape}")
    heat = cv2.convertScaleAbs(_sigmoid(evidence), alpha=255)
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    if looked_at is not None:
        heat[looked_at == 0] = 0
        gray = np.where(looked_at, gray, (gray * np.float32(_UNSEEN)).astype(np.uint8))
    colours, opacity = _heat_colours()
    share = np.round(colours * opacity).astype(np.uint8)  # what a level adds to each channel
    left = np.round((1 - opacity[:, 0]) * 255).astype(np.uint8)  # what it leaves of the image, in 255ths
    under: Any = cv2.multiply(gray, cv2.LUT(heat, left), scale=1 / 255)
    return np.asarray(cv2.add(cv2.merge([under] * 3), share[heat]), np.uint8)


def heat_layer(heat: Heat) -> Pixels:
    """The heat of heat_map() by itself, to be laid over a gray image: RGB and opacity (h, w, 4)."""
    colours, opacity = _heat_colours()
    return np.dstack([colours[heat], np.round(255 * opacity[heat]).astype(np.uint8)])


def _heat_colours() -> tuple[Pixels, NDArray[np.float32]]:
    """Of each level of heat: its colour, RGB (256, 3), and its opacity (256, 1), 0..1."""
    levels = np.arange(256, dtype=np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, _HEAT), cv2.COLOR_BGR2RGB)[:, 0]
    return np.asarray(colours, np.uint8), levels[:, np.newaxis] * np.float32(_MOST_HEAT / 255)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """In place of exp(-x), which overflows."""
    return np.asarray(np.float32(0.5) * (1 + np.tanh(logits * np.float32(0.5))), np.float32)


def headline(verdict: Verdict) -> str:
    """The verdict, the score beside the threshold for NG, the regions: NG 0.930 >= 0.600, 2 regions."""
    if verdict.score is None:
        return verdict.verdict
    relation = ">=" if verdict.score >= verdict.threshold else "<"
    count = len(verdict.regions)
    regions = f", {count} region{'s' if count > 1 else ''}" if count else ""
    return f"{verdict.verdict} {verdict.score:.3f} {relation} {verdict.threshold:.3f}{regions}"


@dataclass(frozen=True, slots=True)
class _Headline:
    """Its words, the row where it begins, and the rows that it leaves free."""

    text: str
    top: int
    free: range


class _Pen:
    """Draws on an RGB image in one colour, with lines and letters in proportion to the image."""

    def __init__(self, canvas: Pixels, colour: Colour) -> None:
        self._canvas = canvas
        self._colour = colour
        self._size = Size(canvas.shape[1], canvas.shape[0])
        self._scale = max(0.5, min(canvas.shape[:2]) / _PLAIN_PX)

    def box(self, box: Box) -> None:
        """An outline around the box, not on it, with a white line outside that shows on any ground."""
        for distance, colour in ((3, _WHITE), (2, self._colour), (1, self._colour)):
            grown = round(distance * self._scale)
            corner = (box.x - grown, box.y - grown)
            opposite = (box.x + box.width - 1 + grown, box.y + box.height - 1 + grown)
            cv2.rectangle(self._canvas, corner, opposite, colour, max(1, round(self._scale)))

    def label(self, text: str, box: Box, free: range) -> None:
        """Letters on a ground of the colour, over the box; under it where the free rows leave no room."""
        width, height = self._extent(text)
        gap = round(4 * self._scale)
        top = box.y - gap - height
        if top < free.start:
            top = box.y + box.height + gap
        top = max(free.start, min(top, free.stop - height))
        self._write(text, max(0, min(box.x - gap, self._size.width - width)), top, width)

    def fitted(self, text: str, avoid: list[Box]) -> _Headline:
        """Letters on a full line at the top or the bottom, made to fit; not drawn yet."""
        width, height = self._extent(text)
        if width > self._size.width:
            self._scale *= self._size.width / width
            _, height = self._extent(text)
        bottom = self._size.height - height
        hides_top = any(box.y < height for box in avoid)
        hides_bottom = any(box.y + box.height > bottom for box in avoid)
        at_bottom = hides_top and not hides_bottom
        free = range(bottom) if at_bottom else range(height, self._size.height)
        return _Headline(text, bottom if at_bottom else 0, free)

    def headline(self, words: _Headline) -> None:
        """Draw it."""
        self._write(words.text, 0, words.top, self._size.width)

    def _extent(self, text: str) -> tuple[int, int]:
        """(width, height) of letters and their ground, px."""
        (width, height), _ = cv2.getTextSize(text, _FONT, _LETTERS * self._scale, self._thickness)
        margin = round(_MARGIN_PX * self._scale)
        return width + 2 * margin, height + 2 * margin

    def _write(self, text: str, left: int, top: int, width: int) -> None:
        _, height = self._extent(text)
        margin = round(_MARGIN_PX * self._scale)
        ground = ((left, top), (left + width - 1, top + height - 1))
        cv2.rectangle(self._canvas, *ground, self._colour, cv2.FILLED)
        origin = (left + margin, top + height - margin - 1)
        scale = _LETTERS * self._scale
        cv2.putText(self._canvas, text, origin, _FONT, scale, _WHITE, self._thickness, cv2.LINE_AA)

    @property
    def _thickness(self) -> int:
        return max(1, int(self._scale + 0.5))
