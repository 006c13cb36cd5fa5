"""bridge.toml: every problem at once, by name."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from deploy.bridge import config
from deploy.bridge.config import DEFAULT_PATH, LIMITS, load
from device.errors import ConfigError
from device.settings import keys, read_toml

MODBUS = '[modbus]\nenabled = true\nunits = ["1=press-4"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "bridge.toml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(write(folder, text))
    return [line.removeprefix(f"{folder / 'bridge.toml'}: ") for line in str(raised.value).splitlines()]


def test_nothing_listens_and_nothing_beyond_loopback_unless_told(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MODBUS))
    assert [loaded.modbus.enabled, loaded.http.enabled, loaded.metrics.enabled] == [True, False, False]
    assert {loaded.modbus.host, loaded.http.host, loaded.metrics.host} == {"127.0.0.1"}
    assert loaded.webhooks.urls == ()


def test_the_default_file_alone_has_nothing_to_do(tmp_path: Path) -> None:
    assert problems(tmp_path, "") == [
        "nothing to do: none of [modbus], [http] and [metrics] is enabled, and [webhooks] urls is empty"
    ]


def test_every_limit_is_of_a_key_that_exists() -> None:
    tables = read_toml(DEFAULT_PATH)
    assert all(key in tables[section] for section, key in LIMITS)


def test_a_key_has_the_same_default_at_its_field_and_in_the_file() -> None:
    fields = {name: keys(*kinds) for name, kinds in config.SECTIONS.items()}
    defaults = {name: {key: one.default for key, one in held.items()} for name, held in fields.items()}
    assert defaults == read_toml(DEFAULT_PATH)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[modbus]\nenabled = true\nunits = ["0=a"]', "[modbus] units: must be units 1..255, got 0"),
        ('[modbus]\nenabled = true\nunits = ["256=a"]', "[modbus] units: must be units 1..255, got 256"),
        ('[modbus]\nenabled = true\nunits = ["1=a", "01=b"]', "[modbus] units: unit 1 must stand only once"),
        (
            '[modbus]\nenabled = true\nunits = ["1=a", "2=a"]',
            "[modbus] units: station a must stand only once",
        ),
        (
            '[modbus]\nenabled = true\nunits = ["one"]',
            '[modbus] units: every item must be a unit and a station, "1=press-4", got "one"',
        ),
        (
            "[modbus]\nenabled = true",
            "[modbus] units: must name a station or more where Modbus is enabled, got []",
        ),
        (
            '[http]\nenabled = true\nhost = "0.0.0.0"',
            "[http] token_file: must name a file where host is not 127.0.0.1, got host 0.0.0.0",
        ),
        (
            '[webhooks]\nurls = ["http://mes/"]',
            "[webhooks] secret_file: must name a file where there are urls",
        ),
        (
            '[webhooks]\nurls = ["ftp://mes/"]',
            '[webhooks] urls: every item must be an address, http:// or https://, got "ftp://mes/"',
        ),
        (MODBUS + "[mqtt]\nprefx = 'a'", "[mqtt] prefx: unknown key; did you mean prefix?"),
        (MODBUS + "[mqtt]\nkeepalive_s = 1", "[mqtt] keepalive_s: must be 5..3600, got 1"),
        (MODBUS + '[mqtt]\nca_file = "ca.pem"', "[mqtt] ca_file: needs tls = true"),
        (MODBUS + '[mqtt]\npassword_file = "p"', "[mqtt] password_file: needs a username beside it"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in problems(tmp_path, text)


@pytest.mark.parametrize("token", ["short", "with a line\x01break in it", "sixteen-and-ü-more"])
def test_a_token_that_protects_nothing_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    text = '[http]\nenabled = true\ntoken_file = "token"'
    assert problems(tmp_path, text) == ["[http] token_file: must hold 16 or more printable ASCII characters"]


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_short", "whsec_" + base64.b64encode(b"x" * 23).decode(), "no prefix" * 5]
)
def test_a_secret_that_is_none_is_refused(tmp_path: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(secret)
    found = problems(tmp_path, '[webhooks]\nurls = ["http://mes/"]\nsecret_file = "secret"')
    assert len(found) == 1
    assert found[0].startswith("[webhooks] secret_file: ")


def test_secrets_do_not_stand_in_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-sixteen")
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(b"secret bytes of twenty-four").decode())
    (tmp_path / "password").write_text("a-password")
    text = '[http]\nenabled = true\ntoken_file = "token"\n[webhooks]\nurls = ["http://mes/"]\n'
    text += 'secret_file = "secret"\n[mqtt]\nusername = "bridge"\npassword_file = "password"'
    loaded = load(write(tmp_path, text))
    assert (loaded.http.token, loaded.mqtt.password) == ("a-token-of-sixteen", "a-password")
    assert loaded.webhooks.secret == b"secret bytes of twenty-four"
    for secret in ("a-token", "secret bytes", "a-password"):
        assert secret not in repr(loaded)


def test_systemds_credentials_take_the_place_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "http-token").write_text("credential-of-sixteen")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load(write(tmp_path, '[http]\nenabled = true\nhost = "::"')).http.token == "credential-of-sixteen"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *(("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("plant.example", False), ("", False)),  # noqa: S104
    ],
)
def test_which_hosts_are_this_machine_alone(host: str, loopback: bool) -> None:
    assert config.is_loopback(host) is loopback
