"""`adapt`: a bundle for today's light, from good parts of today, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_bundle import TinyModel, make_bundle, make_frame, make_image, make_memory, png_bytes
from fixtures_daemon import run_device

from device.bundle import bundle as bundles
from device.bundle import learned_here, store
from device.bundle.bundle import Reference, Thresholds
from device.bundle.calibration import GoodMaps, LocalizationSpec
from device.bundle.memory import FILE
from device.config import load
from device.errors import ConfigError, DataError, SignatureError
from device.inspection.pipeline import Pipeline
from device.learning import adapt
from device.learning.adapt import AdaptOptions, TruthGate, bound, recentred

NG, MARGINAL = 0.0474, 0.018  # logits -3 and -4; a good part has -6
LIGHTER = 45  # levels: a good part has -2.6


def part(seed: int, lighter: int = 0, spot: bool = False) -> np.ndarray:
    """A part in some light; a defect is a spot not much lighter than it."""
    image = make_image(seed=seed).astype(int)
    if spot:
        image[24:40, 16:32] += 70
    return np.clip(image + lighter, 0, 255).astype(np.uint8)


def write(folder: Path, count: int, lighter: int = LIGHTER, spot: bool = False, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(start, start + count):
        (folder / f"{seed:03d}.png").write_bytes(png_bytes(part(seed, lighter, spot)))
    return folder


@pytest.fixture
def config(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A station whose bundle was made in less light, and a camera that shows good parts of today."""
    good = GoodMaps(-6.1, -5.5, 0.4)
    calibration = replace(
        tiny_model.calibration,
        thresholds=Thresholds(NG, MARGINAL, "by hand", ()),
        localization=LocalizationSpec(-5.5, 4, 5.0, 40.0, 0.0, good=good),
        drift_reference=replace(tiny_model.calibration.drift_reference, pooled=Reference(-6.0, 0.1)),
    )
    [vector] = calibration.golden.vectors
    golden = {vector.file: tiny_model.golden}
    make_bundle(tmp_path / "models", "tiny", tiny_model.content, calibration, golden, {})
    write(tmp_path / "images", 30)
    path = tmp_path / "config.toml"
    path.write_text(
        '[station]\nname = "press-4"\nstate = "state"\n'
        '[bundle]\npath = "models"\n[camera]\nsource = "images"\n'
    )
    return path


def words(bundle: Path, spot: bool) -> list[str]:
    pipeline = Pipeline(bundles.load(bundle), "press-4", "s", doubts=False)
    return [pipeline.inspect(make_frame(part(seed, LIGHTER, spot))).verdict for seed in range(500, 530)]


def test_from_the_camera_to_a_bundle_for_todays_light_and_back(config: Path) -> None:
    models = config.parent / "models"
    before = models / store.current_name(models)
    assert words(before, spot=False).count("NG") == 30
    write(config.parent / "state" / "known" / "bad", 10, spot=True, start=900)
    write(config.parent / "state" / "known" / "good", 10, start=800)
    done = run_device("adapt", "--config", config, "--count", "24", "--interval", "0")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert (path.parent, store.current_name(models)) == (models, before.name)
    assert words(path, spot=False).count("NG") <= 1
    assert words(path, spot=True).count("NG") == 30
    for said in (
        f"adapted {before.name} to 24 good parts",
        "of the known bad parts are found: 10 of 10",
        "of the known good parts are NG: 0 of 10",
        "before: 10 of 10",
        f"back again: python -m device activate {before.name}",
    ):
        assert said in done.stderr
    calibration, old = bundles.load(path).calibration, bundles.load(before).calibration
    assert calibration.thresholds.ng == old.thresholds.ng
    assert calibration.training["adapted"]["from"] == before.name
    assert calibration.training["adapted"]["moved"] == pytest.approx(3.5, abs=0.3)
    assert calibration.localization.cut == pytest.approx(-5.5 + 3.5, abs=0.5)
    assert calibration.drift_reference.brightness_ratio.mean == pytest.approx(95 / 255, abs=0.01)
    assert learned_here.learned_here(config.parent / "state", path)
    assert run_device("activate", path.name, "--config", config).returncode == 0
    assert run_device("rollback", "--config", config).returncode == 0
    assert store.current_name(models) == before.name


def test_parts_that_are_too_strange_ask_for_new_training(config: Path, tmp_path: Path) -> None:
    strange = write(tmp_path / "strange", 24, lighter=110)
    with pytest.raises(DataError, match=r"too strange: they have moved by 2.* train anew"):
        adapt.adapt(load(config), AdaptOptions(images=strange))
    assert len(list((config.parent / "models").iterdir())) == 2  # the bundle and `current`


def test_known_bad_parts_that_would_be_missed_stop_it(config: Path, tmp_path: Path) -> None:
    """They are of yesterday's light: at today's threshold they pass."""
    write(config.parent / "state" / "known" / "bad", 10, lighter=0, spot=True, start=900)
    with pytest.raises(DataError, match=r"of the known bad parts 0 of 10 .* would be found, before 10 of 10"):
        adapt.adapt(load(config), AdaptOptions(images=tmp_path / "images"))


def test_known_good_parts_that_would_be_rejected_stop_it() -> None:
    with pytest.raises(DataError, match="known good parts 3 of 10"):
        TruthGate.of([("OK", "OK")] * 7 + [("OK", "NG")] * 3, []).require()
    TruthGate.of([("NG", "NG")] * 10, [("NG", "MARGINAL")] * 10).require()


def test_few_bad_copies_and_wrong_wishes(config: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "few", 19)
    (few / "copy.png").write_bytes((few / "003.png").read_bytes())
    (few / "cut.png").write_bytes((few / "003.png").read_bytes()[:60])
    with pytest.raises(DataError, match="19 good parts: 20 or more"):
        adapt.adapt(load(config), AdaptOptions(images=few))
    with pytest.raises(ConfigError, match="--false-rejects"):
        AdaptOptions(false_rejects=0.5)
    with pytest.raises(ConfigError, match="--count"):
        AdaptOptions(plan=replace(AdaptOptions().plan, count=10))


def test_where_bundles_are_signed_it_is_not_written_beside_them(config: Path, tmp_path: Path) -> None:
    signers = tmp_path / "signers"
    signers.write_text("")
    config.write_text(config.read_text().replace("[bundle]\n", f'[bundle]\nsigners = "{signers}"\n'))
    with pytest.raises(SignatureError, match="allow_learned"):
        adapt.adapt(load(config), AdaptOptions(images=tmp_path / "images"))


def test_without_known_bad_parts_it_says_what_nobody_knows(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt.adapt(load(config), AdaptOptions(images=tmp_path / "images")) == 0
    assert "no known bad parts: nothing says what is found now" in capsys.readouterr().err


def test_a_memory_remembers_todays_parts_beside_the_old(
    tiny_model: TinyModel, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = make_memory(np.array([[-60], [-61]], np.int8), centre=6.0, spread=2.0)
    draft = replace(tiny_model.calibration, memory=memory.spec, familiar=None)
    [vector] = draft.golden.vectors
    golden = replace(draft.golden, vectors=(replace(vector, score=1.0),), tolerance=0.2)
    pooled = Reference(-3.0, 1.0)
    calibration = replace(draft, golden=golden, drift_reference=replace(draft.drift_reference, pooled=pooled))
    content = {FILE: memory.good.to_bytes()}
    models = config.parent / "models"
    images = {vector.file: tiny_model.golden}
    make_bundle(models, "with-memory", tiny_model.content, calibration, images, content)
    assert adapt.adapt(load(config), AdaptOptions(images=tmp_path / "images")) == 0
    path = Path(capsys.readouterr().out.strip())
    assert words(path, spot=False).count("NG") <= 1


def test_the_threshold_follows_the_good_parts_and_keeps_its_score(tiny_model: TinyModel) -> None:
    old = replace(
        tiny_model.calibration,
        thresholds=Thresholds(NG, MARGINAL, "by hand", ()),
        drift_reference=replace(tiny_model.calibration.drift_reference, pooled=Reference(-6.0, 0.1)),
    )
    rng = np.random.default_rng(0)
    same = recentred(old, rng.normal(-6.0, 0.1, 30).tolist(), 0.01)
    assert same.moved == pytest.approx(0.0, abs=0.1)
    wide = recentred(old, rng.normal(-6.0, 1.5, 200).tolist(), 0.01)
    assert wide.moved > 0.3  # where good parts reach the threshold it makes way
    assert wide.rate.count <= 4
    darker = recentred(old, rng.normal(-8.0, 0.1, 30).tolist(), 0.01)
    assert darker.moved == pytest.approx(-2.0, abs=0.1)
    assert darker.scores.score(-5.0) == pytest.approx(NG, rel=0.1)


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_further_good_part_rarely_reaches_the_bound(share: float) -> None:
    rng = np.random.default_rng(1)
    reached = [rng.normal() >= bound(rng.normal(size=30).tolist(), share) for _ in range(4000)]
    assert 0.4 * share < np.mean(reached) < 1.5 * share
