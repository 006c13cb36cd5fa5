"""What the service tells of itself, in one place: health, stats, status.json, the log's line on a verdict.

The service says what happened: inspected(), published(), model_changed(). The reporter's thread asks the
service's parts for the rest, once a second (reporter.py).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from device.archive.archive import Archive
from device.config import Config
from device.health.board import Board
from device.health.health import Health
from device.health.station_watch import Links
from device.image.frame import BadFrame, Frame
from device.inspection.pipeline import Pipeline
from device.inspection.verdict import Verdict
from device.mqtt.delivery import DeliveryCounts
from device.mqtt.publisher import Publisher
from device.station.capture import Capture
from device.station.swap import ModelSwap
from device.system.clock import clock_synced, rfc3339
from device.telemetry.counters import Counters
from device.telemetry.journal import VerdictLog
from device.telemetry.reporter import Reporter, ServiceFacts
from device.telemetry.stats import Queues, Stats
from device.telemetry.status import StatusFile


@dataclass(frozen=True, slots=True)
class Parts:
    """The service's parts that are asked."""

    publisher: Publisher
    capture: Capture
    swap: ModelSwap
    counters: Counters
    archive: Archive


class SelfReport:
    """start(), then what happened, stop()."""

    def __init__(self, config: Config, pipeline: Pipeline, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._session_id = pipeline.session_id
        self._started_ns = time.time_ns()
        self._started_s = time.monotonic()
        self._published = 0
        self._overloads = 0  # parts that nobody had time for
        self._since_model = 0
        self._last: tuple[Verdict, float] | None = None
        self._verdict_log = VerdictLog()
        self._stats = Stats()
        calibration = pipeline.bundle.calibration
        self.health = Health(
            config.health, calibration.drift_reference, config.state, known=calibration.familiar
        )
        self._reporter = Reporter(
            self.health,
            self._stats,
            Board(config.state),
            StatusFile(config.runtime),
            parts.publisher,
            self._facts,
        )

    def start(self) -> None:
        """Report from now on."""
        self._reporter.start()

    def stop(self) -> None:
        """Report no more. A second call does nothing."""
        self._reporter.stop()

    def inspected(self, frame: Frame, verdict: Verdict, mode_change: str | None) -> None:
        """A frame has its verdict; it may be released afterwards. `mode_change`: see Health.observe."""
        self.health.observe(frame, verdict, mode_change)

    def unseen(self, fault: BadFrame) -> None:
        """There was no frame to judge."""
        self._overloads += fault.cause == "overload"
        self.health.unseen(str(fault), fault.cause)

    def published(self, verdict: Verdict) -> None:
        """A verdict has gone out."""
        self._stats.add(verdict)
        self._verdict_log.add(verdict)
        self._published += 1
        self._since_model += 1
        self._last = verdict, time.monotonic()

    def model_changed(self, pipeline: Pipeline) -> None:
        """Another model decides from now on."""
        calibration = pipeline.bundle.calibration
        self.health.calibrate(calibration.drift_reference, calibration.familiar)
        self._since_model = 0

    # -- the reporter's thread

    def _facts(self) -> ServiceFacts:
        delivery, losses = self._parts.publisher.delivery(), self._parts.capture.losses
        swap = self._parts.swap.state
        links = Links(
            connected=self._parts.publisher.connected,
            waiting_ratio=delivery.waiting_bytes / self._config.outbox.max_bytes,
            dropped_events=delivery.dropped + delivery.lost,
            frames=self._published,
            skipped_frames=losses.skipped,
            dropped_triggers=losses.dropped + self._overloads,
            rejected_model=swap.reason if swap.state == "rejected" else None,
            storage_fault=self._storage_fault(delivery),
            flapping=self._parts.publisher.flapping,
            refused_events=delivery.refused,
            refusal=delivery.refusal,
            refused_pictures=self._parts.publisher.refused_pictures,
            clock_synced=clock_synced(),
        )
        queues = Queues(
            frames_waiting=self._parts.capture.waiting,
            events_waiting=delivery.waiting,
            skipped=losses.skipped,
            dropped_triggers=losses.dropped,
            dropped_events=delivery.dropped,
        )
        return ServiceFacts(links, queues, self._status(delivery))

    def _storage_fault(self, delivery: DeliveryCounts) -> str | None:
        if not delivery.durable:
            return "the outbox cannot be written; verdicts wait in memory"
        if reason := self._parts.archive.state.reason:
            return f"the archive cannot keep images: {reason}"
        return None

    def _status(self, delivery: DeliveryCounts) -> dict[str, Any]:
        """What status.json says beside health and board."""
        parts, losses = self._parts, self._parts.capture.losses
        return {
            "station": self._config.station,
            "session_id": self._session_id,
            "started": rfc3339(self._started_ns),
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "camera": parts.capture.name,
            "model": self._model(),
            "last": self._last_verdict(),
            "verdicts_since_model": self._since_model,
            "counters": {**asdict(parts.counters.counts)},
            "frames": {"skipped": losses.skipped, "dropped": losses.dropped},
            "broker": {"address": parts.publisher.address, "connected": parts.publisher.connected},
            "delivery": {
                "acknowledged": delivery.acknowledged,
                "waiting": delivery.waiting,
                "dropped": delivery.dropped,
                "refused": delivery.refused,
                "lost": delivery.lost,
                "durable": delivery.durable,
            },
        }

    def _model(self) -> dict[str, Any]:
        swap = self._parts.swap.state
        return {
            **asdict(swap.model),
            "bundle": swap.bundle,
            "previous": swap.previous,
            "state": swap.state,
            "reason": swap.reason,
            "since": rfc3339(swap.since_ns),
        }

    def _last_verdict(self) -> dict[str, Any] | None:
        if self._last is None:
            return None
        verdict, at_s = self._last
        return {
            "event_id": verdict.event_id,
            "verdict": verdict.verdict,
            "score": None if verdict.score is None else round(verdict.score, 4),
            "ts": rfc3339(verdict.captured_ns),
            "age_s": round(time.monotonic() - at_s, 3),
        }
