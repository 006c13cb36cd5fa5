"""The CUSUM: quiet while all is well, quick when it is not, and back to rest."""

from __future__ import annotations

import numpy as np
import pytest

from device.health.drift import CUT, SLACK, Cusum, Target

LIMIT = 12.0


def noise(count: int, mean: float = 0.0, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


def first_alarm(values: np.ndarray, limit: float = LIMIT) -> int | None:
    cusum = Cusum(Target(0.0, 1.0), limit)
    return next((at for at, value in enumerate(values, 1) if cusum.add(float(value))), None)


def test_no_alarm_while_all_is_well() -> None:
    assert first_alarm(noise(200_000)) is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("shift", "soonest", "latest"), [(1.0, 15, 200), (2.0, 6, 20)])
def test_a_shift_is_found_as_soon_as_the_sums_say(sign: int, shift: float, soonest: int, latest: int) -> None:
    delays = [first_alarm(noise(5000, sign * shift, seed)) for seed in range(50)]
    assert min(delays) >= soonest
    assert np.mean(delays) == pytest.approx(LIMIT / (shift - SLACK), rel=0.25)
    assert max(delays) <= latest


def test_the_sums_are_those_of_the_formula() -> None:
    cusum = Cusum(Target(10.0, 2.0), 3.0)
    assert [cusum.add(value) for value in (13.5, 13.5, 13.5)] == [False, False, False]  # 1, 2, 3: not above
    assert cusum.add(12.5)  # 3.5
    assert cusum.direction == "above"


def test_single_outliers_are_cut() -> None:
    cusum = Cusum(Target(0.0, 1.0), LIMIT)
    values = noise(20_000)
    values[::40] = 1e6  # a defective part in forty
    assert not any(cusum.add(float(value)) for value in values)
    many = Cusum(Target(0.0, 1.0), LIMIT)
    assert [many.add(1e6) for _ in range(9)].index(True) == int(LIMIT / (CUT - SLACK))


def test_it_is_over_when_the_quantity_is_back() -> None:
    cusum = Cusum(Target(0.0, 1.0), LIMIT)
    for value in noise(2000, 2.0):
        cusum.add(float(value))
    assert cusum.drifting
    back = [cusum.add(float(value)) for value in noise(400)]
    assert back[0]
    assert not back[-1]
    assert back.count(False) + back.index(False) == len(back)  # once over, it stays over


def test_a_slow_ramp_is_found_with_its_direction() -> None:
    cusum = Cusum(Target(0.0, 1.0), LIMIT)
    ramp = noise(3000) - np.linspace(0, 3, 3000)
    found = next(at for at, value in enumerate(ramp) if cusum.add(float(value)))
    assert 500 < found < 1500
    assert cusum.direction == "below"
    assert cusum.recent_sd < 0


@pytest.mark.parametrize(("mean", "sd"), [(np.nan, 1), (0, 0), (0, -1), (0, np.inf)])
def test_a_target_checks_itself(mean: float, sd: float) -> None:
    with pytest.raises(ValueError, match=r"(mean|sd) must be"):
        Target(mean, sd)
