"""systemd/edgevision.service, as far as it can be judged without booting."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

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


def problems_of(*units: Path) -> list[str]:
    """What systemd has against them, but for the program that is not installed here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ("systemd-analyze", "verify", *map(str, units))
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    return [line for line in said if not line.endswith("is not executable: No such file or directory")]


def test_systemd_finds_nothing_wrong_but_the_absent_binary() -> None:
    receive = (UNIT.with_name(f"edgevision-receive{kind}") for kind in (".socket", "@.service"))
    assert problems_of(UNIT, *receive) == []


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


def exposure(folder: Path, unit: str) -> float:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", str(folder / unit))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    [found] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    return float(found)


@pytest.mark.parametrize(
    ("unit", "most"),
    [("edgevision.service", 1.7), ("edgevision@.service", 1.7), ("edgevision-receive@.service", 0.7)],
)
def test_its_exposure_stays_low(unit: str, most: float) -> None:
    assert exposure(UNIT.parent, unit) <= most


def test_what_reads_bundles_is_closed_as_the_service_is() -> None:
    """Where they differ, the other is closed further, or says why not."""
    text = UNIT.read_text("utf-8")
    closed = re.findall(
        r"^\w+=.*$", text[text.index("# ---- closed") : text.index("# ---- rel")], re.MULTILINE
    )
    own = UNIT.with_name("edgevision-receive@.service").read_text("utf-8")
    assert len(closed) > 20
    missing = {line.partition("=")[0] for line in closed if f"\n{line}\n" not in own}
    assert missing == {"ProtectProc", "SocketBindDeny", "NoExecPaths"}
    assert "\nPrivateNetwork=yes\n" in own  # no port is anybody's but its own
    [paths] = re.findall(r"^NoExecPaths=(.*)$", own, re.MULTILINE)
    assert set(paths.split()) == set(setting("NoExecPaths").split()) - {"/run/edgevision"}  # not written


def test_the_drop_in_for_networks_is_one(tmp_path: Path) -> None:
    """Whoever copies it has a unit without a fault, which is no more open than before."""
    shutil.copy(UNIT, tmp_path)
    (tmp_path / "edgevision.service.d").mkdir()
    shutil.copy(UNIT.with_name("network.conf"), tmp_path / "edgevision.service.d")
    assert problems_of(tmp_path / UNIT.name) == []
    assert exposure(tmp_path, UNIT.name) <= 1.7
    for page in ("docs/guide/install.md", "systemd/network.conf"):
        assert "/etc/systemd/system/edgevision.service.d/network.conf" in (REPOSITORY / page).read_text()


def test_the_template_differs_in_its_paths_alone() -> None:
    def body(text: str) -> str:
        return text[text.index("[Unit]") :]

    paths = {
        "visual inspection\n": "visual inspection, %i\n",
        "/etc/edgevision/config.toml\n": "/etc/edgevision/%i.toml\n",
        "/etc/edgevision/mqtt-password": "/etc/edgevision/%i-mqtt-password",
        "/etc/edgevision/camera-password": "/etc/edgevision/%i-camera-password",
        "=/var/lib/edgevision ": "=/var/lib/edgevision/%i ",  # ReadWritePaths= and NoExecPaths=
    }
    expected = body(UNIT.read_text("utf-8"))
    for one, of_many in paths.items():
        assert one in expected
        expected = expected.replace(one, of_many)
    assert body(UNIT.with_name("edgevision@.service").read_text("utf-8")) == expected
