"""Passwords from files and from systemd's credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from device import config, passwords
from device.camera.opencv import without_password
from device.errors import ConfigError

ADDRESS = "rtsp://anna@camera.plant:8554/line?channel=1"


def load(folder: Path, text: str) -> config.Config:
    path = folder / "config.toml"
    path.write_text(text)
    return config.load(path)


def camera(source: str = ADDRESS, file: str = "") -> str:
    return f'[camera]\nkind = "opencv"\nsource = "{source}"\npassword_file = "{file}"\n'


def test_a_camera_gets_its_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("a:b@c/ü\n")
    loaded = load(tmp_path, camera(file="pw"))
    assert loaded.camera.source == "rtsp://anna:a%3Ab%40c%2F%C3%BC@camera.plant:8554/line?channel=1"
    assert loaded.camera.password_file == tmp_path / "pw"
    assert without_password(loaded.camera.source) == "rtsp://camera.plant:8554/line"


def test_or_from_the_units_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for content, expected in (("", ADDRESS), ("secret\n", ADDRESS.replace("@", ":secret@"))):
        (tmp_path / "camera-password").write_text(content)
        assert load(tmp_path, camera()).camera.source == expected


@pytest.mark.parametrize("source", ["rtsp://10.0.0.9/line", "rtsp://anna:own@10.0.0.9/line", "/dev/video0"])
def test_an_address_without_a_user_name_alone_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "camera-password").write_text("secret\n")
    assert load(tmp_path, camera(source)).camera.source == source
    (tmp_path / "pw").write_text("secret\n")
    with pytest.raises(ConfigError, match="password_file: needs a source with a user name alone"):
        load(tmp_path, camera(source, file="pw"))


def test_a_file_that_is_not_there_and_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[camera\] password_file: .*/pw: No such file or directory"):
        load(tmp_path, camera(file="pw"))
    with pytest.raises(ConfigError, match=r"\[camera\] source: must be an address: Invalid IPv6 URL"):
        load(tmp_path, camera("rtsp://[::1/line"))


def test_a_broker_gets_its_credential_and_an_empty_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    named = '[mqtt]\nusername = "press-4"\n'
    assert load(tmp_path, named).mqtt.password is None
    for content, expected in (("", None), ("secret\n", "secret")):
        (tmp_path / "mqtt-password").write_text(content)
        assert load(tmp_path, named).mqtt.password == expected
        assert load(tmp_path, "").mqtt.password is None


def test_a_password_longer_than_mqtt_can_carry(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("x" * (passwords.LONGEST_BYTES + 1))
    with pytest.raises(ConfigError, match="must hold at most 65535 bytes on its first line, got 65536"):
        passwords.read("mqtt", "pw", tmp_path)
