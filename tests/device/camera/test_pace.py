"""What came at the camera's pace, and what may have lain somewhere."""

from __future__ import annotations

from device.camera.pace import LEAST, Pace


def paced(pace: Pace, intervals_s: list[float], waited_s: float | None = None) -> list[bool]:
    """Of pictures that come after so long each; `waited_s`: for each, where the thread was busy else."""
    now_s, found = 100.0, []
    pace.arrived(now_s, 0.0)
    for interval_s in intervals_s:
        now_s += interval_s
        found.append(pace.arrived(now_s, interval_s if waited_s is None else waited_s))
    return found


def test_a_steady_camera_is_believed_whatever_its_rate() -> None:
    for interval_s in (0.005, 0.04, 2.0):
        assert paced(Pace(0.1), [interval_s] * 20) == [False] * LEAST + [True] * (20 - LEAST)
    assert paced(Pace(0.1), [0.03, 0.05, 0.04, 0.06, 0.03, 0.05])[LEAST:] == [True] * 2


def test_the_first_ones_are_not() -> None:
    pace = Pace(0.1)
    assert [pace.arrived(5.0 + n, 1.0) for n in range(LEAST + 1)] == [False] * (LEAST + 1)


def test_an_uneven_stream_hides_no_silence_longer_than_the_latency() -> None:
    assert paced(Pace(0.1), [0.08] * 20 + [0.16])[-1] is False
    assert paced(Pace(0.2), [0.08] * 20 + [0.16])[-1] is True


def test_what_comes_after_a_silence_and_what_waits_behind_it_is_not() -> None:
    found = paced(Pace(0.1), [0.04] * 20 + [1.0] + [0.0005] * 5 + [0.04] * 5)
    assert found[LEAST:20] == [True] * (20 - LEAST)
    assert found[20:26] == [False] * 6
    assert found[26:] == [True] * 5


def test_a_reader_that_is_preempted_did_not_wait() -> None:
    assert paced(Pace(0.1), [0.04] * 20, waited_s=0.005) == [False] * 20


def test_another_rate_becomes_the_usual_one() -> None:
    assert paced(Pace(0.1), [0.04] * 20 + [0.5] * 20)[-10:] == [True] * 10
