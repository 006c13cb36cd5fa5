"""deploy/install.sh where others have put links: root changes nothing that they lead to.

Each link is planted by the user who may: the service's, in its state and runtime folders, and one who may
push, beside the upload folders. What a link leads to keeps its owner, mode and content through every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fixtures_systemd import SOURCE, WHEELS, Machine

STATE = "/var/lib/edgevision"
INCOMING = "/var/lib/edgevision-incoming"
RUNTIME = "/run/edgevision"
PUSHER = "pusher"
INSTALL = (str(SOURCE / "deploy/install.sh"), "--wheels", str(WHEELS))
TARGETS = "/srv/targets"


@dataclass
class Trap:
    """The links that were planted, and what they lead to."""

    machine: Machine
    planted: int = 0

    def plant(self, user: str, path: str) -> None:
        """As `user`, a link in place of whatever is at the path, to a folder (and its file) of root's own."""
        target = f"{TARGETS}/{self.planted}"
        self.planted += 1
        script = f"mkdir -p -m 711 {target} && echo secret >{target}/file && chmod 600 {target}/file"
        self.machine.run("sh", "-c", script)
        self.machine.run("rm", "-rf", "--", path, user=user)
        self.machine.run("ln", "-s", target, path, user=user)

    def state(self) -> str:
        """Owner, mode and content of all that the links lead to."""
        listed = self.machine.out("find", TARGETS, "-printf", "%u:%g %m %s %P\n")
        return "\n".join(sorted(listed.splitlines()))


@pytest.fixture
def trap(machine: Machine) -> Trap:
    machine.run("useradd", "-m", PUSHER)
    done = machine.run(*INSTALL, "--push-user", PUSHER, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    return Trap(machine)


def test_root_follows_no_link_of_anybody_else(trap: Trap) -> None:
    machine = trap.machine
    for name in ("root", "edgevision", "somebody"):
        trap.plant(PUSHER, f"{INCOMING}/{name}")
    inside = machine.out("find", STATE, RUNTIME, "-mindepth", "1", "-maxdepth", "2").splitlines()
    instance = [f"{STATE}/top", f"{RUNTIME}/top"]
    files = [
        f"{STATE}/{name}" for name in ("push.log", "outbox.db", "counters.json", "images", "learned.jsonl")
    ]
    assert f"{STATE}/models" in inside
    for path in sorted({*inside, *instance, *files}, reverse=True):
        trap.plant("edgevision", path)
    before = trap.state()
    bundle = SOURCE / "deploy/demo/bundle/current"
    for options in (
        (),
        ("--bundle", str(bundle)),
        ("--instance", "top"),
        ("--instance", "top", "--bundle", str(bundle)),
        ("--uninstall", "--instance", "top", "--purge"),
        ("--uninstall",),
        (),
        ("--uninstall", "--purge"),
    ):
        done = machine.run(*INSTALL, *options, check=False)
        assert "Traceback" not in done.stderr
        assert trap.state() == before, options
    assert not machine.path(STATE).exists()
    assert machine.run("getent", "passwd", "edgevision", check=False).returncode != 0


def test_the_instances_folders_are_not_made_by_root(machine: Machine) -> None:
    """StateDirectory= and RuntimeDirectory= would follow a link in a folder of the service's user."""
    for unit in ("edgevision.service", "edgevision@.service"):
        text = machine.path(SOURCE / "systemd" / unit).read_text()
        keys = {line.partition("=")[0] for line in text.splitlines()}
        assert not keys & {"StateDirectory", "RuntimeDirectory", "CacheDirectory", "LogsDirectory"}


def test_purged_twice_it_is_still_done(machine: Machine) -> None:
    for _ in range(2):
        assert machine.run(*INSTALL, "--uninstall", "--purge", check=False).returncode == 0
