"""What the service tells of itself, out of its real parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures_broker import free_port
from fixtures_bundle import make_frame
from fixtures_verdict import ERROR, NG

from device import config
from device.archive.archive import Archive
from device.bundle.bundle import load
from device.bundle.calibration import DriftReference, Reference
from device.camera.camera import make_camera
from device.image.frame import BadFrame
from device.inspection.pipeline import Pipeline
from device.line.trigger import FreeRun
from device.mqtt.publisher import Publisher
from device.station.capture import Capture
from device.station.swap import ModelSwap
from device.telemetry import status
from device.telemetry.counters import Counters
from device.telemetry.self_report import Parts, SelfReport


@pytest.fixture
def made(make_station: object, tmp_path: Path) -> tuple[SelfReport, Pipeline, config.Config]:
    """A report of parts that have not been started."""
    station = make_station(free_port())
    loaded = config.load(station.config)
    pipeline = Pipeline(load(loaded.bundle), "press-4", "5e55")
    publisher = Publisher(loaded.mqtt, "press-4", "5e55", lambda protocol: "{}", loaded.outbox, loaded.state)
    camera = make_camera(loaded.camera, lambda seconds: None)
    parts = Parts(
        publisher,
        Capture(camera, FreeRun(), 5.0),
        ModelSwap(loaded.bundle, lambda bundle: pipeline, pipeline, lambda: None),
        Counters(loaded.state),
        Archive(loaded.state, loaded.archive, publisher.send),
    )
    publisher._outbox._storage.open()
    return SelfReport(loaded, pipeline, parts), pipeline, loaded


def test_the_facts_are_those_of_the_parts(made: tuple[SelfReport, Pipeline, config.Config]) -> None:
    report, pipeline, _ = made
    report.inspected(make_frame(), NG, None)
    report.published(NG)
    report.published(ERROR)
    facts = report._facts()
    assert facts.links.frames == 2
    assert facts.links.storage_fault is None
    assert not facts.links.connected
    said = facts.status
    assert (said["station"], said["session_id"], said["verdicts_since_model"]) == ("press-4", "5e55", 2)
    assert said["last"]["verdict"] == "ERROR"
    assert said["model"]["sha256"] == pipeline.model.sha256
    assert said["model"]["bundle"] == pipeline.bundle.name
    assert said["delivery"]["durable"]
    json.dumps(said)


def test_a_lost_frame_is_the_cameras_and_a_seen_one_clears_it_in_the_end(
    made: tuple[SelfReport, Pipeline, config.Config],
) -> None:
    report, _, _ = made
    report.unseen(BadFrame("part 7: torn", seq=0, path=None, captured_ns=0, camera="replay"))
    role = report.health.roles()["camera"]
    assert (role.state, role.reason) == ("warn", "frame_lost")
    assert "part 7: torn" in role.text


def test_another_model_counts_anew(made: tuple[SelfReport, Pipeline, config.Config]) -> None:
    report, pipeline, _ = made
    report.published(NG)
    report.model_changed(pipeline)
    assert report._facts().status["verdicts_since_model"] == 0
    assert isinstance(report.health._frames._reference, DriftReference)
    assert isinstance(report.health._frames._reference.score, Reference)


def test_it_writes_while_it_runs_and_is_gone_afterwards(
    made: tuple[SelfReport, Pipeline, config.Config],
) -> None:
    report, _, loaded = made
    report.start()
    report._reporter.turn()
    assert status.read(loaded.runtime).presence == "running"
    report.stop()
    assert status.read(loaded.runtime).presence == "absent"
