"""A health on a bench: a board, a clock and frames that the test turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from fixtures_board import FakeBoard
from fixtures_bundle import make_frame
from fixtures_scene import scene, spotted
from fixtures_verdict import OK as SOME_VERDICT

from device import config
from device.bundle.calibration import DriftReference, FamiliarRanges, Range, Reference
from device.health.health import Health
from device.health.lens import WINDOW
from device.health.reasons import REASONS
from device.health.station_watch import Links
from device.image.frame import Cause
from device.inspection.checks import Checks, Look
from device.inspection.verdict import Verdict

REFERENCE = DriftReference(
    Reference(0.4, 0.02), Reference(300.0, 40.0), Reference(0.1, 0.05), Reference(-6.0, 0.5)
)


FAMILIAR = FamiliarRanges(
    rate=0.01,
    brightness=Range(0.4, 0.02, 0.3, 0.5),
    sharpness=Range(0.0, 0.1, -1.0, 1.0),
    warmth=Range(0.0, 0.05, -0.5, 0.5),
    slope_x=Range(0.0, 0.01, -0.1, 0.1),
    slope_y=Range(0.0, 0.01, -0.1, 0.1),
    evidence=Range(-6.0, 0.5, -12.0, None),
    smear=Range(0.0, 0.1, -1.0, 1.0),
    fineness=Range(0.0, 0.1, -1.0, 1.0),
)


@dataclass
class Bench:
    """A health with a board and a clock that the test turns. A frame a second, a poll every five."""

    folder: Path
    limits: dict[str, float] = field(default_factory=dict)
    now_s: float = 1000.0
    links: Links = field(default_factory=Links)
    frames: int = 0

    def __post_init__(self) -> None:
        self.fake = FakeBoard(self.folder)
        empty = self.folder / "config.toml"
        empty.write_text("")
        self.config = replace(config.load(empty).health, **self.limits)
        self.restart()

    def restart(self) -> None:
        self.health = Health(self.config, REFERENCE, self.folder, lambda: self.now_s, FAMILIAR)

    def see(self, count: int = 1, image: np.ndarray | None = None, **changes: float | str) -> None:
        """So many frames; their pictures differ by noise unless one is given."""
        for _ in range(count):
            self.now_s += 1
            self.frames += 1
            random = np.random.default_rng(self.frames)
            pixels = random.integers(0, 255, (64, 64, 3), np.uint8) if image is None else image
            self.health.observe(make_frame(pixels), self.verdict(random, **changes))

    def verdict(self, random: np.random.Generator, **changes: float | str) -> Verdict:
        """One as the calibration's good images gave them, with values of its own in place."""
        found = {
            "brightness": random.normal(0.4, 0.02),
            "focus": random.normal(300, 40),
            "evidence": random.normal(-6, 0.5),
            "score": random.normal(0.1, 0.02),
            "word": "OK",
            "threshold": SOME_VERDICT.threshold,
            "sharpness": random.normal(0, 0.1),
            "warmth": random.normal(0, 0.05),
            "slope_x": random.normal(0, 0.01),
            "slope_y": random.normal(0, 0.01),
            "smear": random.normal(0, 0.1),
            "fineness": random.normal(0, 0.1),
            **changes,
        }
        look = Look(**{field.name: found[field.name] for field in fields(Look)})
        return replace(
            SOME_VERDICT,
            verdict=found["word"],
            threshold=found["threshold"],
            score=float(np.clip(found["score"], 0, 1)),
            checks=Checks(
                float(np.clip(found["brightness"], 0, 1)), max(0.0, found["focus"]), found["evidence"], look
            ),
        )

    def poll(self, count: int = 1, **links: object) -> None:
        for _ in range(count):
            self.now_s += 5
            self.links = replace(self.links, **links)
            self.health.poll(self.fake.board().read(), self.links)

    def standing(self) -> set[str]:
        """The codes of all reasons that hold."""
        roles = self.health.roles().values()
        return {code for role in roles if role.reason for code in (role.reason, *role.others)}

    def state(self, code: str) -> str:
        return self.health.roles()[REASONS[code].role].state


def _drifting(name: str, by: float) -> Callable[[Bench], None]:
    mean = {"brightness": 0.4, "focus": 300.0, "score": 0.1, "evidence": -6.0}[name]

    def provoke(bench: Bench) -> None:
        for _ in range(100):
            random = np.random.default_rng(bench.frames)
            bench.see(**{name: mean + by + random.normal(0, abs(by) / 4)})

    return provoke


def _moved(bench: Bench) -> None:
    bench.restart()
    for seed in range(8):
        bench.see(image=scene(seed))
    assert bench.standing() == set()
    for seed in range(6):
        bench.see(image=scene(seed + 20, (40, 0)))


def _dirty(bench: Bench) -> None:
    bench.restart()
    for seed in range(WINDOW):
        bench.see(image=scene(seed))
    assert bench.standing() == set()
    for seed in range(WINDOW + 6):
        bench.see(image=spotted(scene(seed + 100)))


def _cleaned(bench: Bench) -> None:
    for seed in range(WINDOW + 12):
        bench.see(image=scene(seed + 200))


def _put_back(bench: Bench) -> None:
    for seed in range(16):
        bench.see(image=scene(seed + 40))


def _still_image(bench: Bench) -> None:
    bench.see(10, image=np.full((64, 64, 3), 99, np.uint8))


def _lost(bench: Bench) -> None:
    bench.health.unseen("part7.png: truncated PNG")


def _gone(cause: Cause) -> Callable[[Bench], None]:
    return lambda bench: bench.health.unseen("it is gone", cause)


def _away(bench: Bench) -> None:
    bench.poll(8, connected=False)


def _skipping(bench: Bench) -> None:
    for _ in range(4):
        bench.poll(frames=bench.links.frames + 5, skipped_frames=bench.links.skipped_frames + 95)


def _not_skipping(bench: Bench) -> None:
    for _ in range(4):
        bench.poll(frames=bench.links.frames + 5)


def _linked(**links: object) -> Callable[[Bench], None]:
    return lambda bench: bench.poll(4, **links)


def _sensed(**values: object) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        bench.fake.set(**values)
        bench.poll(4)

    return change


def _disk(name: str, value: object) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        setattr(bench.fake, name, value)
        bench.poll(4)

    return change


def _seen(count: int = 20, **values: float) -> Callable[[Bench], None]:
    return lambda bench: bench.see(count, **values)


def _quiet(polls: int) -> Callable[[Bench], None]:
    return lambda bench: bench.poll(polls)


def _supply_back(bench: Bench) -> None:
    bench.fake.set(throttled="50000")
    bench.poll(125)


PROVOKED: dict[str, tuple[Callable[[Bench], None], str, Callable[[Bench], None]]] = {
    "frozen": (_still_image, "alert", _seen()),
    "frame_lost": (_lost, "warn", _seen()),
    "camera_away": (_gone("away"), "alert", _seen()),
    "frames_skipped": (_skipping, "warn", _not_skipping),
    "triggers_dropped": (_linked(dropped_triggers=1), "alert", _quiet(125)),
    "mode_changed": (_gone("mode"), "alert", _seen()),
    "too_dark": (_seen(15, brightness=0.15), "warn", _seen(100)),
    "too_bright": (_seen(15, brightness=0.8), "warn", _seen(100)),
    "out_of_focus": (_seen(15, focus=120.0), "warn", _seen(100)),
    "moved": (_moved, "warn", _put_back),
    "lens_dirty": (_dirty, "warn", _cleaned),
    "picture_darker": (_seen(60, brightness=0.25), "alert", _seen(150)),
    "picture_brighter": (_seen(60, brightness=0.55), "alert", _seen(150)),
    "picture_blurred": (_seen(60, sharpness=-1.2), "alert", _seen(150)),
    "picture_noisy": (_seen(60, sharpness=1.2, fineness=0.8), "alert", _seen(150)),
    "picture_colour": (_seen(60, warmth=0.6), "alert", _seen(150)),
    "picture_uneven": (_seen(60, slope_x=0.2), "alert", _seen(150)),
    "picture_strange": (_seen(60, evidence=-13.0), "alert", _seen(150)),
    "brightness_drift": (_drifting("brightness", 0.04), "warn", _seen(100)),
    "focus_drift": (_drifting("focus", -80.0), "warn", _seen(100)),
    "score_drift": (_drifting("score", 0.1), "warn", _seen(100)),
    "evidence_drift": (_drifting("evidence", 1.0), "warn", _seen(100)),
    "model_rejected": (
        _linked(rejected_model="the golden images differ"),
        "warn",
        _linked(rejected_model=None),
    ),
    "threshold_at_end": (_seen(5, threshold=0.01), "warn", _seen()),
    "broker_away": (_away, "warn", _linked(connected=True)),
    "broker_flapping": (_linked(flapping="again and again"), "alert", _linked(flapping=None)),
    "events_refused": (
        _linked(refused_events=5, refusal="Not authorized"),
        "alert",
        _linked(refused_events=0),
    ),
    "pictures_refused": (_linked(refused_pictures=1), "warn", _quiet(125)),
    "outbox_filling": (_linked(waiting_ratio=0.6), "warn", _linked(waiting_ratio=0.1)),
    "events_dropped": (_linked(dropped_events=3), "alert", _quiet(125)),
    "disk_low": (_disk("free_ratio", 0.07), "warn", _disk("free_ratio", 0.5)),
    "inodes_low": (_disk("free_inodes_ratio", 0.07), "warn", _disk("free_inodes_ratio", 0.5)),
    "disk_read_only": (_disk("read_only", True), "alert", _disk("read_only", False)),
    "storage_failing": (_linked(storage_fault="archive: no space"), "warn", _linked(storage_fault=None)),
    "too_hot": (_sensed(temperature_c=77), "warn", _sensed(temperature_c=60)),
    "slowed": (_sensed(throttled="4"), "warn", _sensed(throttled="40000")),
    "under_voltage": (_sensed(throttled="50001"), "alert", _supply_back),
    "memory_low": (_sensed(available_kib=80 * 1024), "warn", _sensed(available_kib=900 * 1024)),
    "memory_grown": (_sensed(resident_kib=400 * 1024), "warn", _sensed(resident_kib=90 * 1024)),
    "clock_unset": (_linked(clock_synced=False), "warn", _linked(clock_synced=True)),
}

GRAVE: dict[str, Callable[[Bench], None]] = {
    "threshold_at_end": _seen(5, threshold=0.99),
    "frame_lost": lambda bench: [_lost(bench), _lost(bench)],
    "too_dark": _seen(15, brightness=0.05),
    "too_bright": _seen(15, brightness=0.95),
    "out_of_focus": _seen(15, focus=20.0),
    "broker_away": lambda bench: bench.poll(125, connected=False),
    "outbox_filling": _linked(waiting_ratio=0.95),
    "disk_low": _disk("free_ratio", 0.01),
    "inodes_low": _disk("free_inodes_ratio", 0.01),
    "too_hot": _sensed(temperature_c=84),
    "memory_low": _sensed(available_kib=30 * 1024),
}
