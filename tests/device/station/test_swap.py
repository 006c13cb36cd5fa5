"""Another model while the station runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import TinyModel, make_frame, make_image

from device.bundle import bundle as bundles
from device.bundle import store
from device.bundle.bundle import Bundle, GoldenSpec, GoldenVector
from device.errors import BundleError, EdgeVisionError
from device.image.frame import Frame
from device.inspection.pipeline import Pipeline
from device.station.swap import Job, ModelSwap

FIRST, SECOND = "2026-03-04T05:06:07Z", "2026-03-05T05:06:07Z"


def build(loaded: Bundle) -> Pipeline:
    return Pipeline(loaded, "press-4", "5e55", threads=1)


@pytest.fixture
def models(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A folder with two bundles, the first of them in use."""
    first = tiny_model.write(tmp_path, created=FIRST)
    tiny_model.write(tmp_path, created=SECOND)
    store.activate(tmp_path, first.name)
    return tmp_path


@pytest.fixture
def make_swap(models: Path) -> Callable[..., ModelSwap]:
    def make(newest: Frame | None = None, budget_ms: float = 0.0) -> ModelSwap:
        swap = ModelSwap(models, build, build(bundles.load(models)), lambda: newest, budget_ms)
        swap.start()
        return swap

    return make


def name_of(models: Path, created: str) -> str:
    day = created[:10].replace("-", "")
    [found] = [path.name for path in models.iterdir() if f"-{day}T" in path.name]
    return found


def take(swap: ModelSwap, job: Job) -> Pipeline | None:
    """What the loop does between frames, until the job has ended."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if (fresh := swap.take()) is not None:
            return fresh
        try:
            job.wait(0.01)
        except BundleError as problem:
            if "within 0.01 s" not in str(problem):
                raise
        else:
            return None
    raise AssertionError("the change has not ended")


def test_the_new_model_is_exchanged_when_the_loop_takes_it(
    make_swap: Callable[..., ModelSwap], models: Path
) -> None:
    swap = make_swap()
    before = swap.state
    assert (before.state, before.bundle, before.previous) == (
        "active",
        name_of(models, FIRST),
        name_of(models, SECOND),
    )
    job = swap.request(partial(store.activate, models, name_of(models, SECOND)))
    fresh = take(swap, job)
    job.wait(DEADLINE_S)
    assert fresh.bundle.name == name_of(models, SECOND)
    after = swap.state
    assert (after.state, after.bundle, after.previous, after.reason) == (
        "active",
        name_of(models, SECOND),
        name_of(models, FIRST),
        None,
    )
    assert after.latency_ms > 0
    assert swap.take() is None


def test_back_again(make_swap: Callable[..., ModelSwap], models: Path) -> None:
    swap = make_swap()
    take(swap, swap.request(partial(store.activate, models, name_of(models, SECOND))))
    fresh = take(swap, swap.request(partial(store.rollback, models)))
    assert fresh.bundle.name == name_of(models, FIRST)
    assert store.current_name(models) == name_of(models, FIRST)


def test_what_is_at_work_already_is_no_change(make_swap: Callable[..., ModelSwap]) -> None:
    swap = make_swap()
    assert take(swap, swap.request()) is None
    assert swap.state.state == "active"


def wrong_golden(tiny_model: TinyModel, models: Path) -> str:
    [vector] = tiny_model.calibration.golden.vectors
    wrong = GoldenSpec(0.02, (GoldenVector(vector.file, 0.1),))
    return tiny_model.write(models, created="2026-03-06T05:06:07Z", golden=wrong).name


def truncated(tiny_model: TinyModel, models: Path) -> str:
    path = models / name_of(models, SECOND)
    (path / "model.tflite").write_bytes(b"")
    store._switch(models / "current", path.name)
    return path.name


def gone(tiny_model: TinyModel, models: Path) -> str:
    store._switch(models / "current", "gone")
    return "gone"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (wrong_golden, "must score 0.100000 within 0.02"),
        (truncated, "model.tflite"),
        (gone, "leads to gone"),
    ],
)
def test_whatever_fails_the_old_one_stays_and_the_reason_is_named(
    make_swap: Callable[..., ModelSwap],
    models: Path,
    tiny_model: TinyModel,
    spoil: Callable[[TinyModel, Path], str],
    reason: str,
) -> None:
    swap = make_swap()
    bad = spoil(tiny_model, models)
    assert store.current_name(models) == bad
    job = swap.request()
    with pytest.raises(EdgeVisionError, match=reason):
        take(swap, job)
    assert swap.state.state == "rejected"
    assert reason in swap.state.reason
    assert swap.state.bundle == name_of(models, FIRST)
    assert store.current_name(models) == name_of(models, FIRST)  # what the next start will find
    bundles.load(models)
    assert swap.take() is None


def test_an_unforeseen_fault_is_a_rejection_too(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    def explode(loaded: Bundle) -> Pipeline:
        raise ZeroDivisionError("bug")

    swap = ModelSwap(models, explode, build(bundles.load(models)), lambda: None)
    swap.start()
    job = swap.request(partial(store.activate, models, name_of(models, SECOND)))
    with pytest.raises(ZeroDivisionError):
        take(swap, job)
    assert swap.state.reason == "ZeroDivisionError: bug"
    assert "Traceback" in caplog.text
    assert take(swap, swap.request()) is None  # the thread lives on


def test_a_model_that_is_too_slow_for_the_line_is_rejected(
    make_swap: Callable[..., ModelSwap], models: Path
) -> None:
    swap = make_swap(budget_ms=0.001)
    job = swap.request(partial(store.activate, models, name_of(models, SECOND)))
    with pytest.raises(
        BundleError, match=r"must take at most 0.001 ms \(\[model\] latency_budget_ms\), takes"
    ):
        take(swap, job)
    assert store.current_name(models) == name_of(models, FIRST)


def test_the_latency_is_that_of_the_newest_frame(models: Path) -> None:
    seen = []

    class Watching(Pipeline):
        def inspect(self, frame: Frame, *arguments: object) -> object:
            seen.append(frame.size.width)
            return super().inspect(frame, *arguments)

    newest = make_frame(make_image(width=640, height=480))
    running = build(bundles.load(models))
    swap = ModelSwap(models, lambda b: Watching(b, "press-4", "5e55", threads=1), running, lambda: newest)
    swap.start()
    take(swap, swap.request(partial(store.activate, models, name_of(models, SECOND))))
    assert set(seen) == {640}


def test_requests_are_served_one_after_the_other(make_swap: Callable[..., ModelSwap], models: Path) -> None:
    swap = make_swap()
    jobs = [
        swap.request(partial(store.activate, models, name_of(models, created)))
        for created in (SECOND, FIRST, SECOND)
    ]
    taken = [take(swap, job).bundle.name for job in jobs]
    assert taken == [name_of(models, created) for created in (SECOND, FIRST, SECOND)]


def test_a_job_that_does_not_end() -> None:
    with pytest.raises(BundleError, match=r"the model was not changed within 0.01 s"):
        Job(None).wait(0.01)


def test_the_verdicts_of_the_two_models_are_of_one_each(
    make_swap: Callable[..., ModelSwap], models: Path
) -> None:
    """A frame that is inspected while the new model is built and timed has the old one's verdict."""
    swap = make_swap()
    old = swap._running
    job = swap.request(partial(store.activate, models, name_of(models, SECOND)))
    stop = threading.Event()
    seen = set()
    while not stop.is_set():
        seen.add(replace(old.inspect(make_frame()), timing_ms={}, clock_synced=True).model.version)
        if swap.take() is not None:
            stop.set()
    job.wait(DEADLINE_S)
    assert seen == {old.model.version}
