"""deploy/install.sh --bridge and its unit under a real systemd, in a container."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fixtures_systemd import SOURCE, WHEELS, Machine

UNIT = "edgevision-bridge.service"
BAD = "/root/changed-wheels"


def install(machine: Machine, wheels: str | Path, *options: str, code: int = 0) -> str:
    command = (str(SOURCE / "deploy/install.sh"), "--bridge", "--wheels", str(wheels), *options)
    done = machine.run(*command, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_package_that_was_exchanged_is_not_installed(machine: Machine) -> None:
    shutil.copytree(machine.path(WHEELS), machine.path(BAD))
    [wheel] = machine.path(BAD).glob("paho_mqtt-*.whl")
    with wheel.open("ab") as file:
        file.write(b"\0")
    assert "DO NOT MATCH THE HASHES" in install(machine, BAD, code=1)
    assert not machine.path("/opt/edgevision-bridge/current").exists()


def test_it_answers_from_inside_its_unit(machine: Machine) -> None:
    machine.run("systemctl", "start", "mosquitto")
    first = install(machine, WHEELS)
    assert machine.show(UNIT, "ActiveState") == "active"
    assert "write " not in install(machine, WHEELS), first
    ask = (
        "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9108/metrics').read().decode())"
    )
    machine.wait(
        lambda: "edgevision_bridge_broker_connected 1.0" in machine.out("python3", "-c", ask), "the broker"
    )
    exposure = machine.out("systemd-analyze", "security", "--no-pager", UNIT)
    assert float(re.findall(r"Overall exposure level for \S+: ([0-9.]+)", exposure)[0]) <= 1.1


def test_it_goes_and_leaves_what_is_yours(machine: Machine) -> None:
    install(machine, WHEELS, "--uninstall")
    assert machine.show(UNIT, "LoadState") == "not-found"
    assert machine.path("/etc/edgevision/bridge.toml").exists()
    install(machine, WHEELS, "--uninstall", "--purge")
    assert list(machine.path("/etc/edgevision").iterdir()) == []
    assert machine.run("getent", "passwd", "edgevision-bridge", check=False).returncode != 0
