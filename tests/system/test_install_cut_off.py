"""deploy/install.sh, killed at several moments of its work, in a Debian that boots in a container."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from fixtures_daemon import REPOSITORY
from fixtures_systemd import SOURCE, WHEELS, Machine

INSTALL = (str(SOURCE / "deploy/install.sh"), "--wheels", str(WHEELS))
CURRENT = "/opt/edgevision/current"


def test_cut_off_anywhere_the_next_run_finishes_and_what_is_in_use_is_whole(machine: Machine) -> None:
    for after_s in (0.3, 1.5, 4.0, 7.0):
        machine.run("timeout", "-s", "KILL", str(after_s), *INSTALL, check=False)
        if machine.path(CURRENT).is_symlink():  # whatever it leads to can be run
            machine.run("env", "-C", CURRENT, f"{CURRENT}/.venv/bin/python", "-m", "device", "--help")
    done = machine.run(*INSTALL, check=False)
    assert done.returncode == 4, done.stdout + done.stderr  # there is no bundle yet
    release = machine.path(CURRENT).readlink()
    assert machine.path(f"/opt/edgevision/{release}/.complete").exists()
    machine.run("env", "-C", CURRENT, f"{CURRENT}/.venv/bin/python", "-c", "import device.service")


@pytest.mark.parametrize("cut_at", ["mosquitto_passwd", "install", "sync", "mv"])
def test_cut_off_anywhere_the_brokers_password_is_not_on_the_card(tmp_path: Path, cut_at: str) -> None:
    """Killed in any command that it runs: what lies in Mosquitto's folder, or in /tmp, names no password."""
    card, memory = tmp_path / "card", tmp_path / "run"
    for folder in (card / "mosquitto/conf.d", card / "tmp", memory):
        folder.mkdir(parents=True)
    (tmp_path / "password").write_text("open sesame\n")
    text = (REPOSITORY / "deploy/install.sh").read_text()
    functions = [
        re.search(rf"^{name}\(\) \{{.*?^\}}", text, re.MULTILINE | re.DOTALL).group()
        for name in ("install_mosquitto", "access_rules", "put")
    ]
    script = (
        "\n".join(functions).replace("/etc/mosquitto", f"{card}/mosquitto").replace(" /run)", f" {memory})")
    )
    stubs = f"""
        ROOT={REPOSITORY} dry_run=''
        say() {{ :; }}
        run() {{ :; }}
        station() {{ echo press-4; }}
        password() {{ echo {tmp_path}/password; }}
        mosquitto_passwd() {{ cut_off mosquitto_passwd; sed -i 's/:.*/:$7$hashed/' "$2"; }}
        install() {{ cut_off install "$@"; cp "${{@: -2:1}}" "${{@: -1}}"; }}
        sync() {{ cut_off sync "$@"; }}
        mv() {{ cut_off mv "$@"; command mv "$@"; }}
        cut_off() {{ [[ $1 != {cut_at} || $* != *passwd* ]] || kill -9 $$; }}
    """
    line = ("bash", "-c", f"set -euo pipefail\n{stubs}\n{script}\ninstall_mosquitto")
    done = subprocess.run(line, env={**os.environ, "TMPDIR": str(card / "tmp")}, check=False)
    assert done.returncode == -signal.SIGKILL
    written = [path for path in card.rglob("*") if path.is_file()]
    assert written, "it had begun"
    assert not [path for path in written if b"open sesame" in path.read_bytes()]
