"""A rate with a burst."""

from __future__ import annotations

from device.system.token_bucket import TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    now_s = [0.0]
    rate = TokenBucket(2.0, 4, lambda: now_s[0])
    assert [rate.take() for _ in range(6)] == [True] * 4 + [False] * 2
    now_s[0] += 0.5
    assert [rate.take(), rate.take(), rate.is_calm] == [True, False, False]
    now_s[0] += 1.0
    assert rate.is_calm
    now_s[0] += 1000.0
    assert [rate.take() for _ in range(5)] == [True] * 4 + [False], "no more than a burst is saved"
