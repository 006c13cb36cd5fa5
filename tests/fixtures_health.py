"""A health on a bench: a board, a clock and frames that the test turns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from fixtures_board import FakeBoard
from fixtures_bundle import make_frame
from fixtures_verdict import OK as SOME_VERDICT

from device import config
from device.bundle.calibration import DriftReference, Reference
from device.inspection.checks import Checks
from device.inspection.verdict import Verdict
from device.telemetry.health import REASONS, Health, Links

REFERENCE = DriftReference(
    Reference(0.4, 0.02), Reference(300.0, 40.0), Reference(0.1, 0.05), Reference(-6.0, 0.5)
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
        self.health = Health(self.config, REFERENCE, self.folder, lambda: self.now_s)

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
            **changes,
        }
        return replace(
            SOME_VERDICT,
            verdict=found["word"],
            score=float(np.clip(found["score"], 0, 1)),
            checks=Checks(
                float(np.clip(found["brightness"], 0, 1)), max(0.0, found["focus"]), found["evidence"]
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
