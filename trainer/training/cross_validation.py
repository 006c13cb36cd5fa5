"""A cross-validated training: a network for each fold, side by side, judged together after every epoch.

Each network learns from all folds but its own, and each image is judged by the network that has not seen it.
So every image takes part in the choice of the epoch, none is judged by a network that was trained on it, and
the result compares with any other cross-validated one on the same images. With the epoch known, one more
network learns from all images in the same way: the one to ship.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from device.bundle.bundle import Pooling
from device.inspection.detector import pooled_cells
from device.inspection.framing import Cells
from trainer.data.batches import Batch
from trainer.scoring import metrics
from trainer.scoring.quality import Quality
from trainer.steps import bar
from trainer.training.checkpoint import Arrays, Checkpoints
from trainer.training.learner import Learner, Phase
from trainer.training.logbook import Logbook

log = logging.getLogger(__name__)

ALL = "all"  # the name of the network that learns from every image


class Feed(Protocol):
    """Images to learn from, in an order that an epoch's number alone decides; and in their own order."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, index: int) -> Iterator[Batch]: ...

    def judge(self) -> Iterator[Batch]: ...

    def part(self, chosen: NDArray[np.bool_]) -> Feed:
        """Some of the images."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """`phases` one after the other; `monitor` "ap" or "f1" chooses the epoch; see [finetune]."""

    phases: tuple[Phase, ...]
    monitor: str
    patience: int

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    def at(self, epoch: int) -> tuple[int, bool]:
        """(the number of the phase that epoch 1, 2... belongs to, whether it is its first)."""
        for number, phase in enumerate(self.phases):
            if epoch <= phase.epochs:
                return number, epoch == 1
            epoch -= phase.epochs
        raise ValueError(f"epoch must be within {self.epochs}")


@dataclass(frozen=True, slots=True, eq=False)
class FoldedImages:
    """The images, and how their maps become logits. `fold_of` (n,): who judges each."""

    labels: NDArray[np.int64]
    fold_of: NDArray[np.int64]
    cells: Sequence[Cells]  # of each image's map, those that are not padding
    pooling: Pooling

    def pooled(self, maps: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of maps (n, h, w) of the images of these indices, or of their logits as they are."""
        if maps.ndim == 1:
            return maps.astype(np.float64)
        pairs = zip(maps, indices, strict=True)
        return np.array([pooled_cells(values, self.cells[index], self.pooling) for values, index in pairs])


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """`epoch`: the best one's number, 0 where the beginning was better than all. The rest belongs to it.

    `folds`, `shipped`: the variables of the networks. `pooled` (n,): float logits of images not seen.
    """

    epoch: int
    folds: list[Arrays]
    shipped: Arrays
    pooled: NDArray[np.float64]


class CrossValidation:
    """One cross-validated training.

    `learner` (phase, steps an epoch) makes a copy of the network with what trains it. `starts`: variables of
    each fold's network, then of the shipped one's. `pooled` (n,): what the beginning says of the images that
    it has not seen. `name`: of the training, in the log.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        judged: FoldedImages,
        feed: Feed,
        learner: Callable[[Phase, int], Learner],
        starts: Sequence[Arrays],
        pooled: NDArray[np.float64],
        checkpoints: Checkpoints,
        logbook: Logbook,
        name: str,
    ) -> None:
        self._plan, self._judged, self._feed, self._new_learner = plan, judged, feed, learner
        self._starts, self._pooled = starts, pooled
        self._checkpoints, self._logbook, self._name = checkpoints, logbook, name
        self._folds = range(len(starts) - 1)
        self._learner: tuple[tuple[int, int], Learner] | None = None

    def run(self) -> TrainingResult:
        """Raises TrainingError or StorageError; what was learned until then is in the checkpoints."""
        best, pooled = 0, self._pooled
        self._note(0, pooled, {})
        with bar(None, self._name, self._plan.epochs * len(self._starts), "epoch") as counted:
            for epoch in range(1, self._plan.epochs + 1):
                found, logs = self._epoch(epoch, counted)
                self._note(epoch, found, logs)
                if self._rank(found) > self._rank(pooled):
                    best, pooled = epoch, found
                    self._keep()
                elif epoch - best >= self._plan.patience:
                    log.info("no better epoch since %d: enough", best)
                    break
            counted.total = counted.n + best
            for epoch in range(1, best + 1):
                self._advanced(ALL, len(self._folds), epoch)
                counted.update()
        return TrainingResult(
            best, [self._at_best(fold, best) for fold in self._folds], self._final(best), pooled
        )

    def _epoch(self, epoch: int, counted: tqdm) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Of all folds: (logits of all images, the mean of what was logged)."""
        found = np.empty(len(self._judged.labels))
        lines = []
        for fold in self._folds:
            about = self._advanced(f"fold-{fold}", fold, epoch)
            found[self._judged.fold_of == fold] = about["pooled"][epoch - 1]
            lines.append(about["logs"][epoch - 1])
            counted.update()
        return found, {name: float(np.mean([line[name] for line in lines])) for name in lines[0]}

    def _advanced(self, name: str, index: int, epoch: int) -> dict[str, Any]:
        """What is known of a network after an epoch, which it learns unless it has."""
        stored = self._checkpoints.load(name)
        state, about = stored or (self._starts[index], {"logs": [], "pooled": []})
        if len(about["logs"]) >= epoch:
            return about
        own = self._judged.fold_of == index  # of the one that ships: none
        feed = self._feed.part(~own)
        number, first = self._plan.at(epoch)
        learner = self._of_phase(number, len(feed))
        if first:
            learner.begin(state)
        else:
            learner.resume(state)
        about["logs"].append(learner.epoch(feed.epoch(epoch), len(feed)))
        if own.any():
            about["pooled"].append(self._judge(learner, own).tolist())
        self._checkpoints.save(name, learner.state, about)
        return about

    def _of_phase(self, number: int, steps: int) -> Learner:
        """Folds of one batch more or less share one: its rate follows the steps nearly enough."""
        if self._learner is not None:
            (known, known_steps), learner = self._learner
            if known == number and abs(known_steps - steps) <= 1:
                return learner
        learner = self._new_learner(self._plan.phases[number], steps)
        self._learner = (number, steps), learner
        return learner

    def _judge(self, learner: Learner, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        batches = list(self._feed.part(own).judge())
        maps = learner.judge(batches, len(batches))
        return self._judged.pooled(maps, np.flatnonzero(own))

    # ---- the best epoch

    def _rank(self, pooled: NDArray[np.float64]) -> tuple[float, float]:
        quality = Quality.of(self._judged.labels, pooled)
        return (self._f1(pooled) if self._plan.monitor == "f1" else quality.ap), quality.separation

    def _f1(self, pooled: NDArray[np.float64]) -> float:
        best = metrics.f1_max(self._judged.labels, pooled)
        return best.f1 if best else 0.0

    def _keep(self) -> None:
        for fold in self._folds:
            self._checkpoints.keep(f"fold-{fold}", f"best-{fold}")

    def _at_best(self, fold: int, best: int) -> Arrays:
        stored = self._checkpoints.load(f"best-{fold}") if best else None
        return stored[0] if stored else self._starts[fold]

    def _final(self, best: int) -> Arrays:
        stored = self._checkpoints.load(ALL) if best else None
        return stored[0] if stored else self._starts[-1]

    def _note(self, epoch: int, pooled: NDArray[np.float64], logs: dict[str, float]) -> None:
        """What the folds together say after an epoch, in the log and in the logbook."""
        quality, f1 = Quality.of(self._judged.labels, pooled), self._f1(pooled)
        log.info(
            "epoch %d of %d: AP %.4f, F1 %.4f, separation %.2f on unseen images; loss %.4f",
            *(epoch, self._plan.epochs, quality.ap, f1, quality.separation, logs.get("loss", math.nan)),
        )
        measured = {"val_ap": quality.ap, "val_f1": f1, "val_separation": quality.separation}
        self._logbook.note(self._name, epoch, {**logs, **measured})
