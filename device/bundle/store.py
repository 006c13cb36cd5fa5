"""The bundles of a station or of a trainer, beside each other in one folder, and which of them is in use.

    <name>-<UTC>-<sha8>/ a bundle (bundle.py), complete and checked from the moment it has this name
    current              a link to the one in use
    previous             a link to the one that was in use before it
    .trial               what was switched and has no verdict yet (trial.py)
    .<name>-....draft/   one that is being written; what a power cut left of it is removed by the next `prune`

Three steps, each whole or not at all: a bundle is published (it has its name), proven (its golden images),
and activated (`current` leads to it).
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from device.bundle import manifest, trial
from device.bundle.bundle import CURRENT, Bundle, Contents, load, write
from device.bundle.trial import Trial
from device.errors import BundleError, StorageError
from device.system import durable

log = logging.getLogger(__name__)

PREVIOUS = "previous"


# ---- what is there


def current_name(models: Path) -> str:
    """The name of the bundle that `current` leads to, or "" where there is none."""
    return _target(models / CURRENT)


def previous_name(models: Path) -> str:
    """The name of the bundle that a roll-back leads to, or "" where there is none."""
    previous = _target(models / PREVIOUS)
    return previous if previous != _target(models / CURRENT) else ""


def names(models: Path) -> list[str]:
    """The bundles that are there, whole or not, the newest first."""
    folders = (path.parent for path in models.glob(f"[!.]*/{manifest.FILE}"))
    own = [folder for folder in folders if not folder.is_symlink()]
    return [folder.name for folder in sorted(own, key=lambda folder: _time_of(folder.name), reverse=True)]


def prune(models: Path, most: int) -> None:
    """Remove drafts that a power cut left, and all but the newest `most`, current and previous."""
    for draft in models.glob(".*.draft"):
        shutil.rmtree(draft, ignore_errors=True)
    kept = {current_name(models), previous_name(models)}
    for name in names(models)[most:]:
        if name not in kept:
            log.info("bundle %s is removed: %d newer ones are kept", name, most)
            shutil.rmtree(models / name, ignore_errors=True)


# ---- publishing


def draft_path(models: Path, name: str) -> Path:
    """Where a bundle may be written before it has its name: a folder that is not there yet."""
    return models / f".{name}-{secrets.token_hex(4)}.draft"


def publish(
    models: Path, name: str, contents: Contents, prove: Callable[[Bundle], object] = lambda _: None
) -> Path:
    """Write a bundle beside the others, not in use yet: <name>-<its version>, complete and checked, or none.

    `prove` is given the bundle before it has its name, and may raise. Raises StorageError where the disk does
    not take it or a bundle of this name is there, BundleError where `load` would refuse the content.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BundleError(f"bundle name: must be 1..64 letters, digits, '.', '_' or '-', got {name!r}")
    final = models / f"{name}-{contents.calibration.version}"
    draft = draft_path(models, name)
    try:
        prove(write(draft, contents))
        if final.exists():  # rename would put up with an empty folder
            raise FileExistsError(errno.EEXIST, "exists already", str(final))
        draft.rename(final)
        durable.sync_folder(models)
    except OSError as error:
        raise StorageError(f"{final}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def accept(draft: Path, name: str) -> Path:
    """Give a checked draft that came from elsewhere its name; where it lies now.

    One that is there already stays if it is whole and the same; a damaged one is replaced.
    Raises BundleError where another one has the name, StorageError.
    """
    final = draft.with_name(name)
    try:
        if not final.exists():
            draft.rename(final)
        elif (damage := _damage(final)) is None:
            _require_same(final, draft)
        else:
            log.warning("%s; it is replaced", damage)
            durable.exchange(draft, final)
        durable.sync_folder(final.parent)
    except OSError as error:
        raise StorageError(f"{final}: cannot be written: {error.strerror}") from error
    return final


# ---- in use


def lead_to(published: Path) -> Path:
    """Make `current` lead to a bundle that was published a moment ago, without a trial; its path.

    For a trainer's folder, where nothing runs: a station activates. Where the link cannot be written the
    bundle goes again. Raises StorageError.
    """
    models = published.parent
    try:
        _switch(models / CURRENT, published.name)
    except BaseException as error:
        withdrawn = published.rename(draft_path(models, published.name))
        shutil.rmtree(withdrawn, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageError(f"{models / CURRENT}: cannot be written: {error}") from error
        raise
    durable.sync_folder(models)
    return published


def activate(models: Path, name: str, *, begun: bool = False, gate_s: float | None = None) -> str:
    """Make `current` lead to the bundle `name` in the folder `models`, and `previous` to the one before it.

    The bundle is checked from end to end first, and then on trial (trial.py), `begun` and `gate_s` as there:
    cut at any point, `current` leads to a whole bundle, and what was tried, what was in use before it and
    what was before that are known. Activating what is in use changes nothing.
    Returns the name of the bundle that was in use, or "" where there was none.
    Raises BundleError, and StorageError where a link cannot be written.
    """
    require_models(models)
    if Path(name).name != name or name in {"", CURRENT, PREVIOUS}:
        raise BundleError(f"bundle: must be the name of a folder in {models}, got {name!r}")
    load(models / name)
    in_use = _target(models / CURRENT)
    if in_use == name:
        return in_use
    before, older = _last_tried(models, in_use)
    if before and before != name:
        trial.note(models, Trial(name, before, older, begun, gate_s))
    try:
        _switch(models / CURRENT, name)
        if in_use:
            _switch(models / PREVIOUS, in_use)
        durable.sync_folder(models)
    except OSError as error:
        raise StorageError(f"{models}: cannot be switched to {name}: {error.strerror}") from error
    if before == name:  # it has had its trial, and what waited for one is not in use any more
        trial.end(models, in_use)
    return in_use


def _last_tried(models: Path, in_use: str) -> tuple[str, str]:
    """What a trial that begins now goes back to, and what was before that.

    Not to what is in use where no service has opened that yet.
    """
    waiting = trial.read(models)
    if waiting is not None and waiting.bundle == in_use and not waiting.begun:
        return waiting.before, waiting.older
    return in_use, _target(models / PREVIOUS)


def rollback(models: Path, *, begun: bool = False) -> str:
    """Activate the bundle that `previous` leads to. Returns its name. Raises BundleError, StorageError."""
    require_models(models)
    previous = _target(models / PREVIOUS)
    if not previous:
        raise BundleError(f"{models / PREVIOUS}: no bundle was in use before this one")
    if previous == _target(models / CURRENT):
        raise BundleError(f"{models / PREVIOUS}: leads to {previous}, which is in use already")
    activate(models, previous, begun=begun)
    return previous


def go_back(models: Path) -> Trial | None:
    """End a trial, failed: both links lead to what they led to before it. The trial; None without one.

    A `current` that somebody has led elsewhere since stays. Raises StorageError.
    """
    found = trial.read(models)
    if found is None:
        return None
    try:
        if _target(models / CURRENT) == found.bundle:
            _switch(models / CURRENT, found.before)
        if _target(models / PREVIOUS) == found.before == _target(models / CURRENT):
            if found.older:
                _switch(models / PREVIOUS, found.older)
            else:
                (models / PREVIOUS).unlink()
        durable.sync_folder(models)
    except OSError as error:
        reason = f"cannot be switched back to {found.before}: {error.strerror}"
        raise StorageError(f"{models}: {reason}") from error
    trial.end(models, found.bundle)
    return found


def keep(models: Path, running: str, rejected: str) -> None:
    """Let `current` lead to the bundle `running` again, if it leads to `rejected`, which was found unfit.

    So that the next start, after a power cut for one, does not meet the unfit one. `previous` stays, or leads
    to what it led to before the trial of `rejected`. Raises StorageError.
    """
    found = trial.read(models)
    if found is not None and (found.bundle, found.before) == (rejected, running):
        go_back(models)
    if not rejected or rejected == running or _target(models / CURRENT) != rejected:
        return
    try:
        _switch(models / CURRENT, running)
        durable.sync_folder(models)
    except OSError as error:
        raise StorageError(f"{models}: cannot be switched back to {running}: {error.strerror}") from error


def require_models(models: Path) -> None:
    """A folder of bundles, and not one bundle, to which nothing may be added. Raises BundleError."""
    if (models / manifest.FILE).exists():
        raise BundleError(f"{models}: is one bundle; a folder of bundles with a link `{CURRENT}` is needed")
    if not models.is_dir():
        raise BundleError(f"{models}: must be a folder of bundles, does not exist")


def _target(link: Path) -> str:
    """The name of the folder beside it that a link leads to; "" where there is no such link."""
    try:
        return link.readlink().name
    except OSError:
        return ""


def _switch(link: Path, target: str) -> None:
    """Make `link` lead to `target` in one step: a reader sees the old bundle or the new, never none."""
    fresh = link.with_name(f".{link.name}-{secrets.token_hex(4)}")
    try:
        fresh.symlink_to(target)
        os.replace(fresh, link)  # noqa: PTH105 - named as in the manual page rename(2)
    finally:
        fresh.unlink(missing_ok=True)


def _damage(bundle: Path) -> str | None:
    """Why a bundle that is here does not verify; None where it is whole."""
    try:
        manifest.verify(bundle)
    except BundleError as problem:
        return str(problem)
    return None


def _require_same(final: Path, draft: Path) -> None:
    """A bundle is never changed: what is there under this name must be what has come."""
    here, come = ((folder / manifest.FILE).read_bytes() for folder in (final, draft))
    if here != come:
        raise BundleError(f"{final}: is there already, and is not the same bundle")


def _time_of(name: str) -> str:
    """The time in a bundle's name, <name>-<UTC>-<sha8>, to sort by."""
    return name.rsplit("-", 2)[1] if name.count("-") >= 2 else ""
