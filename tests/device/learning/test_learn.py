"""`learn`, from good frames to a bundle that the station takes, and what stops it."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import TinyModel, make_bundle, make_frame, make_image, make_memory, png_bytes
from fixtures_daemon import REPOSITORY, command_line, errors, run_device

from device.bundle import bundle as bundles
from device.bundle import learned_here, store
from device.bundle.bundle import Bundle
from device.bundle.calibration import PreprocessSpec
from device.bundle.memory import FILE
from device.config import load
from device.errors import ConfigError, DataError
from device.image.geometry import Size
from device.inspection.pipeline import Pipeline
from device.learning import learn
from device.learning.learn import Teacher, teach

MEMORY = make_memory(np.array([[-127], [-126]], np.int8), centre=20.0, spread=4.0)
SPEC = MEMORY.spec


def write_starter(model: TinyModel, models: Path) -> Path:
    """A bundle with a memory: of black parts, which nobody makes here."""
    draft = replace(model.calibration, memory=SPEC)
    [vector] = draft.golden.vectors
    golden = replace(draft.golden, vectors=(replace(vector, score=1.0),), tolerance=0.2)
    content = {FILE: MEMORY.good.to_bytes()}
    calibration = replace(draft, golden=golden)
    return make_bundle(models, "starter", model.content, calibration, {vector.file: model.golden}, content)


def write_good(folder: Path, count: int, start: int = 0) -> Path:
    """Good parts, none twice."""
    folder.mkdir(exist_ok=True)
    for seed in range(start, start + count):
        (folder / f"{seed:03d}.png").write_bytes(png_bytes(make_image(seed=seed)))
    return folder


@pytest.fixture
def config(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A station with a starter in use, and a camera that shows 24 good parts, once."""
    write_starter(tiny_model, tmp_path / "models")
    write_good(tmp_path / "images", 24)
    path = tmp_path / "config.toml"
    path.write_text(
        '[station]\nname = "press-4"\nstate = "state"\n'
        '[bundle]\npath = "models"\n[camera]\nsource = "images"\n'
    )
    return path


def add(config: Path, section: str, line: str) -> None:
    config.write_text(config.read_text().replace(f"[{section}]\n", f"[{section}]\n{line}\n"))


def names(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if not path.is_symlink())


def test_from_the_camera_to_a_bundle_that_is_activated_and_rolled_back(config: Path) -> None:
    models = config.parent / "models"
    [starter] = names(models)
    done = run_device("learn", "--config", config, "--count", "20", "--interval", "0")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    path = Path(done.stdout.strip())
    assert path.parent == models
    assert path.name.startswith("press-4-learned-20")
    assert names(models) == sorted([starter, path.name])
    assert store.current_name(models) == starter
    [folder] = (config.parent / "state" / "learned").iterdir()
    assert len(list(folder.glob("*.png"))) == 20
    for said in (
        "20 of 20 good frames",
        "learned from 20 good images",
        "0 of 20 (95% sure: 0.0% to",
        " MiB at most",
    ):
        assert said in done.stderr
    assert run_device("activate", path.name, "--config", config).returncode == 0
    assert store.current_name(models) == path.name
    assert run_device("rollback", "--config", config).returncode == 0
    assert store.current_name(models) == starter


def test_what_was_learned_tells_good_from_bad(config: Path, tmp_path: Path) -> None:
    done = run_device("learn", "--config", config, "--images", write_good(tmp_path / "more", 40, 100))
    assert done.returncode == 0, done.stderr
    loaded = bundles.load(Path(done.stdout.strip()))
    pipeline = Pipeline(loaded, "press-4", "s")
    words = [pipeline.inspect(make_frame(make_image(seed=seed))).verdict for seed in range(500, 530)]
    assert words.count("NG") <= 1
    bad = pipeline.inspect(make_frame(make_image(seed=600, spot=(16, 24, 16, 16))))
    assert bad.verdict == "NG"
    assert bad.regions[0].box.x in range(8, 24)
    calibration = loaded.calibration
    assert calibration.training["recipe"] == "learned on the station"
    assert calibration.training["good_images"] == 40
    assert calibration.metrics["good"]["of"] == 40
    assert calibration.drift_reference.brightness_ratio.mean == pytest.approx(0.196, abs=0.01)
    assert len(calibration.golden.vectors) == 3


def test_bad_copies_and_unreadable_images_are_left_out(config: Path, tmp_path: Path) -> None:
    folder = write_good(tmp_path / "more", 12)
    (folder / "copy.png").write_bytes((folder / "003.png").read_bytes())
    (folder / "cut.png").write_bytes((folder / "003.png").read_bytes()[:50])
    (folder / "x-black.png").write_bytes(png_bytes(np.zeros((64, 64, 3), np.uint8)))
    done = run_device("learn", "--config", config, "--images", folder)
    assert done.returncode == 0, done.stderr
    for said in (
        "copy.png: is there already",
        "cut.png: ",
        "x-black.png: black",
        "learned from 12 good images",
    ):
        assert said in done.stderr


def test_too_few_are_refused_and_no_bundle_is_left(config: Path, tmp_path: Path) -> None:
    done = run_device("learn", "--config", config, "--images", write_good(tmp_path / "few", 9))
    assert done.returncode == DataError.exit_code
    assert errors(done)[-1] == "error: 9 good images: 10 or more are needed"
    assert len(names(config.parent / "models")) == 1


def test_a_starter_without_a_memory_is_refused(config: Path, tiny_model: TinyModel, tmp_path: Path) -> None:
    starter = tiny_model.write(tmp_path / "other")
    done = run_device("learn", "--config", config, "--starter", starter)
    assert done.returncode == 4
    assert "has no memory; `trainer.fit --mode good-only` makes one" in errors(done)[-1]


def test_where_bundles_must_be_signed(config: Path, tmp_path: Path) -> None:
    good = write_good(tmp_path / "good", 10)
    add(config, "bundle", 'signers = "signers"')
    done = run_device("learn", "--config", config, "--images", good)
    assert done.returncode == 13
    assert "set [bundle] allow_learned, or write it elsewhere (--out DIR)" in errors(done)[-1]
    done = run_device("learn", "--config", config, "--images", good, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    elsewhere = Path(done.stdout.strip())
    assert not learned_here.learned_here(config.parent / "state", elsewhere)
    add(config, "bundle", "allow_learned = true")
    done = run_device("learn", "--config", config, "--images", good)
    assert done.returncode == 0, done.stderr
    assert learned_here.learned_here(config.parent / "state", Path(done.stdout.strip()))


def test_ctrl_c_keeps_what_was_collected(config: Path) -> None:
    process = subprocess.Popen(
        command_line("learn", "--config", config, "--interval", "0.05", "--count", "200"),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " good frames, about" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 130, rest
    [folder] = (config.parent / "state" / "learned").iterdir()
    assert f"go on with what is there: --images {folder}" in rest
    assert list(folder.glob("*.png"))


def test_commands_are_not_waited_for(config: Path) -> None:
    add(config, "camera", "")
    config.write_text(config.read_text() + '[trigger]\nkind = "mqtt"\n')
    done = run_device("learn", "--config", config)
    assert done.returncode == ConfigError.exit_code
    assert "this hears no commands" in errors(done)[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--count", "9"), "--count: must be 10..10000, got 9"),
        (("--interval", "-1"), "--interval: must be 0..86400 seconds, got -1.0"),
        (("--false-rejects", "0.5"), "--false-rejects: must be 0.0001..0.2, got 0.5"),
        (("--name", "a/b"), "--name: must be 1..64 letters"),
    ],
)
def test_wishes_are_checked_first(config: Path, arguments: tuple[str, str], message: str) -> None:
    done = run_device("learn", "--config", config, *arguments)
    assert done.returncode == ConfigError.exit_code
    assert message in errors(done)[-1]


# ---- without a process


def a_teacher(config: Path) -> Teacher:
    return Teacher(bundles.load(config.parent / "models"), load(config))


def test_what_the_station_does_not_look_at_is_not_learned(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spotted"
    folder.mkdir()
    for seed in range(12):
        image = make_image(seed=seed, spot=(0, 0, 16, 16))
        (folder / f"{seed}.png").write_bytes(png_bytes(image))
    config.write_text(config.read_text() + "[inspection]\nroi = [[[32, 0], [64, 0], [64, 64], [32, 64]]]\n")
    teacher = a_teacher(config)
    seen = teacher.look(sorted(folder.iterdir()))
    assert all(one.rows.shape[1] == 1 for one in seen)
    assert max(int(one.rows.max()) for one in seen) < 0  # the white corner would be > 0
    assert teach(seen, teacher.sight.spec, teacher.sight.pooling, 0.01).memory.good.items.max() < 0


def test_tiles_are_learned_one_by_one(config: Path, tiny_model: TinyModel, tmp_path: Path) -> None:
    spec = PreprocessSpec(Size(64, 64), "stretch", "rgb", 114, tiles=Size(64, 64), overlap=0.0)
    starter = bundles.load(config.parent / "models")
    tiled = Bundle(starter.path, replace(starter.calibration, preprocess=spec), starter.name)
    folder = tmp_path / "wide"
    folder.mkdir()
    for seed in range(10):
        (folder / f"{seed}.png").write_bytes(png_bytes(make_image(width=128, seed=seed)))
    seen = Teacher(tiled, load(config)).look(sorted(folder.iterdir()))
    assert {len(one.parts) for one in seen} == {2}
    assert seen[0].rows.shape == (128, 1)


def test_one_row_is_the_most_typical(config: Path) -> None:
    teacher = a_teacher(config)
    seen = teacher.look(sorted((config.parent / "images").iterdir()))
    items = teach(seen, replace(SPEC, items=1), teacher.sight.pooling, 0.01).memory.good.items
    assert items.shape == (1, 1)
    assert items[0, 0] == pytest.approx(float(np.mean([one.rows.mean() for one in seen])), abs=1)


def test_each_place_has_its_mean_where_parts_lie_still(config: Path) -> None:
    teacher = a_teacher(config)
    seen = teacher.look(sorted((config.parent / "images").iterdir()))
    spec = replace(SPEC, kind="position", items=64)
    means = teach(seen, spec, teacher.sight.pooling, 0.01).memory.good.means
    expected = np.mean([one.parts[0].stored for one in seen], axis=0)
    assert means.reshape(8, 8, 1) == pytest.approx(expected, abs=0.05)


def test_the_whole_image_keeps_its_share_in_units_of_this_line(config: Path) -> None:
    teacher = a_teacher(config)
    seen = teacher.look(sorted((config.parent / "images").iterdir()))
    spec = replace(SPEC, image_weight=0.5, image_centre=900.0)
    taught = teach(seen, spec, teacher.sight.pooling, 0.01)
    assert taught.memory.spec.image_weight == 0.5
    assert taught.memory.spec.image_centre < 100
    own = [one.pooled(taught.memory, teacher.sight.pooling) for one in seen]
    assert np.mean(own) == pytest.approx(taught.held_out.mean(), abs=4 * taught.held_out.std())


def test_more_images_than_memory_are_thinned_evenly() -> None:
    files = [Path(str(number)) for number in range(100)]
    assert learn._thinned(files, 4) == [Path("0"), Path("25"), Path("50"), Path("75")]
    assert learn._thinned(files, 200) == files


def test_ten_images_are_enough_to_begin_and_say_how_little_they_say(config: Path) -> None:
    teacher = a_teacher(config)
    seen = teacher.look(sorted((config.parent / "images").iterdir())[:10])
    rate = teach(seen, teacher.sight.spec, teacher.sight.pooling, 0.01).rate
    assert (rate.count, rate.of) == (0, 10)
    assert rate.high == pytest.approx(0.3085, abs=1e-3)
