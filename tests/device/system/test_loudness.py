"""A fault that comes again and again is told now and then."""

from __future__ import annotations

import logging

from device.system.loudness import LOUD_EVERY_S, Loudness


def test_a_kind_is_told_aloud_once_in_a_while_however_often_it_comes() -> None:
    seconds = iter(range(3600))
    loudness = Loudness(lambda: next(seconds))
    levels = [loudness.level("lost") for _ in range(3600)]
    aloud = [second for second, level in enumerate(levels) if level == logging.WARNING]
    assert aloud == list(range(0, 3600, round(LOUD_EVERY_S)))
    assert set(levels) == {logging.WARNING, logging.DEBUG}


def test_one_kind_does_not_silence_another() -> None:
    loudness = Loudness(lambda: 0.0)
    assert [loudness.level(kind) for kind in ("a", "b", "a")] == [
        logging.WARNING,
        logging.WARNING,
        logging.DEBUG,
    ]
