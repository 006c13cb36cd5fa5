"""Frames of a camera that runs freely, judged together: hysteresis before the verdict, voting after it.

A camera over a web or a belt sees the same place more than once, and noise makes single frames flicker. Both
are off unless [verdict] says otherwise, and neither touches a triggered frame, which is a part by itself.

    hysteresis  After a frame that was NG by itself both thresholds are lower by a share of themselves, after
                a MARGINAL one the lower of them; Verdict.threshold is the one that was used.
    voting      NG when `needed` of the last `of` frames were NG by themselves. A frame that is NG by itself
                and has not enough votes is MARGINAL: it was seen, and it is never OK.

A frame that could not be read (ERROR) stays what it is and has no vote.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from device.bundle.calibration import Thresholds
from device.config import VerdictConfig
from device.image.frame import FREE_RUN
from device.inspection.verdict import Verdict, Votes, Word


class Jury:
    """thresholds() for a frame, then vote() on its verdict, in the order of the frames."""

    def __init__(self, config: VerdictConfig) -> None:
        self._needed = config.votes_needed
        self._kept_ratio = 1 - config.hysteresis_ratio
        self._votes: deque[bool] = deque(maxlen=config.votes_of)
        self._last: Word = "OK"

    def thresholds(self, calibrated: Thresholds, trigger: str) -> Thresholds:
        """Those for the next frame."""
        if self._kept_ratio == 1 or trigger != FREE_RUN or self._last == "OK":
            return calibrated
        marginal = calibrated.marginal * self._kept_ratio
        ng = calibrated.ng * self._kept_ratio if self._last == "NG" else calibrated.ng
        return replace(calibrated, ng=ng, marginal=min(marginal, ng))

    def vote(self, verdict: Verdict) -> Verdict:
        """The verdict with the word of all that vote."""
        if verdict.trigger != FREE_RUN or verdict.verdict == "ERROR":
            return verdict
        self._last = verdict.verdict
        if self._votes.maxlen == 1:
            return verdict
        self._votes.append(verdict.verdict == "NG")
        votes = Votes(sum(self._votes), len(self._votes), self._needed)
        return replace(verdict, verdict=self._word(verdict.verdict, votes), votes=votes)

    def forget(self) -> None:
        """Begin anew: another model has the word."""
        self._votes.clear()
        self._last = "OK"

    @staticmethod
    def _word(own: Word, votes: Votes) -> Word:
        if votes.ng >= votes.needed:
            return "NG"
        return "MARGINAL" if own == "NG" else own
