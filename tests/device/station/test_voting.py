"""Frames of a camera that runs freely, judged together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_verdict import ERROR, NG, OK, THRESHOLDS

from device.config import VerdictConfig
from device.inspection.verdict import Verdict, Votes, decide
from device.station.voting import Jury

MARGINAL = replace(OK, verdict="MARGINAL", score=0.5)
FRAMES = {"n": replace(NG, votes=None), "o": OK, "m": MARGINAL, "e": ERROR}


def words(jury: Jury, frames: str) -> str:
    return "".join(jury.vote(FRAMES[frame]).verdict[0].lower() for frame in frames)


def test_without_voting_every_frame_speaks_for_itself() -> None:
    assert words(Jury(VerdictConfig()), "onomen") == "onomen"
    assert Jury(VerdictConfig()).vote(FRAMES["n"]) is FRAMES["n"]


@pytest.mark.parametrize(
    ("needed", "of", "frames", "expected"),
    [
        (2, 3, "onoono", "omoomo"),  # never two of three: seen, but not confirmed
        (2, 3, "onno", "omnn"),  # the vote of the second still stands one frame later
        (2, 3, "onnooo", "omnnoo"),
        (2, 3, "onenooo", "omennoo"),  # an unreadable frame has no vote and pushes none out
        (3, 3, "nnnnonn", "mmnnomm"),
        (1, 4, "onoooo", "onnnno"),
        (2, 2, "mnmnn", "mmmmn"),
    ],
)
def test_the_word_of_those_that_vote(needed: int, of: int, frames: str, expected: str) -> None:
    assert words(Jury(VerdictConfig(votes_needed=needed, votes_of=of)), frames) == expected


def test_the_votes_are_in_the_verdict() -> None:
    jury = Jury(VerdictConfig(votes_needed=2, votes_of=3))
    assert [jury.vote(FRAMES[frame]).votes for frame in "nonn"] == [
        Votes(1, 1, 2),
        Votes(1, 2, 2),
        Votes(2, 3, 2),
        Votes(2, 3, 2),
    ]
    assert jury.vote(ERROR).votes is None


def test_a_triggered_part_speaks_for_itself_and_has_no_vote() -> None:
    jury = Jury(VerdictConfig(votes_needed=2, votes_of=2, hysteresis_ratio=0.5))
    part = replace(FRAMES["n"], trigger="gpio")
    assert jury.vote(part) is part
    assert words(jury, "n") == "m"
    assert jury.thresholds(THRESHOLDS, "gpio") == THRESHOLDS


def test_another_model_begins_anew() -> None:
    jury = Jury(VerdictConfig(votes_needed=2, votes_of=3, hysteresis_ratio=0.5))
    assert words(jury, "n") == "m"
    jury.forget()
    assert jury.thresholds(THRESHOLDS, "free-run") == THRESHOLDS
    assert words(jury, "n") == "m"


def test_a_score_that_trembles_about_a_threshold_does_not_flicker() -> None:
    jury = Jury(VerdictConfig(hysteresis_ratio=0.1))  # NG from 0.6, then from 0.54
    seen = []
    for score in (0.59, 0.60, 0.55, 0.54, 0.53, 0.59, 0.28, 0.26, 0.28):
        thresholds = jury.thresholds(THRESHOLDS, "free-run")
        verdict = _verdict(score, decide(score, thresholds))
        seen.append((jury.vote(verdict).verdict, round(thresholds.ng, 3), round(thresholds.marginal, 3)))
    assert seen == [
        ("MARGINAL", 0.6, 0.3),
        ("NG", 0.6, 0.27),
        ("NG", 0.54, 0.27),
        ("NG", 0.54, 0.27),
        ("MARGINAL", 0.54, 0.27),
        ("MARGINAL", 0.6, 0.27),
        ("MARGINAL", 0.6, 0.27),
        ("OK", 0.6, 0.27),
        ("OK", 0.6, 0.3),
    ]


def test_a_lower_threshold_never_crosses_the_other() -> None:
    jury = Jury(VerdictConfig(hysteresis_ratio=0.9))
    jury.vote(MARGINAL)
    thresholds = jury.thresholds(replace(THRESHOLDS, marginal=0.6), "free-run")
    assert thresholds.marginal <= thresholds.ng


def _verdict(score: float, word: str) -> Verdict:
    return replace(OK, score=score, verdict=word)
