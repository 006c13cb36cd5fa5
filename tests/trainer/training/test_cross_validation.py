"""A cross-validated training: who learns from what, which epoch is kept, and that a kill changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures_network import CPU, POOLING, evidence_of

from trainer.network.network import HEAD
from trainer.training.checkpoint import Checkpoints
from trainer.training.cross_validation import CrossValidation, FoldedImages, TrainingPlan
from trainer.training.learner import Learner, Phase, Teaching
from trainer.training.logbook import Logbook

LABELS = np.arange(24) % 2
FOLDS = np.arange(24) // 2 % 2
WHOLE = (slice(None), slice(None))
PHASES = (Phase(1, HEAD, 1e-2, 0.1), Phase(2, 3, 2e-3, 0.1))
TEACHING = Teaching(POOLING, gamma=0.0, alpha=0.5, mask_weight=0.5)


class Killed(BaseException):
    """As SIGKILL ends a process: nothing of it goes on."""


class Recorded:
    """A feed that remembers who was asked for, and may end everything before an epoch."""

    def __init__(self, feed, asked, end_at=None) -> None:
        self.feed, self.asked, self.end_at = feed, asked, end_at

    def __len__(self) -> int:
        return len(self.feed)

    def part(self, chosen):
        return Recorded(self.feed.part(chosen), self.asked, self.end_at)

    def epoch(self, index):
        if len(self.asked) == self.end_at:
            raise Killed
        self.asked.append((index, tuple(self.feed.only)))
        return self.feed.epoch(index)

    def judge(self):
        return self.feed.judge()


@pytest.fixture(scope="module")
def model(narrow):
    return evidence_of(narrow)


@pytest.fixture(scope="module")
def make_learner(model):
    made = {}

    def make(phase, steps):
        if phase not in made:
            made[phase] = Learner(model, phase, TEACHING, steps, CPU)
        return made[phase]

    return make


def course(model, make_learner, feed, folder, *, end_at=None, asked=None, **changed):
    start = [np.array(variable) for variable in model.variables]
    plan = replace(TrainingPlan(PHASES, "ap", 3), **changed)
    judged = FoldedImages(LABELS, FOLDS, [WHOLE] * 24, POOLING)
    recorded = Recorded(feed, [] if asked is None else asked, end_at)
    begun = np.zeros(24)
    checkpoints = Checkpoints(folder, "mark")
    return CrossValidation(
        plan, judged, recorded, make_learner, [start] * 3, begun, checkpoints, Logbook(), "test"
    )


@pytest.fixture(scope="module")
def done(model, make_learner, feed, tmp_path_factory):
    asked = []
    one = course(model, make_learner, feed, tmp_path_factory.mktemp("done"), asked=asked)
    return one.run(), asked, one._logbook.history


def test_nobody_learns_from_what_he_judges(done):
    _, asked, _ = done
    others = {tuple(np.flatnonzero(fold != FOLDS)) for fold in (0, 1)}
    assert {images for _, images in asked[:6]} == others
    assert [epoch for epoch, _ in asked[:6]] == [1, 1, 2, 2, 3, 3]
    assert {images for _, images in asked[6:]} == {tuple(range(24))}


def test_the_best_epoch_is_kept(done):
    outcome, asked, history = done
    ranks = [(line["val_ap"], line["val_separation"]) for line in history]
    assert len(ranks) == 4
    assert outcome.epoch == ranks.index(max(ranks)) > 0
    assert [epoch for epoch, _ in asked[6:]] == list(range(1, outcome.epoch + 1))
    assert ranks[outcome.epoch][0] > 0.9
    assert history[1]["loss"] > history[-1]["loss"]


def test_what_is_kept_gives_what_is_said_of_it(done, make_learner, feed):
    outcome, _, _ = done
    learner = make_learner(PHASES[1], 3)
    for fold in (0, 1):
        learner.begin(outcome.folds[fold])
        own = feed.part(fold == FOLDS)
        maps = learner.judge(list(own.judge()), 2)
        found = FoldedImages(LABELS, FOLDS, [WHOLE] * 24, POOLING).pooled(maps, own.only)
        np.testing.assert_allclose(found, outcome.pooled[fold == FOLDS], atol=1e-4)


@pytest.mark.parametrize("end_at", [1, 3, 7])
def test_a_kill_anywhere_and_a_resume_give_the_same(done, model, make_learner, feed, tmp_path, end_at):
    asked = []
    with pytest.raises(Killed):
        course(model, make_learner, feed, tmp_path, end_at=end_at, asked=asked).run()
    again = course(model, make_learner, feed, tmp_path, asked=asked)
    outcome = again.run()
    straight, asked_straight, history = done
    assert asked == asked_straight  # nothing is learned twice, nothing left out
    assert outcome.epoch == straight.epoch
    np.testing.assert_allclose(outcome.pooled, straight.pooled, atol=1e-3)
    aps = [[line["val_ap"] for line in one] for one in (again._logbook.history, history)]
    assert aps[0] == pytest.approx(aps[1], abs=0.02)


def test_where_nothing_is_better_the_beginning_stays(model, make_learner, feed, tmp_path):
    """Judged without a fault before it began, it cannot be beaten in ranking; patience then ends it."""
    asked = []
    one = course(model, make_learner, feed, tmp_path, asked=asked, patience=1)
    one._pooled = LABELS * 1e6 - 5e5
    outcome = one.run()
    assert (outcome.epoch, len(one._logbook.history), len(asked)) == (0, 2, 2)
    np.testing.assert_array_equal(outcome.shipped[0], np.array(model.variables[0]))
    np.testing.assert_array_equal(outcome.folds[1][0], outcome.shipped[0])


def test_the_f1_can_choose(model, make_learner, feed, tmp_path):
    one = course(model, make_learner, feed, tmp_path, monitor="f1")
    ranked_low = np.where(LABELS == 1, 1.0, 0.0)
    assert one._rank(ranked_low)[0] == 1.0
    swapped = ranked_low.copy()
    swapped[[1, 2]] = swapped[[2, 1]]
    assert one._rank(swapped)[0] == pytest.approx(11 / 12)


def test_a_plan_says_which_phase_an_epoch_is_of():
    plan = TrainingPlan(PHASES, "ap", 3)
    assert [plan.at(epoch) for epoch in (1, 2, 3)] == [(0, True), (1, True), (1, False)]
    assert TrainingPlan((replace(PHASES[0], epochs=0), PHASES[1]), "ap", 3).at(1) == (1, True)
    with pytest.raises(ValueError, match="epoch must be within 3"):
        plan.at(4)
