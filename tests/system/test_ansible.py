"""deploy/ansible: both playbooks against a container, over a real ssh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY, write_images
from fixtures_signature import make_key
from fixtures_systemd import WHEELS, Machine, ssh_config

STATE = "/var/lib/edgevision"
USER = "technician"
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


@dataclass
class Plant:
    """The container as the only station of an inventory."""

    machine: Machine
    folder: Path
    key: Path

    def play(self, name: str, *options: str) -> tuple[int, str]:
        """(the stations that were changed, all that was printed); the play must succeed."""
        playbook = REPOSITORY / "deploy/ansible" / name
        command = (str(PLAYBOOK), "-i", str(self.folder / "inventory.yml"), str(playbook), *options)
        done = subprocess.run(
            self.machine.beside(*command),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(self.folder), "ANSIBLE_NOCOLOR": "1"},
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        [changed] = re.findall(r"^station +: ok=\d +changed=(\d)", printed, re.MULTILINE)
        return int(changed), printed


@pytest.fixture(scope="module")
def plant(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Plant:
    if not PLAYBOOK.exists() or shutil.which("ssh") is None:
        pytest.skip("ansible-playbook or ssh is not installed")
    folder = tmp_path_factory.mktemp("plant")
    key = make_key(folder, "technician")
    config = ssh_config(machine, folder, USER, key)
    machine.path("/etc/sudoers.d/technician").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    machine.path("/etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {WHEELS}\n")
    (folder / "allowed_signers").write_text(f"quality@plant {key.with_suffix('.pub').read_text()}")
    (folder / "inventory.yml").write_text(
        "stations:\n  hosts:\n    station:\n      ansible_host: station\n  vars:\n"
        f"    ansible_user: {USER}\n    edgevision_ssh_config: {config}\n"
        f"    edgevision_signers: {folder}/allowed_signers\n    edgevision_push_user: {USER}\n"
    )
    return Plant(machine, folder, key)


def test_check_changes_nothing(plant: Plant) -> None:
    changed, _ = plant.play("install.yml", "--check")
    assert changed == 0
    assert not plant.machine.path("/opt/edgevision").exists()


def test_installed_once_and_then_left_as_it_is(plant: Plant) -> None:
    assert plant.play("install.yml")[0] == 1
    assert plant.machine.path("/opt/edgevision/current/device/service.py").exists()
    assert "allowed_signers" in plant.machine.path("/etc/edgevision/config.toml").read_text()
    assert plant.play("install.yml")[0] == 0


def test_a_model_is_pushed_once(plant: Plant, tiny_model: TinyModel) -> None:
    machine = plant.machine
    write_images(machine.path(f"{STATE}/images"), "oon")
    config = machine.path("/etc/edgevision/config.toml")
    replay = 'kind = "replay"\nloop = true\nrate_hz = 20.0'
    config.write_text(config.read_text().replace('kind = "replay"', replay))
    bundle = tiny_model.write(plant.folder / "made")
    options = ("-e", f"bundle={bundle}", "-e", f"key={plant.key}")
    assert plant.play("push.yml", *options)[0] == 1
    assert machine.path(f"{STATE}/models/current").readlink().name == bundle.name
    assert machine.show("edgevision.service", "ActiveState") == "active"
    assert plant.play("push.yml", *options)[0] == 0


@pytest.mark.parametrize(("file", "code"), [("passwords/{{ inventory_hostname }}", 0), ("password", 2)])
def test_stations_share_no_account(tmp_path: Path, file: str, code: int) -> None:
    """With another file for each station the play goes on; to an address that nobody has, and as --check."""
    if not PLAYBOOK.exists():
        pytest.skip("ansible-playbook is not installed")
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(
        "stations:\n  hosts:\n    press-4:\n    press-5:\n  vars:\n"
        f'    edgevision_password_file: "{tmp_path}/{file}"\n'
    )
    playbook = REPOSITORY / "deploy/ansible/install.yml"
    done = subprocess.run(
        (str(PLAYBOOK), "-i", str(inventory), str(playbook), "--check", "--tags", "passwords"),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path), "ANSIBLE_NOCOLOR": "1"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("must be another file for each station" in done.stdout) == bool(code)
