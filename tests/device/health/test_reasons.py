"""When a reason rises and falls."""

from __future__ import annotations

from fixtures_daemon import REPOSITORY

from device.health.reasons import ALERT, OK, WARN, Alarm, Reason

DATA = REPOSITORY / "tests" / "data"


def test_an_alarm_takes_the_least_level_of_its_streak() -> None:
    alarm = Alarm(Reason("camera", 3, 2, "", hold_s=0), lambda: 0.0)
    for level in (2, 1, 2):
        alarm.observe(level, lambda: "why")
    assert alarm.level == WARN
    for level in (2, 2, 2):
        alarm.observe(level, lambda: "why")
    assert alarm.level == ALERT
    for level in (0, 1):
        alarm.observe(level, lambda: "why")
    assert alarm.level == WARN
    for level in (0, 1, 0):
        alarm.observe(level, str)
    assert alarm.level == WARN
    alarm.observe(0, str)
    assert (alarm.level, alarm.text) == (OK, "")


def test_an_alarm_stands_for_a_while() -> None:
    times_s = iter((0.0, 1.0, 5.0, 9.9, 10.0, 10.0))
    alarm = Alarm(Reason("camera", 1, 1, "", hold_s=10), lambda: next(times_s))
    alarm.observe(WARN, lambda: "why")
    levels = []
    for _ in range(4):
        alarm.observe(OK, str)
        levels.append(alarm.level)
    assert levels == [WARN, WARN, WARN, OK]
