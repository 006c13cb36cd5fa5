"""The bridge as a whole: its command line, its end, its unit, and what it must not import."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_bridge import REPOSITORY, BridgeProcess, wait_until
from fixtures_broker import Broker

from deploy.bridge import config
from deploy.bridge.__main__ import CONFIG_PATH
from deploy.bridge.language import PortError
from device.errors import ConfigError, StorageError
from device.settings import read_toml

UNIT = REPOSITORY / "deploy" / "bridge" / "edgevision-bridge.service"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "deploy.bridge", *map(str, arguments)),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_wrong_file_and_a_wrong_command_line_have_their_codes(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text("[modbus]\nenabled = 1\n[http]\nprot = 1\n")
    done = run("--config", tmp_path / "bridge.toml")
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.splitlines()[:2] == [
        f"error: {tmp_path}/bridge.toml: [modbus] enabled: must be true or false, got 1",
        f"error: {tmp_path}/bridge.toml: [http] prot: unknown key; did you mean port?",
    ]
    assert run("--port", "1").returncode == 2


@pytest.mark.parametrize("section", ["modbus", "http", "metrics"])
def test_a_port_that_is_taken_is_said(make_bridge: Callable[[int], BridgeProcess], section: str) -> None:
    bridge = make_bridge(1)
    bridge.configure(**{section: 'units = ["1=press-4"]' if section == "modbus" else ""})
    with socket.create_server(("127.0.0.1", bridge.ports[section])):
        done = run("--config", bridge.config)
    assert done.returncode == PortError.exit_code
    assert f"error: [{section}] cannot listen on 127.0.0.1:{bridge.ports[section]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_is_said(make_bridge: Callable[[int], BridgeProcess]) -> None:
    bridge = make_bridge(1)
    (bridge.folder / "secret").write_text("whsec_" + "A" * 40)
    (bridge.folder / "state").write_text("a file")
    bridge.configure(webhooks='urls = ["http://mes/"]\nsecret_file = "secret"\nstate = "state"')
    done = run("--config", bridge.config)
    assert done.returncode == StorageError.exit_code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_also_with_clients_and_without_a_broker(
    make_bridge: Callable[[int], BridgeProcess], number: int
) -> None:
    bridge = make_bridge(1)
    bridge.configure(modbus='units = ["1=press-4"]', http="", metrics="")
    bridge.start()
    clients = [socket.create_connection(("127.0.0.1", port)) for port in bridge.ports.values()]
    assert bridge.stop(number) == 0
    for client in clients:
        client.close()
    assert "Traceback" not in bridge.log()


def test_it_waits_for_a_broker_that_is_not_there_yet(
    make_broker: Callable[..., Broker], make_bridge: Callable[[int], BridgeProcess]
) -> None:
    broker = make_broker()
    bridge = make_bridge(broker.port)
    bridge.configure(metrics="")
    bridge.start()
    wait_until(lambda: "cannot be reached: Connection refused" in bridge.log(), "the warning")
    broker.start()
    wait_until(
        lambda: re.search("as edgevision-bridge-[0-9a-f]{8}: connected", bridge.log()), "the connection"
    )
    assert bridge.log().count("WARNING") == 1


def test_nothing_of_the_stations_weight_is_imported() -> None:
    """Beside a broker there is no numpy, no OpenCV and no interpreter."""
    code = (
        "import sys, deploy.bridge.bridge\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'numpy', 'cv2', 'ai_edge_litert', 'tensorflow', 'trainer', 'picamera2'}))"
    )
    done = subprocess.run(
        (sys.executable, "-c", code), cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


# ---- the unit


def settings_of(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def test_the_unit_runs_what_there_is_and_leaves_a_wrong_file_to_people() -> None:
    [command] = settings_of("ExecStart")
    assert command.split()[1:] == ["-m", "deploy.bridge", "--config", str(CONFIG_PATH)]
    assert settings_of("RestartPreventExitStatus") == [f"2 {ConfigError.exit_code}"]
    defaults = read_toml(config.DEFAULT_PATH)
    ports = {f"tcp:{defaults[name]['port']}" for name in ("modbus", "http", "metrics")}
    assert set(settings_of("SocketBindAllow")) == ports
    assert defaults["webhooks"]["state"] == f"/var/lib/{settings_of('StateDirectory')[0]}"
    credentials = {line.partition(":")[0] for line in settings_of("LoadCredential")}
    assert credentials == set(config.CREDENTIALS.values())


def test_the_units_exposure_is_low() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    [exposure] = re.findall(r"Overall exposure level for edgevision-bridge\.service: ([0-9.]+)", done.stdout)
    assert float(exposure) <= 1.1
    verified = subprocess.run(
        ("systemd-analyze", "verify", str(UNIT)), capture_output=True, text=True, check=False
    )
    found = [line for line in verified.stderr.splitlines() if "not executable" not in line]
    assert found == []
