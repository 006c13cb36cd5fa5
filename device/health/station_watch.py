"""What the board and the service's own parts say, poll by poll; of the reporter's thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from device.config import HealthConfig
from device.health.board import MIB, Reading, ThrottleBits
from device.health.reasons import ALERT, OK, WARN, Alarms, above, below

RECENT_S = 600.0  # what happened once (under-voltage, a lost event) stays visible so long
TEMPERATURE_SLACK_C = 3.0


@dataclass(frozen=True, slots=True)
class Links:
    """What the service knows of its own parts when health is polled.

    Counts only grow; what they were at the first poll is no news. `waiting_ratio`: how full the outbox is,
    0..1. `rejected_model`, `storage_fault`, `flapping`: why, or None. `refused_events`: kept aside; with
    `refusal`, why. `refused_pictures`: how often one was too large for the broker.
    """

    connected: bool = True
    waiting_ratio: float = 0.0
    dropped_events: int = 0
    frames: int = 0
    skipped_frames: int = 0
    dropped_triggers: int = 0
    rejected_model: str | None = None
    storage_fault: str | None = None
    flapping: str | None = None
    refused_events: int = 0
    refusal: str = ""
    refused_pictures: int = 0
    clock_synced: bool = True


class _Stretch:
    """How long something has held without a break."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def seconds(self, holds: bool, now_s: float) -> float:
        if not holds:
            self._began_s = None
            return 0.0
        self._began_s = now_s if self._began_s is None else self._began_s
        return now_s - self._began_s


class StationWatch:
    """poll(), every few seconds."""

    def __init__(self, config: HealthConfig, alarms: Alarms, clock: Callable[[], float]) -> None:
        self._config = config
        self._alarms = alarms
        self._clock = clock
        self._away = _Stretch()
        self._unset = _Stretch()
        self._links: Links | None = None
        self._throttled: ThrottleBits | None = None
        self._happened_s: dict[str, float] = {}

    def poll(self, reading: Reading, links: Links) -> None:
        """Look at the board and at what the service says of its parts."""
        self._look_at_links(links)
        self._look_at_clock(links.clock_synced)
        self._look_at_disk(reading, links)
        self._look_at_heat(reading)
        self._look_at_supply(reading)
        self._look_at_memory(reading)
        self._links = links

    def _look_at_links(self, links: Links) -> None:
        before, config = self._links or links, self._config
        away_s = self._away.seconds(not links.connected, self._clock())
        level = above(away_s, config.broker_warn_s, config.broker_alert_s)
        self._alarms.observe("broker_away", level, lambda: f"no connection for {away_s:.0f} s")
        level = above(links.waiting_ratio, 0.5, 0.9)
        self._alarms.observe("outbox_filling", level, lambda: f"{links.waiting_ratio:.0%} full")
        lost = self._happened("events_dropped", links.dropped_events > before.dropped_events)
        self._alarms.observe(
            "events_dropped",
            ALERT if lost else OK,
            lambda: f"{links.dropped_events} events were dropped in all",
        )
        missed = self._happened("triggers_dropped", links.dropped_triggers > before.dropped_triggers)
        self._alarms.observe(
            "triggers_dropped",
            ALERT if missed else OK,
            lambda: f"{links.dropped_triggers} parts were not inspected in all",
        )
        self._look_at_refusals(before, links)
        self._look_at_skipping(before, links)
        rejected = links.rejected_model
        self._alarms.observe("model_rejected", WARN if rejected else OK, lambda: str(rejected))

    def _look_at_refusals(self, before: Links, links: Links) -> None:
        """What the broker will not have, and one that throws the station out again and again."""
        flaps = links.flapping
        self._alarms.observe("broker_flapping", ALERT if flaps else OK, lambda: str(flaps))
        refused = links.refused_events
        self._alarms.observe(
            "events_refused",
            ALERT if refused else OK,
            lambda: f"{refused} verdicts are refused by the broker and wait: {links.refusal}",
        )
        too_large = self._happened("pictures_refused", links.refused_pictures > before.refused_pictures)
        self._alarms.observe(
            "pictures_refused",
            WARN if too_large else OK,
            lambda: f"{links.refused_pictures} were too large for the broker in all",
        )

    def _look_at_skipping(self, before: Links, links: Links) -> None:
        """Free-running, the newest frame wins and skipping is normal, up to a share."""
        skipped = links.skipped_frames - before.skipped_frames
        frames = links.frames - before.frames + skipped
        if not frames:
            return
        ratio, limit = skipped / frames, self._config.skipped_ratio
        level = WARN if limit and ratio > limit else OK
        self._alarms.observe("frames_skipped", level, lambda: f"{ratio:.0%} of the frames, limit {limit:.0%}")

    def _look_at_clock(self, synced: bool) -> None:
        unset_s = self._unset.seconds(not synced, self._clock())
        level = WARN if unset_s > self._config.clock_warn_s else OK
        self._alarms.observe("clock_unset", level, lambda: f"not synchronized for {unset_s:.0f} s")

    def _look_at_disk(self, reading: Reading, links: Links) -> None:
        fault = links.storage_fault
        self._alarms.observe("storage_failing", WARN if fault else OK, lambda: str(fault))
        disk, config = reading.disk, self._config
        if disk is None:
            return
        limits = (config.disk_warn_ratio, config.disk_alert_ratio)
        level = below(disk.free_ratio, *limits)
        self._alarms.observe(
            "disk_low", level, lambda: f"{disk.free_bytes // MIB} MiB free, {disk.free_ratio:.1%}"
        )
        level = below(disk.free_inodes_ratio, *limits)
        self._alarms.observe("inodes_low", level, lambda: f"{disk.free_inodes} inodes free")
        self._alarms.observe(
            "disk_read_only", ALERT if disk.read_only else OK, lambda: "the state's file system is read-only"
        )

    def _look_at_heat(self, reading: Reading) -> None:
        heat, config = reading.temperature_c, self._config
        if heat is None:
            return
        slack = TEMPERATURE_SLACK_C if self._alarms.level("too_hot") else 0.0
        level = above(heat, config.temperature_warn_c - slack, config.temperature_alert_c - slack)
        self._alarms.observe("too_hot", level, lambda: f"{heat:.0f} °C, limit {config.temperature_warn_c:g}")

    def _look_at_supply(self, reading: Reading) -> None:
        """Now, or since the last poll: the firmware remembers a dip that fell between two polls.

        What it remembers from before the first poll is told by `device check`, and is no reason here.
        """
        now, before = reading.throttled, self._throttled
        if now is None:
            return
        self._throttled = now
        self._alarms.observe("slowed", WARN if now.slowed else OK, lambda: "the processor is slowed down")
        news = before is not None and now.had_under_voltage and not before.had_under_voltage
        dipped = self._happened("under_voltage", now.under_voltage or news)
        level = ALERT if now.under_voltage else WARN if dipped else OK
        when = "now" if now.under_voltage else f"within the last {RECENT_S / 60:.0f} minutes"
        self._alarms.observe("under_voltage", level, lambda: f"the supply was too low {when}")

    def _look_at_memory(self, reading: Reading) -> None:
        memory, config = reading.memory, self._config
        if memory is None:
            return
        available, resident = memory.available_bytes / MIB, memory.resident_bytes / MIB
        level = below(available, config.memory_warn_mib, config.memory_warn_mib / 2)
        self._alarms.observe("memory_low", level, lambda: f"{available:.0f} MiB available")
        limit = config.resident_warn_mib
        self._alarms.observe(
            "memory_grown",
            WARN if limit and resident > limit else OK,
            lambda: f"{resident:.0f} MiB, limit {limit:g}",
        )

    def _happened(self, code: str, again: bool) -> bool:
        """Whether something has happened within RECENT_S."""
        if again:
            self._happened_s[code] = self._clock()
        return self._clock() - self._happened_s.get(code, -math.inf) < RECENT_S
