"""deploy/install.sh, killed at several moments of its work, in a Debian that boots in a container."""

from __future__ import annotations

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
