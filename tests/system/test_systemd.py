"""deploy/install.sh and the unit under a real systemd, in a container, in the order of a station's life."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import write_images
from fixtures_earlier import DEMO, EVENTS, OLD
from fixtures_systemd import SOURCE, WHEELS, Machine

UNIT = "edgevision.service"
STATE = "/var/lib/edgevision"
CONFIG = "/etc/edgevision/config.toml"
DROP_IN = "/etc/systemd/system/edgevision.service.d/test.conf"
WATCHDOG_S = 5

# What the service's process can do, asked from inside the service's own sandbox.
PROBE = """
import ctypes, json, mmap, os, socket, sys
def tried(step):
    try:
        step()
        return "ok"
    except (OSError, PermissionError) as error:
        return os.strerror(error.errno)
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def run_own(path):
    open(path, "w").write("#!/bin/sh\\n")
    os.chmod(path, 0o755)
    os.posix_spawn(path, [path], {})
def say(address):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (address, 9))
timex = ctypes.create_string_buffer(256)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "write /usr": tried(lambda: open("/usr/probe", "w")),
    "write /etc": tried(lambda: open("/etc/probe", "w")),
    "write program": tried(lambda: open("/opt/edgevision/current/device/probe", "w")),
    "write state": tried(lambda: open("/var/lib/edgevision/probe", "w")),
    "write incoming": tried(lambda: open("/var/lib/edgevision-incoming/probe", "w")),
    "write runtime": tried(lambda: open("/run/edgevision/probe", "w")),
    "run what was written": tried(lambda: run_own("/var/lib/edgevision/probe.sh")),
    "list /home": tried(lambda: os.listdir("/home")),
    "read /etc/shadow": tried(lambda: open("/etc/shadow")),
    "camera": tried(lambda: os.open("/dev/video99", os.O_RDONLY)),
    "other device": tried(lambda: os.open("/dev/probe-mem", os.O_RDONLY)),
    "raw socket": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "tcp socket": tried(lambda: socket.socket(socket.AF_INET).close()),
    "speak to the plant": tried(lambda: say("192.168.77.7")),
    "speak to the world": tried(lambda: say("198.51.100.7")),
    "memory w+x": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
    "ask clock": tried(lambda: call("adjtimex", timex)),
    "set clock": tried(lambda: call("clock_settime", 0, ctypes.create_string_buffer(16))),
    "mount": tried(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
    "new namespace": tried(lambda: call("unshare", 0x10000000)),
    "meminfo": tried(lambda: open("/proc/meminfo").read(1)),
    "temperature": tried(lambda: os.listdir("/sys/class")),
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"].strip(),
    "credentials": [
        open(os.environ["CREDENTIALS_DIRECTORY"] + "/" + name).read()
        for name in ("mqtt-password", "camera-password") if "CREDENTIALS_DIRECTORY" in os.environ
    ],
}))
"""


@dataclass
class Station:
    """The container with EdgeVision installed in it."""

    machine: Machine
    first_run: str  # what install.sh printed

    def install(self, *options: str, code: int = 0) -> str:
        command = (str(SOURCE / "deploy/install.sh"), "--wheels", str(WHEELS), *options)
        done = self.machine.run(*command, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def configure(self, camera: str = "rate_hz = 20.0\nloop = true", **more: str) -> None:
        sections = {"camera": f'source = "{STATE}/images"\n{camera}', "mqtt": 'host = "127.0.0.1"', **more}
        text = "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items())
        self.machine.path(CONFIG).write_text(f'[station]\nname = "station"\n{text}')

    def start(self) -> None:
        self.machine.run("systemctl", "restart", UNIT)

    def stop(self) -> None:
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed", UNIT, check=False)

    def show(self, name: str) -> str:
        return self.machine.show(UNIT, name)

    def put_bundle(self, made: Path) -> None:
        """As the service's user would: copied whole, then `current` switched to it."""
        models = self.machine.path(f"{STATE}/models")
        shutil.copytree(made, models / made.name)
        self.machine.run("ln", "-sfn", made.name, f"{STATE}/models/current")
        self.machine.run("chown", "-R", "edgevision:", STATE)

    def listen(self, topic: str, count: int = 1) -> list[dict[str, object]]:
        """The next messages of a topic."""
        command = ("mosquitto_sub", "-h", "127.0.0.1", "-t", topic, "-C", str(count), "-W", "30")
        return [json.loads(line) for line in self.machine.out(*command).splitlines()]


@pytest.fixture(scope="module")
def station(machine: Machine, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Station:
    """Installed, with a bundle, images, and a broker in the container."""
    command = (str(SOURCE / "deploy/install.sh"), "--wheels", str(WHEELS))
    dry = machine.run(*command, "--dry-run")
    assert "systemd-sysusers" in dry.stdout
    assert not machine.path("/opt/edgevision").exists(), "a dry run does nothing"
    done = machine.run(*command, check=False)
    assert done.returncode == 4, done.stdout + done.stderr  # there is no bundle yet
    station = Station(machine, done.stdout + done.stderr)
    write_images(machine.path(f"{STATE}/images"), "oono")
    station.put_bundle(tiny_model.write(tmp_path_factory.mktemp("made")))
    machine.run("systemctl", "start", "mosquitto")
    return station


def test_without_a_bundle_it_is_installed_and_says_what_is_missing(station: Station) -> None:
    assert "must hold a bundle" in station.first_run
    assert "What is missing: /opt/edgevision/check" in station.first_run
    assert station.machine.out("stat", "-c", "%U:%G %a", STATE) == "edgevision:edgevision 750"
    pictures = tomllib.loads(station.machine.path(CONFIG).read_text())["archive"]
    assert pictures == {"publish_image_max_bytes": 60000}  # shown from the first defect on


def test_verdicts_come_from_inside_the_sandbox(station: Station) -> None:
    station.configure()
    station.start()
    assert station.show("ActiveState") == "active"
    seen = station.listen("edgevision/station/inspection", count=8)
    assert {verdict["verdict"] for verdict in seen} == {"OK", "NG"}
    status = station.machine.run("sudo", "-u", "edgevision", "/opt/edgevision/status", "--json", check=False)
    assert json.loads(status.stdout)["presence"] == "running", status.stdout + status.stderr


def test_installing_again_changes_nothing_and_keeps_the_configuration(station: Station) -> None:
    before = station.machine.path(CONFIG).read_text()
    again = station.install()
    assert "write " not in again
    assert "Program" in again
    assert "is there" in again
    assert station.machine.path(CONFIG).read_text() == before
    assert station.show("ActiveState") == "active"


def test_ready_is_said_after_the_first_good_frame(station: Station) -> None:
    station.stop()
    station.configure(camera='rate_hz = 10.0\nloop = true\ntimeout_s = 10.0\nfaults = ["0:stall:3"]')
    station.machine.run("systemctl", "start", "--no-block", UNIT)
    station.machine.wait(lambda: "session" in station.machine.journal(UNIT), "the service has begun")
    assert station.show("ActiveState") == "activating"
    assert station.show("SubState") == "start"
    station.machine.wait(lambda: station.show("ActiveState") == "active", "the first frame")


def test_a_service_that_hangs_is_killed_and_started_again(station: Station) -> None:
    drop_in = station.machine.path(DROP_IN)
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\nRestartSec=100ms\n")
    station.machine.run("systemctl", "daemon-reload")
    station.configure()
    station.start()
    process = station.show("MainPID")
    station.machine.run("kill", "-STOP", process)
    station.machine.wait(lambda: station.show("MainPID") not in (process, "0"), "another process")
    station.machine.wait(lambda: station.show("ActiveState") == "active", "it inspects again")
    assert int(station.show("NRestarts")) == 1
    drop_in.unlink()
    station.machine.run("systemctl", "daemon-reload")


def test_a_wrong_configuration_waits_for_a_person(station: Station) -> None:
    station.stop()
    station.machine.path(CONFIG).write_text("[mqtt]\nkeepalive_s = -1\n")
    done = station.machine.run("systemctl", "start", UNIT, check=False)
    assert done.returncode != 0
    assert (station.show("ActiveState"), station.show("ExecMainStatus")) == ("failed", "3")
    station.machine.run("sleep", "7")  # longer than RestartSec: what did not come must have had its chance
    assert (station.show("ActiveState"), station.show("NRestarts")) == ("failed", "0")
    assert "keepalive_s: must be 5..3600, got -1" in station.machine.journal(UNIT)
    station.stop()


def test_reload_swaps_the_model_between_two_frames(
    station: Station, tiny_model: TinyModel, tmp_path: Path
) -> None:
    station.configure()
    station.start()
    process = station.show("MainPID")
    before = station.listen("edgevision/station/inspection")[0]["model"]
    station.put_bundle(tiny_model.write(tmp_path / "second", created="2026-05-05T05:05:05Z"))
    station.machine.run("systemctl", "reload", UNIT)
    station.machine.wait(
        lambda: station.listen("edgevision/station/inspection")[0]["model"] != before, "the second model"
    )
    assert station.show("MainPID") == process
    assert station.listen("edgevision/station/inspection")[0]["model"]["version"].startswith("20260505")


def probed(station: Station, file: str, *left_out: str) -> dict[str, object]:
    """What PROBE finds as the main process of a unit, without the lines that begin with `left_out`."""
    machine = station.machine
    unit = machine.path(f"/etc/systemd/system/{file}").read_text()
    lines = [line for line in unit.splitlines() if not line.startswith(("ExecStart=", *left_out))]
    started = "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /opt/edgevision/probe.py"
    probe = "\n".join(lines).replace("[Service]", started).replace("char-video4linux", "char-input")
    name = f"probe-{file.replace('@', '')}"
    machine.path("/opt/edgevision/probe.py").write_text(PROBE)
    machine.path(f"/etc/systemd/system/{name}").write_text(probe)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", name)
    [found] = [line for line in machine.journal(name).splitlines() if line.startswith("{")]
    return dict(json.loads(found))


@pytest.fixture
def surroundings(station: Station) -> None:
    """Devices, addresses and secrets to be tried."""
    machine = station.machine
    machine.run("mknod", "/dev/video99", "c", "13", "99")  # stands for a camera: no such driver runs here
    machine.run("mknod", "/dev/probe-mem", "c", "1", "1")
    machine.run("chmod", "666", "/dev/video99", "/dev/probe-mem")
    for address in ("192.168.77.7", "198.51.100.7"):
        machine.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    for kind in ("mqtt", "camera"):
        machine.path(f"/etc/edgevision/{kind}-password").write_text(f"secret of {kind}")


def test_the_sandboxes_are_closed_but_for_what_they_name(station: Station, surroundings: None) -> None:
    denied, read_only, no_family = (
        "Operation not permitted",
        "Read-only file system",
        "Address family not supported by protocol",
    )
    expected = {
        "write /usr": read_only,
        "write /etc": read_only,
        "write program": read_only,
        "write state": "ok",
        "write incoming": read_only,
        "write runtime": "ok",
        "run what was written": "Permission denied",
        "list /home": "Permission denied",
        "read /etc/shadow": "Permission denied",
        "camera": "No such device or address",  # allowed, and no such camera
        "other device": denied,
        "raw socket": no_family,
        "tcp socket": "ok",
        "speak to the plant": "ok",
        "speak to the world": denied,
        "memory w+x": denied,
        "ask clock": "ok",
        "set clock": denied,
        "mount": denied,
        "new namespace": denied,
        "meminfo": "ok",
        "temperature": "ok",
        "capabilities": ["0000000000000000"] * 4,
        "no new privileges": "1",
        "credentials": ["secret of mqtt", "secret of camera"],
    }
    assert probed(station, UNIT, "Type=", "ExecReload=", "Restart") == expected
    away = "No such file or directory"
    expected |= {"camera": away, "other device": away, "write runtime": read_only, "credentials": []}
    expected |= dict.fromkeys(("tcp socket", "speak to the plant", "speak to the world"), no_family)
    assert probed(station, "edgevision-receive@.service", "Standard", "CollectMode=") == expected


def test_the_installed_units_exposure_stays_low(station: Station) -> None:
    said = station.machine.out("systemd-analyze", "security", "--no-pager", UNIT)
    assert float(re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)[0]) <= 1.7


def test_a_station_from_before_goes_on_speaking_with_every_address(station: Station) -> None:
    """Its unit named no networks: the upgrade writes a drop-in once, which is the station's own then."""
    machine, drop_in = station.machine, f"/etc/systemd/system/{UNIT}.d/network.conf"
    machine.run("sed", "-i", "/^IPAddress/d", f"/etc/systemd/system/{UNIT}")
    assert drop_in in station.install()
    assert "0.0.0.0/0" in station.show("IPAddressAllow")
    machine.run("rm", drop_in)
    assert drop_in not in station.install()
    assert "0.0.0.0/0" not in station.show("IPAddressAllow")


def test_what_an_earlier_version_left_is_kept_by_the_upgrade(station: Station) -> None:
    """Bundle, configuration, filled outbox, counters and images of 0.1.0: see test_earlier_version.py."""
    machine = station.machine
    station.stop()
    machine.run(
        "find", STATE, "-mindepth", "1", "-not", "-path", "*/models*", "-not", "-path", "*/images*", "-delete"
    )
    shutil.copytree(OLD / "state", machine.path(STATE), dirs_exist_ok=True)
    station.put_bundle((DEMO / "bundle" / "current").resolve())
    text = (OLD / "config.toml").read_text().replace("port = 9\n", "port = 1883\n")
    for folder, place in (
        ("state", STATE),
        ("runtime", "/run/edgevision"),
        ("bundles", f"{STATE}/models"),
        ("images", f"{STATE}/images"),
    ):
        text = text.replace(f' = "{folder}"\n', f' = "{place}"\n')
    machine.path(CONFIG).write_text(text)
    waiting = (
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-c",
        "-i",
        "later",
        "-q",
        "1",
        "-t",
        "edgevision/press-4/inspection",
    )
    machine.run(*waiting, "-E")

    station.install()
    station.start()
    told = [json.loads(line) for line in machine.out(*waiting, "-C", "6", "-W", "30").splitlines()]
    assert [(one["event_id"], one["historical"]) for one in told] == [(event, True) for event in EVENTS]
    [counters] = station.listen("edgevision/press-4/counters")
    assert (counters["since"], counters["ok"] >= 5) == ("2026-12-01T07:07:48.699Z", True)
    assert machine.path(CONFIG).read_text() == text
    kept = [path.relative_to(OLD) for path in (OLD / "state" / "archive").rglob("*.*")]
    assert len(kept) == 5
    assert all(machine.path(f"{STATE}/{path.relative_to('state')}").exists() for path in kept)
    station.stop()


def test_a_second_camera_is_a_second_service(station: Station) -> None:
    machine = station.machine
    station.install("--instance", "top", code=4)
    shutil.copytree(
        machine.path(f"{STATE}/models"),
        machine.path(f"{STATE}/top/models"),
        symlinks=True,
        dirs_exist_ok=True,
    )
    machine.run("chown", "-R", "edgevision:", f"{STATE}/top")
    text = machine.path("/etc/edgevision/top.toml").read_text()
    machine.path("/etc/edgevision/top.toml").write_text(
        text.replace(
            'kind = "replay"', f'kind = "replay"\nsource = "{STATE}/images"\nloop = true\nrate_hz = 10.0'
        )
    )
    machine.run("systemctl", "restart", "edgevision@top.service")
    assert machine.show("edgevision@top.service", "ActiveState") == "active"
    assert station.listen("edgevision/station-top/inspection")[0]["station"] == "station-top"


def test_uninstalled_it_leaves_what_is_yours_and_purged_it_leaves_nothing(station: Station) -> None:
    station.install("--uninstall")
    machine = station.machine
    assert not machine.path("/opt/edgevision").exists()
    assert machine.path(CONFIG).exists()
    assert machine.path(f"{STATE}/models/current").is_symlink()
    assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    station.install("--uninstall", "--purge")
    assert not machine.path(STATE).exists()
    assert not machine.path("/etc/edgevision").exists()
    assert machine.run("getent", "passwd", "edgevision", check=False).returncode != 0
