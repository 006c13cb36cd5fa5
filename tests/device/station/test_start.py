"""What a service begins with, after all that may have happened before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_signature import make_key, needs_keys, sign

from device import config
from device.bundle import store, trial
from device.bundle.bundle import Bundle, load
from device.bundle.calibration import GoldenSpec
from device.errors import BundleError, SignatureError
from device.inspection.pipeline import Pipeline
from device.station.start import ModelLoader, first_pipeline


def build(loaded: Bundle) -> Pipeline:
    return Pipeline(loaded, "press-4", "s1", threads=None, runtime="auto")


@pytest.fixture
def models(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """The first bundle in use, a second one and one that fails its golden images beside it."""
    [vector] = tiny_model.calibration.golden.vectors
    wrong = GoldenSpec(0.02, (replace(vector, score=vector.score / 3),))
    first = tiny_model.write(tmp_path, created="2026-03-01T00:00:00Z")
    tiny_model.write(tmp_path, created="2026-03-02T00:00:00Z")
    tiny_model.write(tmp_path, created="2026-03-03T00:00:00Z", golden=wrong)
    store.activate(tmp_path, first.name)
    trial.end(tmp_path, first.name)
    (tmp_path / "previous").unlink()
    return tmp_path


def names(models: Path) -> list[str]:
    return sorted(path.parent.name for path in models.glob("tiny-*/manifest.json"))


def test_a_trial_that_was_cut_off_is_over(models: Path) -> None:
    first, second, _ = names(models)
    store.activate(models, second, begun=True, gate_s=60.0)
    assert first_pipeline(models, build).bundle.name == first
    assert (store.current_name(models), trial.read(models)) == (first, None)


def test_one_that_waits_for_a_service_is_tried_by_it(models: Path) -> None:
    _, second, _ = names(models)
    store.activate(models, second)
    seen = []

    def look(loaded: Bundle) -> Pipeline:
        seen.append(trial.read(models))
        return build(loaded)

    assert first_pipeline(models, look).bundle.name == second
    assert [one is not None and one.begun for one in seen] == [True]
    assert (store.current_name(models), trial.read(models)) == (second, None)


def test_one_that_fails_gives_way_to_the_one_before(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, _, third = names(models)
    store.activate(models, third)
    assert first_pipeline(models, build).bundle.name == first
    assert (store.current_name(models), trial.read(models)) == (first, None)
    assert f"{first} is used again" in caplog.text


def test_a_bad_bundle_without_a_trial_waits_for_a_person(models: Path) -> None:
    _, _, third = names(models)
    store.activate(models, third)
    trial.end(models, third)
    with pytest.raises(BundleError, match="must score"):
        first_pipeline(models, build)


@pytest.mark.parametrize("begun", [True, False])
def test_a_disk_that_cannot_be_written(models: Path, begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in use before is used, whatever the links say."""
    first, second, _ = names(models)
    store.activate(models, second, begun=begun)

    def read_only(*words: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("symlink", "replace", "fsync"):
        monkeypatch.setattr("os." + name, read_only)
    assert first_pipeline(models, build).bundle.name == first


@needs_keys
def test_none_but_a_signed_one_is_begun_or_gone_on_with(models: Path, tmp_path: Path) -> None:
    """By a signal, a command or a start alike: whoever can write the models' folder cannot sign."""
    quality, signers, station = make_key(tmp_path, "quality"), tmp_path / "signers", tmp_path / "station.toml"
    signers.write_text(f"quality@plant {quality.with_suffix('.pub').read_text()}")
    station.write_text(
        f'[station]\nname = "press-4"\nstate = "{tmp_path / "state"}"\n'
        f'[bundle]\npath = "{models}"\nsigners = "{signers}"\n'
    )
    loader, loaded = ModelLoader(config.load(station), "s1"), load(models)
    for take in (loader.first, loader.another):
        with pytest.raises(SignatureError, match="unsigned"):
            take(loaded)
    sign(loaded.path, quality)
    for take in (loader.first, loader.another):
        assert take(loaded).bundle.name == loaded.name
