"""A model on some of its judged images as another day would show them.

An image's logit under a change is the one that it had when a model had not seen it, moved by what the change
does to the logit of the model that ships.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from device.bundle.bundle import ScoreCalibration
from device.image.frame import frame_from_file
from device.inspection.checks import Checks, measure
from device.inspection.detector import mean_evidence
from device.inspection.preprocess import Preprocessor
from trainer.data.changes import Change, blurred, compressed, gained, lifted, noisy, uneven
from trainer.network.export import Int8Model
from trainer.recipes.learned import TrainedModel

SLIGHT = (  # what a person hardly notices
    gained(0.8),
    gained(1.25),
    lifted(25.0),
    uneven(0.75, 1.25),
    blurred(1.0),
    noisy(8.0),
    compressed(30),
)
IMAGES = 24  # of either label that are changed
ANY_SCORES = ScoreCalibration(1.0, 0.0)  # the logits are looked at

Values = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class UnderChange:
    """Some images under a change: their labels (n,), 0 or 1, pictures, and logits (n,), unseen."""

    labels: Labels
    pictures: list[Checks]
    logits: Values


class Rehearsal:
    """IMAGES of either label at most, evenly chosen."""

    def __init__(self, learned: TrainedModel) -> None:
        labels = learned.labels
        few = np.concatenate([_spread(np.flatnonzero(labels == label)) for label in (0, 1)])
        white = learned.preprocess.white_level
        self._frames = [frame_from_file(learned.judged[index].path, 0, white) for index in few]
        self._labels, self._pooling = labels[few], learned.pooling
        self._model, self._preprocessor = Int8Model(learned.content), Preprocessor(learned.preprocess)
        plain = self._looked_at(None)
        self._unseen = learned.pooled[few] - plain.logits
        self.usual = replace(plain, logits=learned.pooled[few])

    def under(self, change: Change) -> UnderChange:
        """The images, each changed by the same generator each time."""
        found = self._looked_at(change)
        return replace(found, logits=found.logits + self._unseen)

    def _looked_at(self, change: Change | None) -> UnderChange:
        pictures, logits = [], []
        for number, frame in enumerate(self._frames):
            shown = frame
            if change is not None:
                shown = replace(frame, image=change(frame.image, np.random.default_rng(number)))
            model_input = self._preprocessor.prepare(shown)
            prediction = self._model.predict(model_input, self._pooling, ANY_SCORES)
            evidence = mean_evidence(model_input.framing, prediction.evidence)
            pictures.append(replace(measure(model_input), evidence=evidence))
            logits.append(prediction.pooled)
        return UnderChange(self._labels, pictures, np.array(logits))


def slightly_changed(learned: TrainedModel) -> list[tuple[Labels, Values]]:
    """(labels, logits) of some images under each slight change; none where a label is missing."""
    if len(set(learned.labels.tolist())) < 2:
        return []
    rehearsal = Rehearsal(learned)
    return [(under.labels, under.logits) for under in map(rehearsal.under, SLIGHT)]


def _spread(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    few = np.linspace(0, len(indices) - 1, min(IMAGES, len(indices))).round().astype(np.intp)
    return np.asarray(indices[np.unique(few)], np.intp)
