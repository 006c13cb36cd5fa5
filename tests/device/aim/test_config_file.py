"""Single keys of a configuration that a person has written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from device import config
from device.aim import config_file
from device.errors import ConfigError, StorageError

ROI = [[[0, 0], [10, 0], [10, 10]]]
WRITTEN = """\
# press 4, hall 2
[camera]     # the eye
kind = "picamera2"
exposure_us = 4000   # measured by Ann
colour_gains = [
    1.5,  # red
    2.0,
]

[inspection]
roi = []
[mqtt]
host = "broker"
"""


def test_comments_and_order_stay() -> None:
    changes = {
        "camera": {"exposure_us": 8000, "colour_gains": [1.25, 1.75]},
        "inspection": {"roi": ROI},
    }
    found = config_file.edited(WRITTEN, changes)
    assert "exposure_us = 8000   # measured by Ann\ncolour_gains = [1.25, 1.75]\n\n[inspection]" in found
    assert found.startswith("# press 4, hall 2\n[camera]     # the eye\n")
    assert tomllib.loads(found)["inspection"]["roi"] == ROI
    assert tomllib.loads(found)["mqtt"] == {"host": "broker"}


@pytest.mark.parametrize("text", ["", "[mqtt]\nhost = 'b'", "[camera]\nkind = 'replay'\n", "[camera]"])
def test_a_key_that_is_not_there_comes_into_its_section(text: str) -> None:
    found = tomllib.loads(config_file.edited(text, {"camera": {"gain_ratio": 2.5}}))
    assert found["camera"]["gain_ratio"] == 2.5
    assert found.keys() == tomllib.loads(text).keys() | {"camera"}


@pytest.mark.parametrize("text", ['camera = {kind = "replay"}\n', 'camera.kind = "replay"\n'])
def test_what_cannot_be_edited_is_handed_over_as_text(text: str) -> None:
    with pytest.raises(ConfigError, match=r"put in:\n\[camera\]\ngain_ratio = 2\.5"):
        config_file.edited(text, {"camera": {"gain_ratio": 2.5}})


def test_the_file_is_changed_in_one_step_and_the_old_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(WRITTEN)
    path.chmod(0o640)
    kept = config_file.write(path, {"camera": {"exposure_us": 8000}})
    assert kept.read_text() == WRITTEN
    assert config.load(path).camera.exposure_us == 8000
    assert {one.stat().st_mode & 0o777 for one in (path, kept)} == {0o640}
    assert {one.name for one in tmp_path.iterdir()} == {path.name, kept.name}


def test_what_the_service_would_refuse_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[camera]\nkind = "replay"\n')
    with pytest.raises(ConfigError, match=r"config\.toml.*exposure_us.*is for kind"):
        config_file.write(path, {"camera": {"exposure_us": 8000}})
    assert [one.name for one in tmp_path.iterdir()] == ["config.toml"]
    assert path.read_text() == '[camera]\nkind = "replay"\n'
    with pytest.raises(StorageError, match="cannot be read"):
        config_file.write(tmp_path / "none.toml", {})
