"""What commands do, without a broker: the parts are real, the loop is turned by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixtures_bundle import TinyModel

from device.bundle import bundle
from device.errors import BundleError, ReviewError
from device.inspection.pipeline import Pipeline
from device.inspection.reach import ScoreRange
from device.line.asked import VerdictRequests
from device.line.trigger import CommandTrigger
from device.mqtt.commands import Refused
from device.station.actions import StationActions
from device.station.swap import ModelSwap
from device.station.threshold_override import ThresholdOverride


@dataclass
class Bench:
    """The actions, and what they act on."""

    actions: StationActions
    swap: ModelSwap
    trigger: CommandTrigger
    asked: list[str]
    old: Path
    new: Path

    def with_loop(self, act: Callable[[], object]) -> object:
        """Do it while the loop takes what is ready."""
        ended = threading.Event()

        def loop() -> None:
            while not ended.wait(0.01):
                self.swap.take()

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            return act()
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def bench(tiny_model: TinyModel, tmp_path: Path) -> Iterator[Bench]:
    models = tmp_path / "models"
    new = tiny_model.write(models, created="2026-06-01T00:00:00Z")
    old = tiny_model.write(models, created="2026-05-01T00:00:00Z")

    def build(loaded: bundle.Bundle) -> Pipeline:
        return Pipeline(loaded, "press-4", "5e55104")

    swap = ModelSwap(models, build, build(bundle.load(models)), lambda: None)
    swap.start()
    trigger = CommandTrigger(queue_limit=1)
    trigger.open()
    asked: list[str] = []
    actions = StationActions(
        trigger,
        VerdictRequests(),
        swap,
        ThresholdOverride(tmp_path / "state"),
        (0.05, 0.9),
        models=models,
        state=tmp_path / "state",
        repeat_state=lambda: asked.append("state"),
        reread_thresholds=lambda: asked.append("thresholds"),
        picture_bytes=20_000,
        most_pinned_bytes=10**9,
        send=lambda topic, payload: asked.append(topic),
        reviewed=lambda event_id, label: asked.append(f"{event_id} is {label}"),
        acknowledge=lambda role, reason, by: (role, reason) == ("disk", "disk_low"),
    )
    yield Bench(actions, swap, trigger, asked, old, new)
    trigger.close()


def test_a_trigger_is_fired_or_refused(bench: Bench) -> None:
    told: list[int] = []

    def fire(part_id: str) -> None:
        bench.actions.trigger(part_id, lambda seq, verdict: told.append(seq), wait=False)

    fire("P-1")
    with pytest.raises(Refused, match="not accepted: the station is triggered by mqtt, or too many wait"):
        fire("P-2")
    event = bench.trigger.wait(0)
    assert event is not None
    assert event.part_id == "P-1"
    assert event.asker is not None
    event.asker.taken(7)
    assert told == [7]
    assert [lost.asker for lost in bench.trigger.lost()] == [None], "P-2 was told that it is not accepted"
    with pytest.raises(Refused, match=r"part_id: must be 1\.\.128 printable characters"):
        fire("\u200b")


def test_a_model_is_found_by_its_version_and_by_its_name(bench: Bench) -> None:
    version = bench.new.name.removeprefix("tiny-")
    change = bench.with_loop(lambda: bench.actions.activate(version))
    assert change.content() == {"old": bench.old.name, "new": bench.new.name}
    assert bench.swap.running.model.version == version
    change = bench.with_loop(bench.actions.rollback)
    assert change.content() == {"old": bench.new.name, "new": bench.old.name}
    change = bench.with_loop(lambda: bench.actions.activate(bench.new.name))
    assert change.new == bench.new.name
    assert bench.with_loop(bench.actions.reload).content() == {"old": bench.new.name, "new": bench.new.name}


def test_a_version_that_is_not_here_or_is_here_twice_is_refused(bench: Bench, tiny_model: TinyModel) -> None:
    with pytest.raises(Refused, match="no bundle of version x on this device"):
        bench.actions.activate("x")
    tiny_model.write(bench.new.parent, "other", created="2026-06-01T00:00:00Z")
    with pytest.raises(Refused, match="2 bundles of version 2026"):
        bench.actions.activate(bench.new.name.removeprefix("tiny-"))


def test_a_damaged_bundle_is_refused_and_the_old_one_goes_on(bench: Bench) -> None:
    (bench.new / "model.tflite").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.tflite"):
        bench.with_loop(lambda: bench.actions.activate(bench.new.name))
    assert bench.swap.running.bundle.name == bench.old.name


def test_thresholds_are_set_and_taken_back(bench: Bench) -> None:
    own = {"ng": 0.6, "marginal": 0.3, "rule": "chosen by hand"}
    given = {"ng": 0.7, "marginal": 0.4, "rule": "set by a command"}
    assert bench.actions.set_threshold(0.7, 0.4).content() == {"old": own, "new": given}
    assert bench.actions.set_threshold(None, None).content() == {"old": given, "new": own}
    assert bench.asked == ["thresholds", "thresholds"]


@pytest.mark.parametrize("ng", [0.0, 0.04, 0.91, 1.0])
def test_a_threshold_at_which_everything_would_be_ok_or_nothing_is_refused(bench: Bench, ng: float) -> None:
    with pytest.raises(Refused, match=rf"ng: must be 0\.05\.\.0\.9 \(\[commands\].*, got {ng:g}"):
        bench.actions.set_threshold(ng, 0.0)
    assert bench.actions.set_threshold(0.9, 0.0).content()["new"]["ng"] == 0.9
    assert bench.asked == ["thresholds"]


def test_a_threshold_that_no_score_of_the_model_reaches_is_refused(bench: Bench) -> None:
    running = bench.swap.running
    running.__dict__["_detector"] = SimpleNamespace(scores=ScoreRange(0.01, 0.8))
    with pytest.raises(
        Refused, match=r"ng: must be 0\.8 or less, the greatest score that this model can give"
    ):
        bench.actions.set_threshold(0.81, 0.3)
    assert bench.asked == []
    assert bench.actions.set_threshold(0.8, 0.3).content()["new"]["ng"] == 0.8


def test_a_rebirth_asks_for_all_state(bench: Bench) -> None:
    bench.actions.rebirth()
    assert bench.asked == ["state"]


def test_a_review_needs_an_image_in_the_archive(bench: Bench) -> None:
    with pytest.raises(ReviewError, match="no image of this event"):
        bench.actions.review("5e55104-00000001", "ok", "ann")
