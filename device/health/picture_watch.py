"""What has changed where many pictures cannot be judged: the light, the focus, the colour, the parts.

A bundle says which pictures its model can judge (inspection.familiar); others are MARGINAL. Some always
are. Where their share of the last WINDOW rises, this names the cause that explains the most, and its mend.
"""

from __future__ import annotations

from collections import deque

from device.bundle.calibration import FamiliarRanges
from device.health.reasons import ALERT, OK, WARN, Alarms
from device.inspection import familiar
from device.inspection.checks import Checks
from device.inspection.verdict import Verdict

WINDOW = 50  # pictures
LEAST = 20  # before a share means anything
WARN_RATIO, ALERT_RATIO = 0.1, 0.5  # of the window
REASON_OF: dict[familiar.Cause, str] = {
    "darker": "picture_darker",
    "brighter": "picture_brighter",
    "blurred": "picture_blurred",
    "noisy": "picture_noisy",
    "colour": "picture_colour",
    "uneven": "picture_uneven",
    "strange": "picture_strange",
}


class PictureWatch:
    """observe(), picture by picture; calibrate() when another bundle is at work."""

    def __init__(self, known: FamiliarRanges | None, alarms: Alarms) -> None:
        """`known`: of the bundle; None: it judges any picture, and nothing is watched."""
        self._alarms = alarms
        self.calibrate(known)

    def calibrate(self, known: FamiliarRanges | None) -> None:
        """What was seen is forgotten, and what stands falls."""
        self._known = known
        self._pictures: deque[Checks] = deque(maxlen=WINDOW)
        self._doubts: deque[familiar.Doubt | None] = deque(maxlen=WINDOW)
        for code in REASON_OF.values():
            self._alarms.renew(code)

    def observe(self, verdict: Verdict) -> None:
        """Look at what was measured on a picture."""
        if self._known is None or verdict.checks is None:
            return
        self._pictures.append(verdict.checks)
        self._doubts.append(familiar.doubt(self._known, verdict.checks))
        doubted = [one for one in self._doubts if one is not None]
        share = len(doubted) / len(self._doubts)
        level = ALERT if share >= ALERT_RATIO else WARN if share >= WARN_RATIO else OK
        if len(self._doubts) < LEAST:
            level = OK
        found = None
        if level:
            changed = familiar.changed(self._known, self._pictures)
            found = changed or max(doubted, key=lambda one: one.excess_sd)
        for cause, code in REASON_OF.items():
            own = level if found is not None and found.cause == cause else OK
            self._alarms.observe(code, own, lambda: _text(len(doubted), len(self._doubts), found))


def _text(doubted: int, of: int, found: familiar.Doubt | None) -> str:
    """Light has fallen by 18 %: a person can check that."""
    if found is None:
        return ""
    by = ""
    if found.quantity == "brightness":
        by = f" ({found.value / found.known.usual - 1:+.0%} of the usual {found.known.usual:.2f})"
    return f"{doubted} of the last {of} pictures cannot be judged; {found}{by}"
