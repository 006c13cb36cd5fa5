"""config.toml over default.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY

from device import config
from device.errors import ConfigError
from device.image.geometry import Polygon
from device.image.region_of_interest import EVERYTHING
from device.settings import keys

TEXT = config.DEFAULT_PATH.read_text("utf-8")
TABLES = tomllib.loads(TEXT)


def load(folder: Path, text: str) -> config.Config:
    path = folder / "config.toml"
    path.write_text(text)
    return config.load(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).splitlines()


def test_the_default_is_legal_by_its_own_limits(tmp_path: Path) -> None:
    loaded = load(tmp_path, config.DEFAULT_PATH.read_text("utf-8"))
    assert loaded == load(tmp_path, "")
    assert loaded.mqtt.port == 1883
    assert loaded.model.threads is None


def test_every_limit_is_about_a_key_and_every_key_has_a_sentence() -> None:
    known = {(section, key) for section, table in TABLES.items() for key in table}
    assert set(config.LIMITS) <= known
    without = [
        key for _, key in known if not re.search(rf"^#.*\n{key} = ", TEXT, re.MULTILINE) and key != "port"
    ]
    assert without == []


def test_a_key_has_the_same_default_at_its_field_and_in_the_file() -> None:
    fields = {name: keys(*kinds) for name, kinds in config.SECTIONS.items()}
    assert {name: {key: one.default for key, one in held.items()} for name, held in fields.items()} == TABLES
    types = {(name, key): type(one.default) for name, held in fields.items() for key, one in held.items()}
    assert types == {
        (name, key): type(value) for name, table in TABLES.items() for key, value in table.items()
    }


def test_the_station_names_the_client(tmp_path: Path) -> None:
    assert load(tmp_path, '[station]\nname = "press-4"').mqtt.client_id == ""  # the station draws one
    assert load(tmp_path, '[station]\nname = "press-4"\n[mqtt]\nclient_id = "x"').mqtt.client_id == "x"
    assert re.fullmatch(r"[A-Za-z0-9._-]+", load(tmp_path, "").station)


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\n")
    text = '[bundle]\npath = "b"\n[camera]\nsource = "/x/y"\n[mqtt]\nusername = "u"\npassword_file = "secret"'
    loaded = load(tmp_path, text)
    assert loaded.bundle == tmp_path / "b"
    assert loaded.camera.source == "/x/y"
    assert loaded.mqtt.password_file == tmp_path / "secret"
    assert loaded.mqtt.password == "pass word"
    assert "pass word" not in repr(loaded)


def test_the_message_names_file_section_key_and_value(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert problems(tmp_path, '[mqtt]\nkeepalive_s = -1\nprot = 1883\n[camera]\nkind = "usb"\n') == [
        f"{path}: [mqtt] keepalive_s: must be 5..3600, got -1",
        f"{path}: [mqtt] prot: unknown key; did you mean port?",
        f'{path}: [camera] kind: must be one of "replay", "opencv", "picamera2", got "usb"',
    ]


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a/+/b", "#", "$SYS", "a b", "a" * 70_000])
def test_a_prefix_that_is_no_topic(tmp_path: Path, prefix: str) -> None:
    [problem] = problems(tmp_path, f'[mqtt]\nprefix = "{prefix}"')
    assert "[mqtt] prefix: must be topic levels" in problem


@pytest.mark.parametrize("prefix", ["edgevision", "plant/hall-2/edgevision", "a$"])
def test_a_prefix_that_is_a_topic(tmp_path: Path, prefix: str) -> None:
    assert load(tmp_path, f'[mqtt]\nprefix = "{prefix}"').mqtt.prefix == prefix


@pytest.mark.parametrize("name", ["a/b", "a b", "+", "#", "x" * 65, "käse"])
def test_a_station_that_is_no_topic_level(tmp_path: Path, name: str) -> None:
    [problem] = problems(tmp_path, f'[station]\nname = "{name}"')
    assert "[station] name: must be empty, or 1..64 letters" in problem


def test_a_frame_cannot_be_due_after_the_camera_counts_as_dead(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "[camera]\nrate_hz = 0.1\n")
    assert problem.endswith("[camera] timeout_s: must be more than 1/rate_hz = 10, got 5")
    assert load(tmp_path, "[camera]\nrate_hz = 0.1\ntimeout_s = 11").camera.rate_hz == 0.1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        (b"", "must hold the password on its first line, got nothing"),
        (b"\xff\n", "must be UTF-8 text"),
    ],
)
def test_a_password_file_without_a_password(tmp_path: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "pw").write_bytes(content)
    text = '[mqtt]\nusername = "u"\npassword_file = "pw"\nport = 0\n'
    assert problems(tmp_path, text) == [
        f"{tmp_path}/config.toml: [mqtt] port: must be 1..65535, got 0",
        f"{tmp_path}/config.toml: [mqtt] password_file: {tmp_path}/pw: {problem}",
    ]


def test_a_byte_order_mark_is_no_part_of_the_password(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"\xef\xbb\xbfpass word\r\n")
    loaded = load(tmp_path, '[mqtt]\nusername = "u"\npassword_file = "pw"')
    assert loaded.mqtt.password == "pass word"


@pytest.mark.parametrize(
    "key", ["[station]\nstate", "[station]\nruntime", "[bundle]\npath", "[camera]\nsource", "[mqtt]\nca_file"]
)
def test_a_home_that_nobody_expands_is_refused(tmp_path: Path, key: str) -> None:
    [problem] = problems(tmp_path, f'{key} = "~/x"')
    assert "a path, and not with a ~" in problem
    assert problem.endswith('got "~/x"')


@pytest.mark.parametrize("host", ["localhost:1883", "mqtt://broker", "10.0.0.9:1883", "a b", ""])
def test_a_host_that_is_none(tmp_path: Path, host: str) -> None:
    [problem] = problems(tmp_path, f'[mqtt]\nhost = "{host}"')
    assert "[mqtt] host: must be a host name or an address by itself" in problem


@pytest.mark.parametrize("host", ["localhost", "broker.plant", "10.0.0.9", "::1", "fe80::1%eth0"])
def test_a_host_that_is_one(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, f'[mqtt]\nhost = "{host}"').mqtt.host == host


def test_a_password_without_a_user(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("secret")
    [problem] = problems(tmp_path, '[mqtt]\npassword_file = "pw"')
    assert problem.endswith("[mqtt] password_file: needs a username beside it")


def test_commands_are_off_and_must_be_allowed_by_name(tmp_path: Path) -> None:
    assert load(tmp_path, "").commands.enabled is False
    assert load(tmp_path, "").home_assistant.enabled is False
    [problem] = problems(tmp_path, "[commands]\nenabled = true")
    assert problem.endswith("[commands] allow: must name one command or more where they are enabled, got []")
    [problem] = problems(tmp_path, '[commands]\nallow = ["shutdown"]')
    assert "[commands] allow: every item must be one of " in problem
    text = '[commands]\nenabled = true\nallow = ["trigger", "reload"]'
    assert load(tmp_path, text).commands.allow == ("trigger", "reload")


ALL_COMMANDS = (
    '[commands]\nenabled = true\nallow = ["trigger", "rebirth", "reload", "threshold", "model", "rollback", '
    '"review", "picture", "acknowledge"]\n'
)


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("", {"trigger", "picture"}),
        ('[trigger]\nkind = "gpio"\npin = 4\n[archive]\npublish_image_max_bytes = 20000\n', set()),
        (
            '[trigger]\nkind = "interval"\n[archive]\nmax_bytes = 0\npublish_image_max_bytes = 20000\n',
            {"review", "picture"},
        ),
        ('[bundle]\npath = "alone"\n', {"trigger", "picture", "model", "rollback"}),
    ],
)
def test_a_command_that_can_do_nothing_here_is_not_offered(tmp_path: Path, text: str, idle: set[str]) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "manifest.json").touch()
    found = load(tmp_path, ALL_COMMANDS + text)
    assert set(found.commands.allow) - set(found.offered) == idle
    assert load(tmp_path, text).offered == ()


def test_an_address_is_no_path(tmp_path: Path) -> None:
    source = "rtsp://u:p@10.0.0.9/stream"
    assert load(tmp_path, f'[camera]\nkind = "opencv"\nsource = "{source}"').camera.source == source
    assert load(tmp_path, '[camera]\nsource = "images"').camera.source == str(tmp_path / "images")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[camera]\ngain_ratio = 2.0", "[camera] gain_ratio: is for kind picamera2, got kind replay"),
        (
            '[camera]\nkind = "opencv"\nfaults = ["1:drop"]',
            "[camera] faults: is for kind replay, got kind opencv",
        ),
        (
            '[camera]\nkind = "picamera2"\nrate_hz = 50.0\nexposure_us = 30000',
            "[camera] exposure_us: must be at most 1e6/rate_hz = 20000, got 30000",
        ),
        (
            '[camera]\nkind = "opencv"\nwidth_px = 640',
            "[camera] width_px: must be given together with height_px",
        ),
        (
            '[camera]\nkind = "picamera2"\ncolour_gains = [2.0]',
            "[camera] colour_gains: must be [red, blue], both above 0 or both 0",
        ),
        (
            '[camera]\nkind = "picamera2"\ncolour_gains = [2, 0]',
            "[camera] colour_gains: must be [red, blue], both above 0 or both 0",
        ),
        (
            '[camera]\nfaults = ["soon:drop"]',
            '[camera] faults: every item must be "WHEN:WHAT" as "120:stall:2.0"',
        ),
        (
            '[trigger]\nkind = "gpio"\npin = 4\n[outputs]\nready_pin = 4',
            "[trigger] pin: must be another pin than [outputs] ready_pin, got 4 for both",
        ),
        (
            "[outputs]\nreject_pin = 4\nbusy_pin = 4",
            "[outputs] busy_pin: must be another pin than [outputs] reject_pin, got 4 for both",
        ),
        ('[outputs]\nreject_on = ["OK"]', "[outputs] reject_on: "),
    ],
)
def test_what_a_camera_a_trigger_or_an_output_cannot_be(tmp_path: Path, text: str, problem: str) -> None:
    [found] = problems(tmp_path, text)
    assert problem in found


def test_everything_that_is_not_ok_is_thrown_out_by_default(tmp_path: Path) -> None:
    assert load(tmp_path, "").outputs.reject_on == ("NG", "MARGINAL", "ERROR")


def test_where_to_look(tmp_path: Path) -> None:
    text = "[inspection]\nroi = [[[1, 2], [3, 4], [5, 0]]]\nignore = [[[0, 0], [1, 1], [0, 1], [9, 9]]]\n"
    region = load(tmp_path, text).inspection.region
    assert region.roi == (Polygon(((1, 2), (3, 4), (5, 0))),)
    assert region.ignore[0].corners[3] == (9, 9)
    assert load(tmp_path, "").inspection.region == EVERYTHING


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("[[1, 2], [3, 4], [5, 0]]", "polygon 1 must be a list of 3 corners [x, y] or more, got [1, 2]"),
        ("[[[1, 2], [3, 4]]]", "polygon 1 must be a list of 3 corners [x, y] or more, got [[1, 2], [3, 4]]"),
        ("[[[1, 2, 3], [3, 4, 5], [1, 1, 1]]]", "polygon 1 must be a list of 3 corners"),
        ("[[[1, 2], [3, 4], [5, -1]]]", "must be 0..65535, got -1"),
        ("[[[1.5, 2.0], [3.0, 4.0], [5.0, 1.0]]]", "polygon 1 must be"),
        ("7", "must be an array, got 7"),
    ],
)
def test_a_polygon_that_is_none(tmp_path: Path, value: str, problem: str) -> None:
    [found] = problems(tmp_path, f"[inspection]\nroi = {value}\n")
    assert found.startswith(f"{tmp_path}/config.toml: [inspection] roi: ")
    assert problem in found


def test_more_votes_cannot_be_needed_than_there_are(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "[verdict]\nvotes_needed = 3\nvotes_of = 2\n")
    assert problem.endswith("[verdict] votes_needed: must be at most votes_of = 2, got 3")
    assert load(tmp_path, "[verdict]\nvotes_needed = 2\nvotes_of = 2\n").verdict.votes_of == 2
    [problem] = problems(tmp_path, "[commands]\nthreshold_min = 0.6\nthreshold_max = 0.5\n")
    assert problem.endswith("[commands] threshold_min: must be at most threshold_max = 0.5, got 0.6")


def test_no_station_is_called_as_a_user_of_the_broker_with_other_rights(tmp_path: Path) -> None:
    rules = (REPOSITORY / "deploy/mosquitto/acl").read_text()
    assert set(re.findall(r"^user (\S+)$", rules, re.MULTILINE)) == config.ROLES
    for role in config.ROLES:
        with pytest.raises(ConfigError, match=rf"\[station\] name: must not be one of .*, got {role}"):
            load(tmp_path, f'[station]\nname = "{role}"')
