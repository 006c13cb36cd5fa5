"""A bundle on trial: what is on the disk at every moment of a switch, and the way back from there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel

from device.bundle import bundle as bundles
from device.bundle import store, trial
from device.bundle.trial import Trial


@pytest.fixture
def models(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Three bundles, A, B and C by date: B is in use, A was before it."""
    for day in (1, 2, 3):
        tiny_model.write(tmp_path, created=f"2026-03-0{day}T05:06:07Z")
    first, second, _ = names(tmp_path)
    for name in (first, second):
        store.activate(tmp_path, name)
    trial.end(tmp_path, second)
    return tmp_path


def names(models: Path) -> list[str]:
    return sorted(path.parent.name for path in models.glob("tiny-*/manifest.json"))


def links(models: Path) -> tuple[str, str]:
    return store.current_name(models), store.previous_name(models)


def test_a_switch_is_on_record_with_all_that_it_replaces(models: Path) -> None:
    first, second, third = names(models)
    store.activate(models, third, begun=True, gate_s=60.0)
    assert trial.read(models) == Trial(third, second, first, begun=True, gate_s=60.0)
    assert links(models) == (third, second)
    assert store.go_back(models) == Trial(third, second, first, begun=True, gate_s=60.0)
    assert links(models) == (second, first)
    assert trial.read(models) is None
    assert store.go_back(models) is None


def test_the_first_bundle_of_all_has_nothing_to_go_back_to(tiny_model: TinyModel, tmp_path: Path) -> None:
    made = tiny_model.write(tmp_path)
    (tmp_path / "current").unlink()
    store.activate(tmp_path, made.name, begun=True)
    assert trial.read(tmp_path) is None


def test_a_verdict_ends_the_trial_of_its_own_bundle_alone(models: Path) -> None:
    _, second, third = names(models)
    store.activate(models, third)
    trial.end(models, second)
    assert trial.read(models) is not None
    trial.end(models, third)
    assert trial.read(models) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bundle": 3}', json.dumps({"bundle": "x"})])
def test_a_record_that_cannot_be_read_counts_as_none(models: Path, content: str) -> None:
    (models / trial.FILE).write_text(content)
    assert trial.read(models) is None
    assert store.go_back(models) is None


class PowerCut(BaseException):
    """Not an error: nothing of the program runs after it."""


def cut_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes before the `step`th call that changes the disk's names or content for good."""
    left = [step]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def tried(*words: object, **more: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
            return call(*words, **more)

        return tried

    for name in ("replace", "symlink", "fsync", "unlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("step", range(24))
def test_cut_anywhere_in_a_switch_nothing_is_forgotten(
    models: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a start makes of it is the old pair of links."""
    first, second, third = names(models)
    with monkeypatch.context() as power:
        cut_before(step, power)
        try:
            store.activate(models, third, begun=True)
        except PowerCut:
            pass
        else:
            assert links(models) == (third, second)
    store.go_back(models)
    assert links(models) == (second, first)
    assert trial.read(models) is None


@pytest.mark.parametrize("step", range(24))
def test_cut_anywhere_on_the_way_back_the_next_one_gets_there(
    models: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = names(models)
    store.activate(models, third, begun=True)
    with monkeypatch.context() as power:
        cut_before(step, power)
        try:
            store.go_back(models)
        except PowerCut:
            assert bundles.load(models).name in (second, third)
    store.go_back(models)
    assert links(models) == (second, first)
