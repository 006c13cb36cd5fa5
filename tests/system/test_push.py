"""deploy/push.sh over a real ssh to a station under a real systemd in a container: good days and bad ones."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fixtures_bundle import TinyModel, make_bundle
from fixtures_daemon import REPOSITORY, write_images
from fixtures_signature import make_key, sign
from fixtures_systemd import SOURCE, WHEELS, Machine, ssh_config

from device.bundle import manifest
from device.bundle.bundle import GoldenSpec

UNIT = "edgevision.service"
STATE = "/var/lib/edgevision"
INCOMING = "/var/lib/edgevision-incoming"
CONFIG = "/etc/edgevision/config.toml"
PUSHER = "pusher"
BALLAST_BYTES = 6_000_000  # a bundle large enough for an upload to be cut in the middle
# Cut pushes. All 50 take some minutes: EDGEVISION_CUTS=50 tests/run.sh -k cut_off
CUTS = int(os.environ.get("EDGEVISION_CUTS", "8"))
SEED = 20260101


@dataclass
class Site:
    """An installed station with sshd and a broker, and the workstation that pushes to it."""

    machine: Machine
    model: TinyModel
    folder: Path
    key: Path
    ssh_config: Path
    created: datetime = datetime(2026, 4, 1, tzinfo=UTC)

    def bundle(self, **changes: Any) -> Path:
        """A new bundle, younger than all before it."""
        self.created += timedelta(minutes=1)
        created = self.created.isoformat().replace("+00:00", "Z")
        extra = changes.pop("extra", {})
        calibration = replace(self.model.calibration, created=created, **changes)

        golden = {"golden-0.png": self.model.golden}
        return make_bundle(self.folder / "made", "tiny", self.model.content, calibration, golden, extra)

    def command(self, action: str, *arguments: str | Path, signed: bool = True) -> tuple[str, ...]:
        key = ("--key", str(self.key)) if action == "push" and signed else ()
        options = ("--json", "--ssh-config", str(self.ssh_config), *key)
        return self.machine.beside(str(REPOSITORY / "deploy/push.sh"), action, *options, *map(str, arguments))

    def push(self, *arguments: str | Path, **options: bool) -> dict[str, Any]:
        return self.run("push", *arguments, **options)

    def run(self, action: str, *arguments: str | Path, **options: bool) -> dict[str, Any]:
        """The command's JSON, with its exit code as `exit` and its stderr as `said`."""
        command = self.command(action, *arguments, **options)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        content = json.loads(done.stdout) if done.stdout else {}
        return {**content, "exit": done.returncode, "said": done.stderr}

    def active(self) -> str:
        return self.machine.path(f"{STATE}/models/current").readlink().name

    def at_work(self) -> str:
        """The version of the model behind the newest verdict."""
        return str(self.verdicts(1)[0]["model"]["version"])

    def verdicts(self, count: int) -> list[dict[str, Any]]:
        command = ("mosquitto_sub", "-h", "127.0.0.1", "-t", "edgevision/station/inspection", "-W", "60")
        return [json.loads(line) for line in self.machine.out(*command, "-C", str(count)).splitlines()]

    @contextmanager
    def no_verdict_missing(self) -> Iterator[None]:
        """Every frame of what happens inside has its verdict, and the process stays the same."""
        process = self.machine.show(UNIT, "MainPID")
        command = ("mosquitto_sub", "-h", "127.0.0.1", "-t", "edgevision/station/inspection")
        whole = ("nsenter", "-t", str(self.machine.pid), "-a", *command)
        with subprocess.Popen(whole, stdout=subprocess.PIPE, text=True) as listener:
            assert listener.stdout is not None
            first = json.loads(listener.stdout.readline())
            yield
            last = self.verdicts(1)[0]["seq"]
            seen = [first["seq"]]
            while seen[-1] < last:
                seen.append(json.loads(listener.stdout.readline())["seq"])
            listener.terminate()
        assert seen == list(range(first["seq"], last + 1))
        assert self.machine.show(UNIT, "MainPID") == process

    def require_whole(self) -> None:
        """What the station runs is whole and signed, and inspects."""
        found = self.run("verify", "station")
        assert found["ok"], found
        assert self.machine.show(UNIT, "ActiveState") == "active"
        assert self.at_work() in self.active()


@pytest.fixture(scope="module")
def site(machine: Machine, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Site:
    for tool in ("ssh", "ssh-keygen"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("workstation")
    key = make_key(folder, "quality")
    signers = machine.path("/root/allowed_signers")
    signers.write_text(f"quality@plant {key.with_suffix('.pub').read_text()}")
    config = ssh_config(machine, folder, PUSHER, key)
    install = (str(SOURCE / "deploy/install.sh"), "--wheels", str(WHEELS))
    done = machine.run(*install, "--signers", "/root/allowed_signers", "--push-user", PUSHER, check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    write_images(machine.path(f"{STATE}/images"), "oono")
    machine.run("chown", "-R", "edgevision:", f"{STATE}/images")
    machine.path(CONFIG).write_text(
        '[station]\nname = "station"\n[bundle]\nsigners = "/etc/edgevision/allowed_signers"\n'
        f'[camera]\nsource = "{STATE}/images"\nrate_hz = 20.0\nloop = true\n[mqtt]\nhost = "127.0.0.1"\n'
    )
    machine.run("systemctl", "start", "mosquitto")
    return Site(machine, tiny_model, folder, key, config)


def test_the_first_push_starts_a_station_that_had_no_model(site: Site) -> None:
    bundle = site.bundle()
    pushed = site.push(bundle, "station")
    assert pushed["exit"] == 0, pushed
    assert pushed["hosts"][0]["signer"] == "quality@plant"
    assert (
        pushed["hosts"][0]["running"] is False
    )  # it was left down by its missing bundle, and is started now
    assert site.at_work() in bundle.name
    assert int(site.machine.show("edgevision-receive.socket", "NAccepted")) == 1  # closed: test_systemd.py
    site.require_whole()


def test_the_next_one_is_tried_on_live_frames_and_can_be_taken_back(site: Site) -> None:
    before, bundle = site.active(), site.bundle()
    with site.no_verdict_missing():
        pushed = site.push(bundle, "station")
    assert (pushed["exit"], pushed["ok"], pushed["hosts"][0]["running"]) == (0, True, True), pushed
    assert site.at_work() in bundle.name
    listed = site.run("list", "station")["hosts"][0]["bundles"]
    assert [(entry["bundle"], entry["role"]) for entry in listed[:2]] == [
        (bundle.name, "current"),
        (before, "previous"),
    ]
    with site.no_verdict_missing():
        back = site.run("rollback", "station")
    assert back["exit"] == 0, back
    assert site.at_work() in before
    status = site.run("status", "station")["hosts"][0]
    assert status["model"]["bundle"] == before
    log = [json.loads(line) for line in site.machine.path(f"{STATE}/push.log").read_text().splitlines()]
    assert [(line["by"], line["action"], line["result"]) for line in log[-4:]] == [
        (PUSHER, "install", "begun"),
        (PUSHER, "install", "done"),
        (PUSHER, "rollback", "begun"),
        (PUSHER, "rollback", "done"),
    ]


def test_what_is_not_trusted_never_reaches_the_service(site: Site, tmp_path: Path) -> None:
    active = site.active()
    unsigned = site.bundle()
    refused = site.push(unsigned, "station", signed=False)
    assert (refused["exit"], site.active()) == (13, active), refused
    assert "unsigned bundles are refused" in refused["hosts"][0]["reason"]
    sign(unsigned, make_key(tmp_path, "stranger"))
    refused = site.push(unsigned, "station", signed=False)
    assert refused["exit"] == 13
    assert "a key that is not in" in refused["hosts"][0]["reason"]
    with (unsigned / "calibration.json").open("a") as file:
        file.write("\n")
    refused = site.push(unsigned, "station")
    assert refused["exit"] == 4
    assert "calibration.json" in refused["said"]
    site.require_whole()
    assert site.active() == active


def test_an_older_one_is_no_update(site: Site) -> None:
    old = site.bundle()
    assert site.push(site.bundle(), "station")["exit"] == 0
    refused = site.push(old, "station")
    assert refused["exit"] == 4
    assert f"{old.name}: must not be older than" in refused["hosts"][0]["reason"]


def test_what_was_changed_on_the_way_is_refused_there(site: Site) -> None:
    bundle = site.bundle()
    sign(bundle, site.key)
    with (bundle / "calibration.json").open("r+") as file:
        file.write(" ")
    there = site.machine.path(f"{INCOMING}/{PUSHER}/{bundle.name}")
    shutil.copytree(bundle, there)
    site.machine.run("chmod", "-R", "a+rX", f"{INCOMING}/{PUSHER}/{bundle.name}")
    receive = ("sudo", "-n", "-u", "edgevision", "/opt/edgevision/receive", "install", bundle.name)
    done = site.machine.run(*receive, user=PUSHER, check=False)
    assert done.returncode == 4
    assert "calibration.json: damaged or changed" in done.stderr
    shutil.rmtree(there)


def test_a_pusher_may_do_nothing_else(site: Site) -> None:
    for command in (("sudo", "-n", "id"), ("sudo", "-n", "-u", "edgevision", "id")):
        assert site.machine.run(*command, user=PUSHER, check=False).returncode != 0
    for path in (f"{STATE}/models", "/etc/edgevision/mqtt-password", f"{STATE}/push.log"):
        assert site.machine.run("cat", path, user=PUSHER, check=False).returncode != 0


def test_a_model_that_fails_its_golden_images(site: Site) -> None:
    active = site.active()
    [vector] = site.model.calibration.golden.vectors
    bad = site.bundle(golden=GoldenSpec(0.02, (replace(vector, score=vector.score / 3),)))
    with site.no_verdict_missing():
        refused = site.push(bad, "station")
    assert refused["exit"] == 4, refused
    assert "must score" in refused["hosts"][0]["reason"]
    assert site.active() == active


def test_a_model_that_is_too_slow_is_rolled_back_without_a_missed_frame(site: Site) -> None:
    active = site.active()
    config = site.machine.path(CONFIG)
    text = config.read_text()
    config.write_text(f"{text}[model]\nlatency_budget_ms = 0.001\n")
    site.machine.run("systemctl", "restart", UNIT)
    try:
        with site.no_verdict_missing():
            refused = site.push(site.bundle(), "station")
    finally:
        config.write_text(text)
        site.machine.run("systemctl", "restart", UNIT)
    assert refused["exit"] == 15, refused
    assert "latency_budget_ms" in refused["hosts"][0]["reason"]
    assert site.active() == active
    assert site.at_work() in active


def test_the_canary_first_and_none_after_a_failure(site: Site) -> None:
    bundle = site.bundle()
    stopped = site.push(bundle, "away", "station")
    assert stopped["exit"] == 16
    assert [host["code"] for host in stopped["hosts"]] == [16, None]
    assert site.active() != bundle.name
    both = site.push(
        bundle, "station", "second"
    )  # the same machine twice: the second time there is nothing to do
    assert [host["code"] for host in both["hosts"]] == [0, 0], both
    assert site.active() == bundle.name


def test_an_upload_that_was_cut_off_goes_on_and_one_that_was_changed_is_sent_anew(site: Site) -> None:
    bundle = site.bundle()
    folder = site.machine.path(f"{INCOMING}/{PUSHER}")
    cut = folder / f"{bundle.name}.tar"
    for content in (b"\0" * 512, b"x" * 10_000_000):  # not its beginning; and longer than all of it
        site.machine.run("install", "-o", PUSHER, "-m", "640", "/dev/null", f"{INCOMING}/{PUSHER}/{cut.name}")
        cut.write_bytes(content)
        assert site.push(bundle, "station")["exit"] == 0
        assert list(folder.glob(f"{bundle.name}*")) == []
    assert site.active() == bundle.name


def test_an_upload_folder_that_is_somebody_elses_is_not_used(site: Site) -> None:
    machine, folder = site.machine, f"{INCOMING}/{PUSHER}"
    machine.run("mv", folder, "/root/aside")
    machine.run("install", "-d", "/srv/elsewhere")
    for plant in (("ln", "-s", "/srv/elsewhere", folder), ("install", "-d", "-m", "2777", folder)):
        machine.run(*plant)
        refused = site.push(site.bundle(), "station")
        assert refused["exit"] == 16, refused
        assert "must be a folder of your own" in refused["hosts"][0]["reason"]
        machine.run("rm", "-rf", folder)
    assert machine.out("ls", "/srv/elsewhere") == ""
    machine.run("mv", "/root/aside", folder)


def test_two_at_once(site: Site) -> None:
    hold = f"exec 9>{STATE}/models/.lock; flock 9; echo 'anna since today' >&9; echo held; sleep 60"
    command = ("nsenter", "-t", str(site.machine.pid), "-a", "bash", "-c", hold)
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        refused = site.push(site.bundle(), "station")
        os.killpg(holder.pid, signal.SIGKILL)
    assert refused["exit"] == 14
    assert "being changed by anna since today" in refused["hosts"][0]["reason"]


@pytest.mark.parametrize(("where", "code"), [(f"{INCOMING}/{PUSHER}", 16), (f"{STATE}/models", 9)])
def test_a_full_disk(site: Site, where: str, code: int) -> None:
    """A small file system in place of a folder, with all that it held, and room for half a bundle."""
    active, machine = site.active(), site.machine
    script = (
        f"set -e; cp -a {where} /root/kept;"
        f"size=$(( $(du -sk {where} | cut -f1) + {BALLAST_BYTES // 2048} ));"
        f"mount -t tmpfs -o size=${{size}}k tmpfs {where}; cp -a /root/kept/. {where}/; rm -rf /root/kept"
    )
    machine.run("systemctl", "stop", UNIT)
    machine.run("bash", "-c", script)
    machine.run("systemctl", "start", UNIT)
    try:
        bundle = site.bundle(extra={"ballast": os.urandom(BALLAST_BYTES)})
        refused = site.push(bundle, "station")
        assert refused["exit"] == code, refused
        assert site.active() == active
        site.require_whole()
    finally:
        machine.run("systemctl", "stop", UNIT)
        machine.run("umount", where)
        machine.run("systemctl", "start", UNIT)


@pytest.mark.timeout(1800)
def test_cut_off_anywhere_it_runs_a_whole_bundle_and_the_next_push_succeeds(site: Site) -> None:
    """kill -9 of the command or of its ssh, and a lost network, at seeded moments."""
    chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    extra = {"ballast": chance.randbytes(BALLAST_BYTES)}
    began = time.monotonic()
    assert site.push(site.bundle(extra=extra), "station")["exit"] == 0
    whole_s = time.monotonic() - began
    for cut in range(CUTS):
        bundle = site.bundle(extra={"ballast": chance.randbytes(BALLAST_BYTES)})
        how = ("ssh", "all", "network")[cut % 3]
        after_s = chance.uniform(0, whole_s)
        _push_and_cut(site, bundle, how, after_s)
        site.require_whole()
        again = site.push(bundle, "station")
        while again["exit"] == 14:  # the one that was cut off is still at it there
            again = site.push(bundle, "station")
        assert again["exit"] == 0, (cut, how, after_s, again)
        assert site.active() == bundle.name


def _push_and_cut(site: Site, bundle: Path, how: str, after_s: float) -> None:
    command = site.command("push", bundle, "station")
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as push:
        try:
            push.wait(after_s)
        except subprocess.TimeoutExpired:
            if how == "network":
                _lose_network(site)
            else:
                _kill(push.pid, how)
        push.wait(120)
    assert manifest.verify(bundle)


def _kill(group: int, how: str) -> None:
    """kill -9 of everything in the command's process group, or of what bears a name."""
    if how == "all":
        os.killpg(group, signal.SIGKILL)
        return
    subprocess.run(("pkill", "-KILL", "-g", str(group), "-x", how), check=False)


def _lose_network(site: Site) -> None:
    """All connections of the container break, and it is back after a moment."""
    site.machine.run("ss", "-K", "dport", "=", "22", check=False)
    site.machine.run("ip", "link", "set", "lo", "down")
    site.machine.run("sleep", "0.5")
    site.machine.run("ip", "link", "set", "lo", "up")
