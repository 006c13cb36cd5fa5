"""The station's end of deploy/push.sh: takes a bundle in, has the running service try it, and takes it back.

    install NAME    the bundle that was uploaded to <incoming>/NAME: its signature checked, copied, compared
                    with its manifest and with what was taken before, its golden images scored; then `current`
                    leads to it, on trial (device/bundle/trial.py), and the service is told. Unless the
                    service itself says within `wait_s` that it runs it and has judged `frames` live frames
                    with it, `current` leads back.
    rollback        back to the bundle before; the service is told and asked in the same way.
    status          what the running service says of itself
    list, verify    what is there; whether each is whole and signed.

It runs as the service's user, whoever calls it, and goes on to its end when the connection that called it
breaks. One at a time: a second one is refused. Who changed what, when, and how it ended, is in push_log.py's
file. What an earlier one left undone is undone first. Other people's files are read here and nowhere else,
within MOST_BYTES of memory and MOST_CPU_S.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from device.bundle import bundle as bundles
from device.bundle import store, trial
from device.bundle.accepted import AHEAD, AcceptedList, Trust
from device.bundle.bundle import Bundle
from device.config import Config
from device.errors import BundleError, RolledBackError
from device.inspection.pipeline import prove
from device.rollout import intake
from device.rollout.push_log import PushLog, locked
from device.system.clock import clock_synced, stamp
from device.telemetry import status

log = logging.getLogger(__name__)

INCOMING = Path("/var/lib/edgevision-incoming")  # a folder for each who may push, below it
POLL_S = 0.2
MOST_BYTES = 1 << 30  # of data, the interpreter and a model of 24 megapixels in tiles among it
MOST_CPU_S = 600


@dataclass(frozen=True, slots=True)
class Gate:
    """What the running service must show of a new model: `frames` verdicts with it within `wait_s`."""

    frames: int = 5
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, for the caller and for the log. `running`: a service has tried it."""

    action: str
    bundle: str
    previous: str | None
    signer: str | None
    running: bool

    def describe(self) -> str:
        tried = "judged live frames with it" if self.running else "no service runs: it will begin with it"
        signed = f", signed by {self.signer}" if self.signer else ""
        return f"{self.action} {self.bundle}{signed}; {tried}; before it: {self.previous or 'none'}"


class Receiver:
    """Changes the model of a station. `by`: who asked, for the log."""

    def __init__(self, config: Config, incoming: Path, by: str) -> None:
        self._config = config
        self._incoming = incoming
        self._models = config.bundle
        self._by = by
        self._trust = Trust(config.state, config.signers, config.allow_learned)
        self._accepted = AcceptedList(config.state)
        self._log = PushLog(config.state)

    def install(self, name: str, gate: Gate) -> Outcome:
        """Take in `incoming/name` and have it used. Raises EdgeVisionError: what ran before still runs."""
        with self._alone(), self._logged("install", name):
            draft = intake.take(self._incoming, name, self._models, self._trust.vouch)
            try:
                signer = self._trust.vouch(draft)
                loaded = self._checked(draft, name)
                final = self._named(draft, name, loaded)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            store.prune(self._models, self._config.keep_bundles)
            created = loaded.calibration.created
            return self._use(
                "install", final.name, signer, gate, lambda: self._accepted.add(final, created, signer)
            )

    def rollback(self, gate: Gate) -> Outcome:
        """Back to the bundle before. Raises BundleError where there is none."""
        with self._alone(), self._logged("rollback", "previous"):
            name = store.previous_name(self._models)
            if not name:
                raise BundleError(f"{self._models / store.PREVIOUS}: no bundle was in use before this one")
            signer = self._trust.vouch_again(bundles.load(self._models / name))
            return self._use("rollback", name, signer, gate)

    def listing(self) -> dict[str, Any]:
        """Every bundle that is there, the newest first, and the role it has: current, previous or none."""
        roles = {
            store.previous_name(self._models): "previous",
            store.current_name(self._models): "current",
        }
        found = [{"bundle": name, "role": roles.get(name)} for name in store.names(self._models)]
        lines = (f"{entry['bundle']}{' (' + entry['role'] + ')' if entry['role'] else ''}" for entry in found)
        return {"bundles": found, "text": ", ".join(lines) or "no bundle"}

    def verify(self) -> dict[str, Any]:
        """Look through every bundle that is there. Raises BundleError with a line for each bad one."""
        found, problems = [], []
        for name in store.names(self._models):
            try:
                loaded = bundles.load(self._models / name)
                signer = self._trust.vouch_again(loaded)
            except BundleError as error:
                problems.append(str(error))
            else:
                found.append({"bundle": name, "sha256": loaded.sha256, "signer": signer})
        if problems:
            raise BundleError("\n".join(problems))
        signed = "" if self._config.signers is None else " and signed"
        return {"bundles": found, "text": f"{len(found)} bundles, each whole{signed}"}

    # ---- the bundle

    def _checked(self, draft: Path, name: str) -> Bundle:
        """The draft, opened: content, no step back in time, golden images, thresholds."""
        loaded = bundles.load(draft)
        self._require_date(loaded, name)
        prove(loaded, self._config.model.threads, self._config.model.runtime)
        return loaded

    def _require_date(self, loaded: Bundle, name: str) -> None:
        """Not older than any that was taken before, whatever is in use now; and not from the future."""
        created = loaded.calibration.created_utc
        latest = datetime.now(UTC) + AHEAD if clock_synced() else None
        if latest is not None and created > latest:
            raise BundleError(
                f"{name}: created: must not be over a day ahead of this station's clock, is {created}"
            )
        newest = self._accepted.newest(latest)
        known = [] if newest is None else [(newest.created_utc, f"{newest.bundle}, which was taken before")]
        if (active := self._active()) is not None:
            known.append((active.calibration.created_utc, f"the active {active.name}"))
        for date, other in known:
            if created < date and (latest is None or date <= latest):
                raise BundleError(f"{name}: must not be older than {other}; to go back, use rollback")

    def _active(self) -> Bundle | None:
        """The bundle in use; None where there is none, or a damaged one, which this one may mend."""
        if not store.current_name(self._models):
            return None
        try:
            return bundles.load(self._models / store.current_name(self._models))
        except BundleError as problem:
            log.warning("the bundle in use says nothing: %s", problem)
            return None

    def _named(self, draft: Path, name: str, loaded: Bundle) -> Path:
        """The draft under its lasting name."""
        if not name.endswith(f"-{loaded.calibration.version}"):
            raise BundleError(f"{name}: must end with its version, -{loaded.calibration.version}")
        return store.accept(draft, name)

    # ---- the running service

    def _use(
        self,
        action: str,
        name: str,
        signer: str | None,
        gate: Gate,
        accept: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """`current` leads to the bundle, the service has taken it, and it is accepted; or nothing of it."""
        known = self._model_state()
        before = store.activate(self._models, name, begun=bool(known), gate_s=gate.wait_s if known else None)
        running = self._tell()
        try:
            reason = self._refusal(name, known, gate) if running else None
            if reason is None:
                accept()
        except BaseException:
            self._go_back()
            raise
        if reason is not None:
            self._go_back()
            raise RolledBackError(f"{name}: {reason}; {before} is used again")
        if running:  # else the service that starts next gives the verdict
            trial.end(self._models, name)
        return Outcome(action, name, before, signer, running)

    def _go_back(self) -> None:
        """What is on trial has failed: to what was in use before it."""
        if store.go_back(self._models) is not None:
            self._tell()

    def _tell(self) -> bool:
        """Have the service load what `current` leads to. False when none runs."""
        found = status.read(self._config.runtime)
        if found.presence == "absent" or found.content is None:
            return False
        os.kill(found.content["pid"], signal.SIGHUP)
        return True

    def _refusal(self, name: str, known: dict[str, Any], gate: Gate) -> str | None:
        """Why the service does not run the bundle; None when it does and has judged enough frames."""
        deadline = time.monotonic() + gate.wait_s
        seen = "the service has said nothing of it"
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            model = self._model_state()
            if not model:
                return "the service ended while it took the bundle"
            if model["state"] == "rejected" and model["since"] != known.get("since"):
                return f"refused by the service: {model['reason']}"
            if model["bundle"] == name:
                if model["judged"] >= gate.frames:
                    return None
                seen = f"{model['judged']} of {gate.frames} live frames judged"
        return f"not healthy within {gate.wait_s:g} s: {seen}"

    def _model_state(self) -> dict[str, Any]:
        """What the running service says of its model, and the frames it `judged`; empty where none runs."""
        said = status.read(self._config.runtime).content
        return {} if said is None else {**said["model"], "judged": said["verdicts_since_model"]}

    # ---- one at a time, and on record

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(self._models) as lock:
            lock.truncate(0)
            lock.write(f"{self._by} since {stamp()}\n")
            lock.flush()
            self._recover()
            yield

    def _recover(self) -> None:
        """Undo what one before this one has begun and not ended."""
        self._log.close()
        found = trial.read(self._models)
        if found is not None and found.begun and (found.gate_s is not None or not self._model_state()):
            log.error("the trial of %s was cut off: %s is used again", found.bundle, found.before)
            self._go_back()

    @contextlib.contextmanager
    def _logged(self, action: str, name: str) -> Iterator[None]:
        """A line in the log when it begins, and one when it has ended, well or not."""
        self._log.begin(self._by, action, name)
        result = "done"
        try:
            yield
        except BaseException as error:
            result = str(error) or type(error).__name__
            raise
        finally:
            self._log.end(self._by, action, name, result)


def receive(config: Config, action: str, name: str, gate: Gate) -> dict[str, Any]:
    """Do one action of the module's docstring for whoever called sudo; what there is to say, with its `text`.

    Raises EdgeVisionError; nothing has changed then, or it was changed back.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a connection that breaks does not end what was begun
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    by = os.environ.get("SUDO_USER") or getpass.getuser()
    staging = os.environ.get("EDGEVISION_INCOMING")  # root's (install.sh); sudo lets nobody else set it
    receiver = Receiver(config, Path(staging) if staging else INCOMING / by, by)
    match action:
        case "install":
            try:
                return _told(receiver.install(name, gate))
            except MemoryError:
                raise BundleError(f"{name}: takes more than {MOST_BYTES >> 20} MiB of memory") from None
        case "rollback":
            return _told(receiver.rollback(gate))
        case "status":
            return _status(config.runtime)
        case "list":
            return receiver.listing()
        case _:
            return receiver.verify()


def _status(runtime: Path) -> dict[str, Any]:
    """What the running service says of itself, as status.json has it."""
    found = status.read(runtime)
    text = "\n".join(status.lines(found, runtime))
    return {"presence": found.presence, **(found.content or {}), "text": text}


def _told(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome), "text": outcome.describe()}
