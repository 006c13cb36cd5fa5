"""What version 0.1.0 left on a station goes on: bundle, settings, outbox, counters, images and reviews."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from fixtures_broker import Broker, Subscriber
from fixtures_daemon import REPOSITORY, ROOT, errors, run_device
from fixtures_earlier import DEMO, EVENTS, MANIFEST, OLD


@pytest.fixture
def station(tmp_path: Path, broker: Broker) -> Path:
    """The folder as 0.1.0 left it, its configuration, with two new parts before the camera."""
    shutil.copytree(OLD, tmp_path / "station")
    shutil.copytree(
        REPOSITORY / "deploy" / "demo" / "bundle", tmp_path / "station" / "bundles", symlinks=True
    )
    (tmp_path / "station" / "images").mkdir()
    for name in ("part01.png", "part05.png"):
        shutil.copy(REPOSITORY / "deploy" / "demo" / "images" / name, tmp_path / "station" / "images")
    config = tmp_path / "station" / "config.toml"
    config.write_text(config.read_text().replace("port = 9\n", f"port = {broker.port}\n"))
    return config


def test_its_verdicts_are_delivered_its_counters_go_on(station: Path, subscriber: Subscriber) -> None:
    done = run_device("run", "--config", station)
    assert done.returncode == 0, errors(done)
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    told = [json.loads(payload) for payload in subscriber.payloads(f"{ROOT}/inspection")]
    assert [one["event_id"] for one in told[:6]] == EVENTS
    assert [one["historical"] for one in told] == [True] * 6 + [False] * 2
    assert [one["verdict"] for one in told] == ["OK"] * 4 + ["NG", "OK"] + ["OK", "NG"]
    counters = json.loads(subscriber.payloads(f"{ROOT}/counters")[-1])
    assert (counters["ok"], counters["ng"]) == (6, 2)
    assert counters["since"] == "2026-12-01T07:07:48.699Z"


def test_its_images_and_reviews_are_exported(station: Path, tmp_path: Path) -> None:
    said = run_device("review", EVENTS[2], "--label", "ok", "--by", "bob", "--config", station)
    assert said.returncode == 0, errors(said)
    done = run_device("export", "--reviewed", tmp_path / "reviewed", "--config", station)
    assert done.returncode == 0, errors(done)
    lines = (tmp_path / "reviewed" / "manifest.csv").read_text().splitlines()
    labels = sorted(line.split(",")[1] for line in lines[1:])
    assert labels == ["ng", "ok"], lines


def test_its_bundle_is_the_one_that_it_judged_by() -> None:
    """A demo that is made anew leaves the old bundle to tests/data/0.1.0."""
    manifest = (DEMO / "bundle" / "current" / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == MANIFEST


def test_its_configuration_is_accepted(station: Path) -> None:
    done = run_device("check", "--config", station)
    assert not [line for line in errors(done) if "config" in line.lower() and "error" in line.lower()]
    assert "bundle" in done.stdout
