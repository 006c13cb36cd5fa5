"""What a bundle says when tomorrow is a little different: light, focus, sensor, a camera that was touched.

    python benchmarks/tomorrow.py --bundle DIR --data PATH [--images N] [--split test|all] [--json FILE]

Test images of the data set, at most N good and N defective ones, are inspected as they are, and again after
each change of trainer.data.changes, seeded. Of each: AUROC, AP, PB2 and PG2, and AUROC by pixels; at the
thresholds chosen today the share of defective parts that are OK (missed), of good parts that are NG
(rejected) and MARGINAL; in brackets by the score alone, as if any picture were judged; and which cause the
station would name from its good parts. The last lines sum up how many changes are borne, how many cost more
than 0.02 of AUROC, and which causes were named for which.

A slight change is borne where misses are at most 0.15 above "as it is", false rejects at most 0.10 or three
times "as it is", and at most 0.3 of the good parts MARGINAL. A strong one must not fail in silence: misses as
above, or the station names a cause; the summary has both.

Left out: another colour of the light of pictures without colours; a part whose defect a moved camera does not
show any more; and, of the causes, a moved camera where nothing stands still in the pictures, as of a texture,
for there nobody could tell.

A bundle that was taught without changed copies, [decoder] varied = 0, is what the copies are worth beside.

Exit codes: 0 done, 2 wrong command line, 4 bundle, 6 interpreter, 8 data.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it must find trainer

import cv2
import numpy as np
from numpy.typing import NDArray

from device.bundle import bundle as bundles
from device.errors import EdgeVisionError
from device.health.camera_shift import ReferenceView
from device.health.frame_watch import DIRT_RATIO
from device.health.lens import LEARNED_FROM, WINDOW, Lens
from device.image.frame import Frame, Pixels
from device.inspection import familiar
from device.inspection.checks import Checks
from device.inspection.localizer import evidence_in_frame
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Word, decide
from trainer import evaluate
from trainer.data.changes import TOMORROWS, Tomorrow
from trainer.data.dataset import Sample, load, read_mask
from trainer.scoring import metrics, sorting

MORE_MISSES, MORE_REJECTS, TIMES_REJECTS, MARGINAL = 0.15, 0.10, 3.0, 0.3
LESS_AUROC = 0.02
SHOWN = 0.5  # of a defect that the picture must show, or the part does not count
MOVED = 0.02  # of the picture's side: from here on the camera counts as moved
AS_IT_IS = Tomorrow("as it is", lambda image, _: image, None)


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a change.

    `plain_...`: by the scores alone. `named`: the cause, or None. `tellable`: whether these pictures can show
    the cause at all.
    """

    name: str
    cause: str | None
    strong: bool
    auroc: float | None
    ap: float | None
    pb2: float | None
    pg2: float | None
    pixel_auroc: float | None
    missed: float
    rejected: float
    marginal: float
    plain_missed: float
    plain_rejected: float
    named: str | None
    tellable: bool

    def misses(self, usual: Row) -> bool:
        """Whether more defective parts are OK than may be."""
        return self.missed > usual.missed + MORE_MISSES

    def borne(self, usual: Row) -> bool:
        """Whether it costs no more than it may."""
        if self.strong or self.misses(usual):
            return not self.misses(usual)
        most = max(MORE_REJECTS, TIMES_REJECTS * usual.rejected)
        return self.rejected <= most and self.marginal <= max(MARGINAL, usual.marginal)

    def ranks_worse(self, usual: Row) -> bool:
        """Whether AUROC has fallen by more than it may."""
        return (self.auroc or 0.0) < (usual.auroc or 0.0) - LESS_AUROC

    def line(self, usual: Row) -> str:
        """Of the table."""
        shares = (
            f"{self.missed:.2f} ({self.plain_missed:.2f})",
            f"{self.rejected:.2f} ({self.plain_rejected:.2f})",
            f"{self.marginal:.2f}",
        )
        figures = (self.auroc, self.ap, self.pb2, self.pg2, self.pixel_auroc)
        ranks = [f"{value:.3f}" if value is not None else "-" for value in figures]
        named = self.named or "-"
        verdict = "yes" if self.borne(usual) else "**no**"
        return f"| {' | '.join((self.name, *ranks, *shares, named, verdict))} |"


class Today:
    """A bundle on some images, and where its camera looks."""

    def __init__(self, bundle: bundles.Bundle, samples: Sequence[Sample]) -> None:
        self._pipeline = Pipeline(bundle, "tomorrow", "tomorrow")
        self._known = bundle.calibration.familiar
        self._thresholds = bundle.calibration.thresholds
        self._samples = samples
        self._view = ReferenceView(None)
        self._usual = [self._pipeline.read(one.path, 0).image for one in samples if not one.label]
        for image in self._usual[:8]:
            self._view.learn(image)
        self.has_colours = any(np.ptp(image, axis=2).any() for image in self._usual)

    def under(self, tomorrow: Tomorrow) -> Row:
        """All images after a change."""
        labels, scores, words, pictures, shifts = [], [], [], [], []
        good = []
        tally = evaluate.tally(self._pipeline.bundle)
        for number, sample in enumerate(self._samples):
            frame = _changed(self._pipeline.read(sample.path, number), tomorrow, number)
            verdict = self._pipeline.inspect(frame)
            mask = _mask(sample, tomorrow, number)
            if _gone(sample, mask):
                continue
            if mask is not None:
                tally.add(self._map(frame, mask.shape), mask)
            labels.append(sample.label)
            scores.append(verdict.score or 0.0)
            words.append(verdict.verdict)
            if not sample.label and verdict.checks is not None:
                pictures.append(verdict.checks)
                shifts.append(self._view.shift_ratio(frame.image))
                good.append(frame.image)
        plain = [decide(score, self._thresholds) for score in scores]
        sorted_out = sorting.shares(labels, scores)
        return Row(
            tomorrow.name,
            tomorrow.cause,
            tomorrow.strong,
            metrics.auroc(labels, scores),
            metrics.average_precision(labels, scores),
            sorted_out["PB2"].share if sorted_out else None,
            sorted_out["PG2"].share if sorted_out else None,
            tally.auroc,
            _share(words, labels, 1, "OK"),
            _share(words, labels, 0, "NG"),
            _share(words, labels, 0, "MARGINAL"),
            _share(plain, labels, 1, "OK"),
            _share(plain, labels, 0, "NG"),
            self._cause(pictures, [one for one in shifts if one is not None], good),
            tomorrow.cause != "moved" or self._view.learned,
        )

    def _loss(self, good: Sequence[Pixels]) -> float:
        """Of light, at a place of the lens: learned from every second picture, and seen by the others."""
        lens, known, seen = Lens(None), self._usual[::2], good[1::2]
        if not known or not seen:
            return 0.0
        for index in range(LEARNED_FROM):
            lens.learn(known[index % len(known)])
        return [lens.observe(seen[index % len(seen)]) for index in range(WINDOW)][-1] or 0.0

    def _map(self, frame: Frame, shape: tuple[int, ...]) -> NDArray[np.float32]:
        model_input, prediction = self._pipeline.predict(frame)
        shift_px = self._pipeline.bundle.calibration.localization.shift_px
        evidence = evidence_in_frame(prediction.evidence, model_input.placement, shift_px)
        return np.asarray(cv2.resize(evidence, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)

    def _cause(
        self, pictures: Sequence[Checks], shifts: Sequence[float], good: Sequence[Pixels]
    ) -> str | None:
        if shifts and float(np.median(shifts)) > MOVED:
            return "moved"
        if self._loss(good) > DIRT_RATIO:
            return "dirty"
        found = familiar.changed(self._known, pictures) if self._known else None
        return found.cause if found else None


def _changed(frame: Frame, tomorrow: Tomorrow, number: int) -> Frame:
    return replace(frame, image=tomorrow.change(frame.image, np.random.default_rng(number)))


def _mask(sample: Sample, tomorrow: Tomorrow, number: int) -> NDArray[np.bool_] | None:
    """Where the defects are after a change: a camera that was touched moves them as well."""
    mask = read_mask(sample, evaluate.map_size(sample.size)) if sample.has_truth else None
    if mask is None or tomorrow.cause != "moved":
        return mask
    shown = np.repeat(mask[:, :, np.newaxis] * np.uint8(255), 3, axis=2)
    return np.asarray(tomorrow.change(shown, np.random.default_rng(number))[:, :, 0] > 127)


def _gone(sample: Sample, mask: NDArray[np.bool_] | None) -> bool:
    """Whether most of a defect lies outside of the picture."""
    if mask is None or not sample.label:
        return False
    before = read_mask(sample, evaluate.map_size(sample.size))
    return before is not None and mask.sum() < SHOWN * before.sum()


def _share(words: Sequence[Word], labels: Sequence[int], label: int, word: Word) -> float:
    """Of the images of a label, those with a word; 0 where there are none."""
    found = [one == word for one, of in zip(words, labels, strict=True) if of == label]
    return float(np.mean(found)) if found else 0.0


def few(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most so many of either label, evenly."""
    chosen = []
    for label in (0, 1):
        of = [one for one in samples if one.label == label]
        chosen += [of[index * len(of) // min(count, len(of))] for index in range(min(count, len(of)))]
    return chosen


def measure(options: argparse.Namespace) -> list[Row]:
    """Print the table; its rows."""
    bundle = bundles.load(options.bundle)
    dataset = load([options.data], "auto", protocol="given")
    samples, _ = evaluate.chosen(dataset, evaluate.recorded(bundle), options.split)
    today = Today(bundle, few(samples, options.images))
    print(f"{bundle.name} on {dataset.name}")
    print("| change | AUROC | AP | PB2 | PG2 | pixel | missed | rejected | good MARGINAL | named | borne |")
    print(f"{'|---' * 11}|")
    rows = [today.under(AS_IT_IS)]
    print(rows[0].line(rows[0]), flush=True)
    for tomorrow in TOMORROWS:
        if tomorrow.cause == "colour" and not today.has_colours:
            continue
        rows.append(today.under(tomorrow))
        print(rows[-1].line(rows[0]), flush=True)
    for line in summary(rows[0], rows[1:]):
        print(line)
    return rows


def summary(usual: Row, changed: Sequence[Row]) -> Iterator[str]:
    """What the table comes to, line by line."""
    slight, strong = ([row for row in changed if row.strong is kind] for kind in (False, True))
    yield f"slight ones borne: {sum(row.borne(usual) for row in slight)} of {len(slight)}"
    few_missed = sum(row.borne(usual) for row in strong)
    loud = sum(row.borne(usual) or row.named is not None for row in strong)
    yield f"strong ones whose misses are few: {few_missed} of {len(strong)}; or that are told: {loud}"
    worse = sum(row.ranks_worse(usual) for row in changed if not row.strong)
    yield f"slight ones that cost more than {LESS_AUROC} of AUROC: {worse}"
    tellable = [row for row in changed if row.tellable]
    right = sum(row.named == row.cause for row in tellable)
    yield f"causes named rightly: {right} of the {len(tellable)} that can be told; as it is: {usual.named}"
    named = Counter((row.cause or "none", row.named or "none") for row in changed)
    for (cause, name), count in sorted(named.items()):
        yield f"  {cause} was named {name}: {count}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="What a bundle says when tomorrow is a little different.")
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="of trainer.fit")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="as of trainer.evaluate")
    parser.add_argument("--images", type=int, default=50, metavar="N", help="of either label, default 50")
    parser.add_argument("--split", choices=("test", "all"), default="test", help="default test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the rows as well")
    options = parser.parse_args(arguments)
    try:
        rows = measure(options)
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
