"""The workstation's end of deploy/push.sh, whose header has every option and exit code.

No station is trusted. What one says is read up to a limit and within a time; it becomes a number or a JSON
object or is refused, is never part of a command or of a path here, and is printed without anything that a
terminal would act on. Names come from the command line and from the bundle's own folder alone.

A bundle travels as one archive over ssh, and goes on at the byte where an earlier try was cut off.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import selectors
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
INCOMING = "/var/lib/edgevision-incoming"
RECEIVE = "/opt/edgevision/receive"
NAMESPACE = "edgevision-model"
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
ACTIONS = ("push", "rollback", "status", "list", "verify")

UNEXPECTED, USAGE, BUNDLE, UNSIGNED, UNREACHABLE, NOT_RUNNING = 1, 2, 4, 13, 16, 17
STATION_CODES = frozenset({2, 3, 4, 6, 9, 13, 14, 15})  # of /opt/edgevision/receive
SSH_FAILED = 255

MOST_BYTES = 1 << 20  # of what a station may say to one command
ASK_S = 60.0  # for a command that does next to nothing
UPLOAD_S = 3600.0
TRY_S = 300.0  # for a bundle's checks on a slow board, beside the time that the gate is given
START_S = 200.0

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:%-]*")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # as the station takes it
# A station gets at no agent, display or port of the user, whatever the user's ssh configuration says.
_SSH_OPTIONS = tuple(
    part
    for option in (
        *("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"),
        *("ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "PermitLocalCommand=no"),
        *("RequestTTY=no", "Tunnel=no", "ControlMaster=no"),
    )
    for part in ("-o", option)
)

# The pusher's own folder: made here, no link, nobody else's, and closed to the others of the group.
_OWN_FOLDER = f"""umask 027
d={INCOMING}/$(id -un)
[ -d "$d" ] || mkdir -m 2750 -- "$d" || exit 1
if [ -L "$d" ] || [ ! -O "$d" ]; then echo "error: $d: must be a folder of your own" >&2; exit 1; fi
chmod 2750 "$d"
"""


class Failure(Exception):
    """Why something could not be done, and the exit code for it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. `bundle`: for push alone. `key`: None signs nothing."""

    action: str
    bundle: Path
    hosts: tuple[str, ...]
    key: Path | None
    instance: str
    frames: int
    wait_s: int
    parallel: int
    json: bool
    ssh_config: Path | None

    @property
    def unit(self) -> str:
        return f"edgevision{'@' if self.instance else ''}{self.instance}.service"


@dataclass(frozen=True, slots=True)
class Package:
    """A checked bundle as one archive: the same bundle is the same bytes."""

    name: str
    archive: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended on a host. `answer`: the station's own, where it did; `reason`: why, where it did not."""

    host: str
    code: int | None  # None: not tried
    answer: dict[str, Any]
    reason: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    def content(self) -> dict[str, Any]:
        """As --json has it; what the station says does not replace what is known here."""
        known = {"host": self.host, "ok": self.ok, "code": self.code}
        rest = self.answer if self.ok else {"reason": self.reason}
        return {**known, **{name: value for name, value in rest.items() if name not in known}}


def main(arguments: Sequence[str]) -> int:
    """The command. Returns its exit code."""
    try:
        options = parse(arguments)
        with tempfile.TemporaryDirectory(prefix="edgevision-push-") as work:
            package = pack(options, Path(work)) if options.action == "push" else None
            results = on_every_host(options, package)
    except Failure as failure:
        say(f"error: {failure}")
        return failure.code
    code = next((result.code for result in results if result.code), 0)
    if options.json:
        hosts = [result.content() for result in results]
        print(json.dumps({"action": options.action, "ok": code == 0, "hosts": hosts}))
    return code


# ---- the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(USAGE, f"{message}; deploy/push.sh --help")


def parse(arguments: Sequence[str]) -> Options:
    """Raises Failure: a wrong command line."""
    parser = _Parser(allow_abbrev=False, add_help=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--key", default=os.environ.get("EDGEVISION_KEY", ""))
    parser.add_argument("--instance", default="")
    parser.add_argument("--frames", default="5")
    parser.add_argument("--wait", default="60")
    parser.add_argument("--parallel", default="8")
    parser.add_argument("--ssh-config", default="")
    given = parser.parse_intermixed_args(arguments)
    if not given.words:
        raise Failure(USAGE, f"one of {', '.join(ACTIONS)} is needed; deploy/push.sh --help")
    action, *words = given.words
    if action not in ACTIONS:
        raise Failure(USAGE, f"{action}: must be one of {', '.join(ACTIONS)}")
    bundle = words.pop(0) if action == "push" and words else ""
    if not words:
        needed = "a bundle and a host" if action == "push" else "a host"
        raise Failure(USAGE, f"{action} needs {needed}")
    for host in words:
        if not _HOST.fullmatch(host):
            raise Failure(USAGE, f"host: must be HOST or USER@HOST, got {host!r}")
    if given.instance and not _INSTANCE.fullmatch(given.instance):
        raise Failure(USAGE, f"--instance: must be a name, got {given.instance!r}")
    return Options(
        action=action,
        bundle=Path(bundle),
        hosts=tuple(words),
        key=_readable("--key", given.key),
        instance=given.instance,
        frames=_number("--frames", given.frames, 0),
        wait_s=_number("--wait", given.wait, 0),
        parallel=_number("--parallel", given.parallel, 1),
        json=given.json,
        ssh_config=_readable("--ssh-config", given.ssh_config),
    )


def _number(option: str, value: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", value) or int(value) < least:
        raise Failure(USAGE, f"{option}: must be a whole number from {least}, got {value!r}")
    return int(value)


def _readable(option: str, value: str) -> Path | None:
    if value and not os.access(value, os.R_OK):
        raise Failure(USAGE, f"{option} {value}: cannot be read")
    return Path(value) if value else None


def say(text: str) -> None:
    """For a person; standard output is for the result."""
    print(text, file=sys.stderr, flush=True)


# ---- the bundle, here


def pack(options: Options, work: Path) -> Package:
    """The bundle checked, signed where there is a key, and packed. Raises Failure."""
    bundle = _checked(options.bundle)
    say(f"bundle {bundle.name}: every file as its manifest says")
    if options.key is not None:
        _sign(bundle, options.key)
    elif not (bundle / SIGNATURE).exists():
        say("bundle is not signed (--key): stations that ask for signatures will refuse it")
    archive = work / "bundle.tar"
    listed = [entry["path"] for entry in json.loads((bundle / MANIFEST).read_bytes())["files"]]
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as packed:
        for path in [*sorted(listed), MANIFEST, SIGNATURE]:
            if path != SIGNATURE or (bundle / path).exists():
                _add(packed, bundle, path)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Package(bundle.name, archive, archive.stat().st_size, digest)


def _checked(path: Path) -> Path:
    """The bundle's real folder, compared with its manifest by the program itself."""
    own = ROOT / ".venv/bin/python"
    python = str(own) if os.access(own, os.X_OK) else sys.executable
    command = (python, "-m", "device", "verify", str(path.absolute()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failure(BUNDLE, _last_lines(done.stderr.encode()).removeprefix("error: "))
    folder = Path(done.stdout.removesuffix("\n"))
    if not _BUNDLE.fullmatch(folder.name):
        allowed = "1..128 letters, digits, '.', '_' or '-'"
        raise Failure(BUNDLE, f"bundle folder: must be named with {allowed}, got {folder.name!r}")
    return folder


def _sign(bundle: Path, key: Path) -> None:
    """The signature appears whole or not at all."""
    with (bundle / MANIFEST).open("rb") as content:
        done = subprocess.run(
            ("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE),
            stdin=content,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        raise Failure(UNSIGNED, f"{key}: cannot sign: {_last_lines(done.stderr)}")
    fresh = bundle / f".{SIGNATURE}.new"
    try:
        fresh.write_bytes(done.stdout)
        fresh.replace(bundle / SIGNATURE)
    except OSError as error:
        raise Failure(UNSIGNED, f"{bundle / SIGNATURE}: cannot be written: {error.strerror}") from None


def _add(packed: tarfile.TarFile, bundle: Path, path: str) -> None:
    """A file, without what differs from one packing to the next."""
    content = (bundle / path).read_bytes()
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), 0o640
    with (bundle / path).open("rb") as file:
        packed.addfile(entry, file)


# ---- the stations


def on_every_host(options: Options, package: Package | None) -> list[Result]:
    """In the order of the hosts: the first one alone; then the others, some at a time.

    None is begun after a failure of what changes something.
    """
    canary, *others = options.hosts
    tasks: list[Future[Result]] = []
    changes = options.action in ("push", "rollback")
    results = [on_host(options, package, canary)]
    with ThreadPoolExecutor(options.parallel) as pool:
        for host in others:
            running = [task for task in tasks if not task.done()]
            if len(running) >= options.parallel:
                wait(running, return_when=FIRST_COMPLETED)
            ended = [*results, *(task.result() for task in tasks if task.done())]
            if changes and any(result.code for result in ended):
                break
            tasks.append(pool.submit(on_host, options, package, host))
    results += [task.result() for task in tasks]
    for host in options.hosts[len(results) :]:
        say(f"{host}: not tried")
        results.append(Result(host, None, {}, "not tried"))
    return results


def on_host(options: Options, package: Package | None, host: str) -> Result:
    """Do it on one host, and say how it ended."""
    station = RemoteStation(options, host)
    try:
        answer = station.push(package) if package is not None else station.receive(options.action)
    except Failure as failure:
        say(f"{host}: FAILED ({failure.code}): {str(failure).removeprefix('error: ')}")
        return Result(host, failure.code, {}, str(failure))
    say(f"{host}: {printable(answer['text'])}")
    return Result(host, 0, answer, "")


class RemoteStation:
    """One host, over ssh. Every method raises Failure."""

    def __init__(self, options: Options, host: str) -> None:
        self._options = options
        config = () if options.ssh_config is None else ("-F", str(options.ssh_config))
        self._ssh = ("ssh", *_SSH_OPTIONS, *config, "--", host)

    def push(self, package: Package) -> dict[str, Any]:
        """Upload the bundle, have it tried, and start a service that was left down. The station's answer."""
        self._upload(package)
        answer = self.receive("install", package.name)
        self._tell(f'{_OWN_FOLDER}rm -rf -- "$d/{package.name}" "$d/{package.name}.tar"')
        unit = self._options.unit
        started = self._tell(
            f"systemctl is-active -q {unit} || sudo -n systemctl start {unit}", within_s=START_S
        )
        if started.code:
            raise Failure(NOT_RUNNING, f"error: {unit} does not get ready (journalctl -u {unit})")
        return answer

    def receive(self, action: str, name: str = "") -> dict[str, Any]:
        """What the station's own program answers: a JSON object with a text."""
        options = self._options
        words = ["sudo", "-n", "-u", "edgevision", RECEIVE]
        words += ["--instance", options.instance] if options.instance else []
        words += [action, *([name] if name else [])]
        if action in ("install", "rollback"):
            words += ["--frames", str(options.frames), "--wait", str(options.wait_s)]
        done = self._tell(shlex.join([*words, "--json"]), within_s=TRY_S + options.wait_s)
        if done.code:
            raise Failure(done.code if done.code in STATION_CODES else UNEXPECTED, _last_lines(done.err))
        return _answer(done.out)

    def _upload(self, package: Package) -> None:
        """The archive, from the byte where an earlier try ended, unpacked there."""
        part = f'"$d/{package.name}.tar"'
        if self._send(package, part) == package.sha256:
            return
        self._require(f"{_OWN_FOLDER}rm -f -- {part}")
        if self._send(package, part) != package.sha256:
            raise Failure(UNREACHABLE, "error: the upload was changed on the way")

    def _send(self, package: Package, part: str) -> str:
        """Send what is missing of the archive, and unpack it where it is whole. Its digest there."""
        size = self._require(f"{_OWN_FOLDER}[ -f {part} ] || : >{part}\nstat -c %s -- {part}")
        if not re.fullmatch(rb"[0-9]{1,12}\n", size):
            raise Failure(UNREACHABLE, "error: does not say how much of an upload is there already")
        with package.archive.open("rb") as archive:
            archive.seek(min(int(size), package.size_bytes))
            self._require(f"{_OWN_FOLDER}cat >>{part}", within_s=UPLOAD_S, given=archive)
        folder = f'"$d/{package.name}"'
        script = f"""{_OWN_FOLDER}sum=$(sha256sum <{part}) || exit 1
echo "${{sum%% *}}"
[ "${{sum%% *}}" = {package.sha256} ] || exit 0
rm -rf -- {folder} && mkdir -- {folder} || exit 1
tar -x -f {part} -C {folder} --no-same-owner --no-same-permissions"""
        return self._require(script).decode("ascii", "replace").strip()

    def _require(self, script: str, within_s: float = ASK_S, given: IO[bytes] | None = None) -> bytes:
        """The output of a part of the upload, which must succeed."""
        done = self._tell(script, within_s, given)
        if done.code:
            raise Failure(UNREACHABLE, _last_lines(done.err) or "error: the upload failed there")
        return done.out

    def _tell(self, script: str, within_s: float = ASK_S, given: IO[bytes] | None = None) -> CommandResult:
        """Run a command there that is made of constants and checked names alone."""
        done = run((*self._ssh, script), within_s, given)
        if done.code == SSH_FAILED:
            raise Failure(UNREACHABLE, _last_lines(done.err) or "error: cannot be reached")
        return done


def _answer(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
        raise Failure(UNEXPECTED, "error: an answer that cannot be understood: look at the station")
    return answer


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


# ---- what is run, and what it may say


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    code: int
    out: bytes
    err: bytes


def run(command: Sequence[str], within_s: float, given: IO[bytes] | None = None) -> CommandResult:
    """Run a command to its end. Raises Failure: it takes longer, or says more than MOST_BYTES."""
    deadline = time.monotonic() + within_s
    with (
        subprocess.Popen(
            command, stdin=given or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        _killed_on_fault(process),
    ):
        said = {process.stdout: bytearray(), process.stderr: bytearray()}
        with selectors.DefaultSelector() as selector:
            for pipe in filter(None, said):
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise Failure(UNREACHABLE, f"error: no end within {within_s:g} s")
                for key, _ in ready:
                    chunk = os.read(key.fd, 65536)
                    said[key.fileobj] += chunk  # type: ignore[index]
                    if not chunk:
                        selector.unregister(key.fileobj)
                if sum(map(len, said.values())) > MOST_BYTES:
                    raise Failure(UNEXPECTED, f"error: says more than {MOST_BYTES} bytes")
        try:
            code = process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure(UNREACHABLE, f"error: no end within {within_s:g} s") from None
    return CommandResult(code, bytes(said[process.stdout]), bytes(said[process.stderr]))


@contextlib.contextmanager
def _killed_on_fault(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise


def printable(text: str) -> str:
    """The text without what a terminal would act on; the ends of its lines stay."""
    lines = text[:20_000].splitlines()
    return "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)


def _last_lines(said: bytes) -> str:
    """The last lines of an error's text."""
    lines = printable(said[-8000:].decode("utf-8", "replace")).strip().splitlines()
    return "\n".join(line[:500] for line in lines[-3:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
