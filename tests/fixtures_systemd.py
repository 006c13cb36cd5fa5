"""A small Debian that boots beside this machine: its own systemd, journal, sshd, Mosquitto and loopback.

The tree is made once with debootstrap and kept outside the checkout; each container sees it through an
overlay, so that nothing of it changes. Device and address rules of a unit are enforced with exactly these
flags of systemd-nspawn; MemoryMax, TasksMax and CPUWeight are not, whatever a unit says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_daemon import REPOSITORY

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgevision"
PACKAGES = (
    "systemd,systemd-sysv,dbus,libpam-systemd,procps,iproute2,sudo,"
    "python3,python3-venv,python3-systemd,python3-numpy,python3-gpiozero,openssh-server,rsync,mosquitto,mosquitto-clients"
)
MASKED = ("systemd-timesyncd", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer")
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter", "unshare")
SOURCE = Path("/root/edgevision")  # in the container
WHEELS = Path("/root/wheels")
LOCKS = tuple(REPOSITORY / f"deploy/lock/{name}-3.11-x86_64.txt" for name in ("station", "bridge"))


@dataclass(frozen=True)
class Machine:
    """A booted container. `root` is its tree as seen from here."""

    root: Path
    pid: int  # of its systemd

    def run(
        self, *command: str, check: bool = True, user: str = "root", given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there, as somebody logged in with a clean environment."""
        become = () if user == "root" else ("runuser", "-u", user, "--")
        done = subprocess.run(
            ("nsenter", "-t", str(self.pid), "-a", "env", "-i", *_ENVIRONMENT, *become, *command),
            capture_output=True,
            text=True,
            input=given if given is not None else "",
            check=False,
            timeout=10 * DEADLINE_S,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def out(self, *command: str) -> str:
        return self.run(*command).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd has it now."""
        return self.out("systemctl", "show", "--property", name, "--value", unit)

    def journal(self, unit: str) -> str:
        return self.out("journalctl", "-u", unit, "--no-pager", "-o", "cat")

    def wait(self, met: Callable[[], object], what: str, within_s: float = 2 * DEADLINE_S) -> None:
        deadline = time.monotonic() + within_s
        while not met():
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
            time.sleep(0.1)

    def path(self, inside: str | Path) -> Path:
        return self.root / str(inside).lstrip("/")

    def beside(self, *command: str) -> tuple[str, ...]:
        """A command of this machine that sees the container's network as its own."""
        return ("nsenter", "-t", str(self.pid), "-n", *command)


_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A container with this checkout in SOURCE and its packages in WHEELS; nothing of it is installed yet."""
    reason = _reason_against()
    if reason:
        pytest.skip(reason)
    tree, wheels = _tree(), _wheels()
    with booted(tree, tmp_path_factory.mktemp("machine")) as machine:
        shutil.copytree(wheels, machine.path(WHEELS))
        copy_checkout(machine.path(SOURCE))
        yield machine


def _reason_against() -> str | None:
    if os.geteuid() != 0:
        return "booting a container needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def copy_checkout(target: Path) -> None:
    """What is, or is about to be, under version control."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    target.mkdir(parents=True)
    packed = subprocess.run(
        ("tar", "--null", "--ignore-failed-read", "-c", "-T", "-"),
        cwd=REPOSITORY,
        input=listed.stdout,
        capture_output=True,
        check=True,
    )
    subprocess.run(("tar", "--no-same-owner", "-x", "-C", str(target)), input=packed.stdout, check=True)


def ssh_config(machine: Machine, folder: Path, user: str, key: Path) -> Path:
    """Start sshd and let `key` in as a new user; a configuration that knows it as `station` and `second`.

    Its host `away` answers nobody.
    """
    machine.run("useradd", "-m", "-s", "/bin/bash", user)
    machine.run("install", "-d", "-m", "700", "-o", user, f"/home/{user}/.ssh")
    shutil.copy(key.with_suffix(".pub"), machine.path(f"/home/{user}/.ssh/authorized_keys"))
    machine.run("systemctl", "start", "ssh")
    host_key = machine.path("/etc/ssh/ssh_host_ed25519_key.pub").read_text()
    (folder / "known_hosts").write_text(f"127.0.0.1 {host_key}")
    path = folder / "ssh_config"
    path.write_text(
        f"Host station second\n  HostName 127.0.0.1\n  User {user}\n  IdentityFile {key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
        "Host away\n  HostName 127.0.0.1\n  Port 9\n"
    )
    return path


# ---- the tree


def _tree() -> Path:
    """The Debian tree, made where it is missing."""
    name = hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]
    tree = CACHE / f"debian-bookworm-{name}"
    if tree.is_dir():
        return tree
    mirror = _mirror()
    if mirror is None:
        pytest.skip("apt names no Debian Bookworm to take packages from")
    CACHE.mkdir(parents=True, exist_ok=True)
    draft = Path(f"{tree}.{os.getpid()}")
    include = f"--include={PACKAGES}"
    done = subprocess.run(
        ("debootstrap", "--variant=minbase", include, "bookworm", str(draft), mirror),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "DPKG_FORCE": "unsafe-io"},  # a draft that is cut off is made anew
    )
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        pytest.skip(f"debootstrap made no tree: {(done.stdout + done.stderr)[-300:]}")
    shutil.rmtree(draft / "var/cache/apt/archives", ignore_errors=True)
    for unit in MASKED:
        name = unit if "." in unit else f"{unit}.service"
        (draft / "etc/systemd/system" / name).symlink_to("/dev/null")
    for unit in ("ssh.service", "mosquitto.service"):
        (draft / "etc/systemd/system/multi-user.target.wants" / unit).unlink(missing_ok=True)
    return _put(draft, tree)


def _put(draft: Path, place: Path) -> Path:
    """The draft in its place, or what another run has put there meanwhile."""
    try:
        return draft.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(draft, ignore_errors=True)
        return place


def _mirror() -> str | None:
    done = subprocess.run(
        ("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Component: main"),
        capture_output=True,
        text=True,
        check=False,
    )
    found = (line.split() for line in done.stdout.splitlines())
    return next((uri for code, uri in found if code == "bookworm"), None)


def _wheels() -> Path:
    """The packages of a station and of the bridge for the container, from the index or the cache."""
    content = b"".join(lock.read_bytes() for lock in LOCKS)
    folder = CACHE / f"wheels-{hashlib.sha256(content).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if python is None:
        pytest.skip("the container's packages are chosen by a Python 3.11, and there is none")
    draft = Path(f"{folder}.{os.getpid()}")
    draft.mkdir(parents=True)
    options = ("-q", "--require-hashes", "--only-binary=:all:", "-d", str(draft))
    lists = (part for lock in LOCKS for part in ("-r", str(lock)))
    done = subprocess.run(
        (python, "-m", "pip", "download", *options, *lists),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        pytest.skip(f"no packages for the container: {done.stderr[-300:]}")
    return _put(draft, folder)


# ---- the container


@contextmanager
def booted(tree: Path, folder: Path) -> Iterator[Machine]:
    """A container over `tree`; what it changes goes to `folder` and is gone with it."""
    upper, work, root = (folder / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir()
    options = f"lowerdir={tree},upperdir={upper},workdir={work}"
    with ExitStack() as undo:
        subprocess.run(("mount", "-t", "overlay", "overlay", "-o", options, str(root)), check=True)
        undo.callback(subprocess.run, ("umount", "-l", str(root)), check=False)
        (root / "etc/hostname").write_text("station\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost station\n")
        with (folder / "console.log").open("wb") as console:
            nspawn = subprocess.Popen(
                (
                    *("systemd-nspawn", "-q", "-D", str(root), "--boot", "--register=no", "--keep-unit"),
                    *("--console=pipe", "--private-network"),
                    *(
                        "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN",
                        "--system-call-filter=bpf adjtimex clock_adjtime",
                    ),
                ),
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        undo.callback(_power_off, nspawn)
        machine = Machine(root, _systemd_of(nspawn))
        machine.wait(
            lambda: machine.run("systemctl", "is-system-running", check=False).stdout.strip() == "running",
            f"the container boots: {(folder / 'console.log').read_text()[-500:]}",
        )
        yield machine


def _systemd_of(nspawn: subprocess.Popen[bytes]) -> int:
    """The only child of this nspawn."""
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert nspawn.poll() is None, "systemd-nspawn ended"
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        time.sleep(0.05)
    raise AssertionError("systemd-nspawn started no systemd")


def _power_off(nspawn: subprocess.Popen[bytes]) -> None:
    for child in Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split():
        subprocess.run(
            ("nsenter", "-t", child, "-a", "systemctl", "poweroff"), check=False, capture_output=True
        )
    try:
        nspawn.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        nspawn.wait(DEADLINE_S)
