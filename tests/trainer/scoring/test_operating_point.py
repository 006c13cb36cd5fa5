"""Where NG begins as wished, against tables made by hand and published limits; what is refused, and how."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures_trainer import wish
from scipy.stats import binom

from device.errors import DataError
from trainer.scoring import operating_point as wishes
from trainer.scoring.metrics import confusion


def table(good: list[float], bad: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0] * len(good) + [1] * len(bad)), np.array([*good, *bad], float)


def spread(good: int, bad: int):
    """Good images at 0..1, defective ones at 10..11."""
    return table(list(np.linspace(0, 1, good)), list(np.linspace(10, 11, bad)))


def begin(labels, pooled, **fields):
    ng = wishes.begin(labels, pooled, wish(**fields))
    return ng, confusion(labels, pooled, ng)


# ---- a false-reject rate


def test_a_false_reject_rate_by_wilks_table():
    """Of 93 good images one may be rejected for 5 % at 95 %, of 92 none."""
    wished = {"choose": "false_reject_rate", "false_reject_rate": 0.05}
    for count, allowed in ((93, 1), (92, 0)):
        good = [*np.linspace(0, 1, count - 1), 20.0]  # one stray good part
        labels, pooled = table(good, list(np.linspace(10, 11, 10)))
        if allowed:
            ng, found = begin(labels, pooled, **wished)
            assert (found.tp, found.fp) == (10, 1)
            assert 1.0 < ng < 10.0
        else:
            with pytest.raises(DataError, match="no defective image would be found"):
                begin(labels, pooled, **wished)


def test_that_none_of_a_few_defective_images_is_found_refuses_no_false_reject_rate():
    labels, pooled = table([*np.linspace(0, 1, 91), 20.0], [10.0, 11.0])
    ng, found = begin(labels, pooled, choose="false_reject_rate", false_reject_rate=0.05)
    assert (found.tp, found.fp) == (0, 0)
    assert ng > 20.0


def test_no_good_image_is_rejected_for_nothing():
    """Two may be, and would bring no defect."""
    ng, found = begin(*spread(124, 5), choose="false_reject_rate", false_reject_rate=0.05)
    assert (found.tp, found.fp) == (5, 0)
    assert ng == pytest.approx(5.5)


@pytest.mark.parametrize(("good", "rate", "needed"), [(250, 0.001, 2995), (58, 0.05, 59), (298, 0.01, 299)])
def test_too_few_good_images_are_refused_with_the_number(good, rate, needed):
    with pytest.raises(DataError) as caught:
        begin(*spread(good, 20), choose="false_reject_rate", false_reject_rate=rate)
    said = str(caught.value)
    assert f"false_reject_rate = {rate:g} at a confidence of 0.95: needs {needed} good images or more" in said
    assert f"found {good}, which show a rate of" in said
    assert begin(*spread(needed, 20), choose="false_reject_rate", false_reject_rate=rate)[1].fp == 0


def test_less_confidence_needs_fewer():
    begin(*spread(14, 20), choose="false_reject_rate", false_reject_rate=0.05, confidence=0.5)


def test_the_rate_of_new_parts_is_as_vouched_for():
    """Good parts from a known distribution, 400 times: above the true rate in about 5 % of them, not more."""
    rng = np.random.default_rng(0)
    too_high = 0
    for _ in range(400):
        ng = wishes.above_good(np.sort(rng.uniform(0, 1, 200))[::-1], 0.05, 0.95)
        too_high += 1 - ng > 0.05
    assert 0 < too_high <= binom.ppf(0.9999, 400, 0.05)


# ---- good images alone


def test_above_good_images_alone():
    good = np.arange(93.0)[::-1]
    assert wishes.above_good(good, 0.05, 0.95) == 91.5  # one of them may be NG
    assert wishes.above_good(good[1:], 0.05, 0.95) == 91.5  # none: half a step above the greatest, 91
    with pytest.raises(DataError, match="needs 59 good images or more, found 58"):
        wishes.above_good(good[:58], 0.05, 0.95)


def test_equal_scores_fall_on_the_same_side():
    assert wishes.above_good(np.array([5.0] * 40 + [1.0] * 53), 0.05, 0.95) > 5.0


# ---- a precision


def test_a_precision_by_clopper_and_pearson():
    """59 defects above all good images show 95 %; then two good ones, then two more defects."""
    bad = [float(100 - n) for n in range(59)] + [20.0, 19.0]
    labels, pooled = table([30.0, 29.0, 0.0], bad)
    _, found = begin(labels, pooled, choose="precision", precision=0.95)
    assert (found.tp, found.fp) == (59, 0)
    _, found = begin(labels, pooled, choose="precision", precision=0.90)  # 61 of 63: 0.903 or more
    assert (found.tp, found.fp) == (61, 2)


def test_too_few_defective_images_are_refused_with_the_number():
    with pytest.raises(
        DataError, match=r"precision = 0.99 .*: needs 299 defective images or more, found 110"
    ):
        begin(*spread(500, 110), choose="precision", precision=0.99)


def test_scores_that_mix_are_refused_with_the_number():
    """At best 98 of 100 rejected are defective, which shows 93.8 %."""
    labels, pooled = table([200.0, 199.0, *([0.0] * 50)], [float(n) for n in range(100, 2, -1)])
    with pytest.raises(DataError) as caught:
        begin(labels, pooled, choose="precision", precision=0.96)
    assert "the most that these images show is 0.9384 (2 of 100 rejected are good)" in str(caught.value)
    assert "rejected images with as few mistakes would be needed" in str(caught.value)
    with pytest.raises(DataError, match="no number of such images would show it"):
        begin(labels, pooled, choose="precision", precision=0.985, confidence=0.7)


# ---- a cost


def mixed():
    """From the top 40 x 1, 5 x 0, 10 x 1, 45 x 0."""
    good = [60.0 - n for n in range(5)] + [10.0 - n / 10 for n in range(45)]
    return table(good, [100.0 - n for n in range(40)] + [50.0 - n for n in range(10)])


def test_the_cheapest_threshold_of_a_table_made_by_hand():
    """Dear misses reject down to the last defect, cheap ones do not."""
    _, found = begin(*mixed(), choose="cost", cost_of_miss=10.0, cost_of_false_reject=1.0)
    assert (found.tp, found.fp) == (50, 5)
    _, found = begin(*mixed(), choose="cost", cost_of_miss=1.0, cost_of_false_reject=3.0)
    assert (found.tp, found.fp) == (40, 0)


def test_the_share_of_defects_on_the_line_counts():
    """A miss is four times as dear; where a tenth is defective, 5 of 50 false rejects outweigh 10 misses."""
    fields = {"choose": "cost", "cost_of_miss": 4.0, "cost_of_false_reject": 1.0}
    _, found = begin(*mixed(), **fields)
    assert (found.tp, found.fp) == (50, 5)
    _, found = begin(*mixed(), **fields, defect_rate=0.1)  # 0.08 and 0.09 a part
    assert (found.tp, found.fp) == (40, 0)


def test_an_inspection_that_does_not_pay_is_refused():
    with pytest.raises(
        DataError, match=r"good and \d+ defective images as these would be enough, found 20 and 20"
    ):
        begin(*spread(20, 20), choose="cost", cost_of_miss=100.0, defect_rate=0.001)
    with pytest.raises(DataError, match="no number of such images would do"):
        begin(*table([1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.5, 0.5]), choose="cost", cost_of_miss=100.0)


# ---- one label alone


@pytest.mark.parametrize("choose", ["f1", "precision", "cost"])
def test_good_images_alone_carry_no_other_wish(choose):
    said = f'choose = "{choose}": needs good and defective images, found 300 good and 0'
    with pytest.raises(DataError, match=said):
        begin(*table([float(n) for n in range(300)], []), choose=choose)


# ---- intervals


def test_the_record_of_a_choice_has_published_intervals():
    """9 of 10 defects and 1 of 20 good images: Clopper and Pearson's limits from their tables."""
    labels = np.array([1] * 10 + [0] * 20)
    scores = np.array([0.9] * 9 + [0.1] + [0.9] + [0.1] * 19)
    found = wishes.describe(labels, scores, 0.5, wish())
    assert (found["good"], found["defective"], found["choose"], found["wanted"]) == (20, 10, "f1", {})
    assert found["at_ng"]["recall"] == pytest.approx([0.9, 0.5550, 0.9975], abs=1e-4)
    assert found["at_ng"]["precision"] == pytest.approx([0.9, 0.5550, 0.9975], abs=1e-4)
    assert found["at_ng"]["false_reject_rate"] == pytest.approx([0.05, 0.0013, 0.2487], abs=1e-4)
    assert "cost" not in found["at_ng"]


def test_the_interval_of_f1_is_that_of_images_drawn_anew():
    """Against drawing the images themselves, 2000 times."""
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 0], [200, 300])
    scores = np.concatenate([rng.uniform(0.3, 1.0, 200), rng.uniform(0.0, 0.6, 300)])
    drawn = []
    for _ in range(2000):
        some = np.concatenate([rng.choice(200, 200), 200 + rng.choice(300, 300)])
        drawn.append(confusion(labels[some], scores[some], 0.5).f1)
    seen, low, high = wishes.describe(labels, scores, 0.5, wish())["at_ng"]["f1"]
    assert seen == confusion(labels, scores, 0.5).f1
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)


def test_no_mistake_seen_is_not_no_mistake_possible():
    labels, scores = np.repeat([1, 0], [20, 50]), np.repeat([0.9, 0.1], [20, 50])
    seen, low, high = wishes.describe(labels, scores, 0.5, wish())["at_ng"]["f1"]
    assert seen == high == 1.0
    assert 0.8 < low < 0.98


def test_cost_has_its_interval_and_the_log_its_lines():
    labels, scores = np.repeat([1, 0, 0], [20, 48, 2]), np.repeat([0.9, 0.1, 0.8], [20, 48, 2])
    found = wishes.describe(labels, scores, 0.5, wish(choose="cost", cost_of_miss=7.0, defect_rate=0.1))
    seen, low, high = found["at_ng"]["cost"]
    assert seen == pytest.approx(0.9 * 2 / 50)
    assert low < seen < high
    shown = "\n".join(wishes.lines(found))
    assert "NG chosen by cost (cost_of_miss 7, cost_of_false_reject 1, defect_rate 0.1)" in shown
    assert "  recall 1.0000 (0.8316 to 1.0000)" in shown
