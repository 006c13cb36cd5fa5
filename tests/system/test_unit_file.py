"""systemd/edgevision.service, as far as it can be judged without booting."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from fixtures_daemon import REPOSITORY

from device import config, errors
from device.__main__ import CONFIG_PATH
from device.mqtt.publisher import FLUSH_S
from device.settings import read_toml

UNIT = REPOSITORY / "systemd" / "edgevision.service"
TMPFILES = UNIT.with_name("edgevision.tmpfiles")


def setting(name: str) -> str:
    """The value of the only line that sets `name`."""
    [value] = re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    return value


def test_systemd_finds_nothing_wrong_but_the_absent_binary() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ("systemd-analyze", "verify", str(UNIT)), capture_output=True, text=True, check=False
    )
    found = [
        line
        for line in done.stderr.splitlines()
        if not line.endswith("is not executable: No such file or directory")
    ]
    assert found == []


def test_what_a_person_must_mend_is_not_tried_again() -> None:
    codes = {2, *(kind.exit_code for kind in (errors.ConfigError, errors.BundleError, errors.SignatureError))}
    assert {int(code) for code in setting("RestartPreventExitStatus").split()} == codes
    assert setting("Restart") == "always"


def test_the_times_fit_those_of_the_service() -> None:
    assert int(setting("TimeoutStopSec")) > 2 * FLUSH_S
    assert int(setting("WatchdogSec")) > 1 / config.LIMITS["camera", "rate_hz"].low
    assert int(setting("WatchdogSec")) > config.LIMITS["camera", "timeout_s"].high


def test_the_folders_of_the_defaults_are_made() -> None:
    station = read_toml(config.DEFAULT_PATH)["station"]
    assert setting("ReadWritePaths").split() == [station["state"], station["runtime"]]
    made = [line.split() for line in TMPFILES.read_text("utf-8").splitlines() if line.startswith("d ")]
    for folder in (station["state"], station["runtime"]):
        assert [line[3:] for line in made if line[1] == folder] == [["edgevision", "edgevision"]]


def test_it_runs_what_the_command_line_offers() -> None:
    assert setting("ExecStart").split()[1:] == ["-m", "device", "run", "--config", str(CONFIG_PATH)]
    assert setting("Type") == "notify"


def test_its_exposure_stays_low() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    [exposure] = re.findall(r"Overall exposure level for edgevision\.service: ([0-9.]+)", done.stdout)
    assert float(exposure) <= 1.8


def test_the_template_differs_in_its_paths_alone() -> None:
    def body(text: str) -> str:
        return text[text.index("[Unit]") :]

    paths = {
        "visual inspection\n": "visual inspection, %i\n",
        "/etc/edgevision/config.toml\n": "/etc/edgevision/%i.toml\n",
        "/etc/edgevision/mqtt-password": "/etc/edgevision/%i-mqtt-password",
        "=/var/lib/edgevision ": "=/var/lib/edgevision/%i ",  # ReadWritePaths= and NoExecPaths=
    }
    expected = body(UNIT.read_text("utf-8"))
    for one, of_many in paths.items():
        assert one in expected
        expected = expected.replace(one, of_many)
    assert body(UNIT.with_name("edgevision@.service").read_text("utf-8")) == expected
        "/etc/edgevision/camera-password": "/etc/edgevision/%i-camera-password",
