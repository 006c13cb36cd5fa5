"""A bundle: the folder that holds a model and everything that gives its output a meaning.

    <name>-<UTC>-<sha8>/
      model.tflite       int8 inside; uint8 NHWC image in, evidence map out
      calibration.json   see calibration.py
      golden/            images with the scores they must give
      memory.npz         features of good parts, see memory.py; only where the model gives features
      reference.npz      what good parts look like, see reference.py; only where parts sit still
      manifest.json      see manifest.py; written last, so a folder without it is no bundle
    current              a link beside the bundles, to the one in use
    previous             a link to the one that was in use before it

A bundle is checked as a whole before anything of it is used, and never changed after it was written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device.bundle import calibration as calibrations
from device.bundle import manifest, memory, reference, trial
from device.bundle.calibration import (
    Calibration,
    Colour,
    DriftReference,
    GoldenSpec,
    GoldenVector,
    LocalizationSpec,
    MemorySpec,
    Pooling,
    PoolingKind,
    PreprocessSpec,
    Quantization,
    Reference,
    ReferenceSpec,
    ScoreCalibration,
    ThresholdRow,
    Thresholds,
)
from device.bundle.memory import Memory
from device.bundle.reference import GoldenReference
from device.bundle.trial import Trial
from device.errors import BundleError, StorageError
from device.system import durable

__all__ = [
    "Bundle",
    "Calibration",
    "Colour",
    "DriftReference",
    "GoldenSpec",
    "GoldenVector",
    "LocalizationSpec",
    "MemorySpec",
    "Pooling",
    "PoolingKind",
    "PreprocessSpec",
    "Quantization",
    "Reference",
    "ReferenceSpec",
    "ScoreCalibration",
    "ThresholdRow",
    "Thresholds",
    "activate",
    "check_golden",
    "go_back",
    "keep",
    "load",
    "rollback",
    "write",
]

MODEL_FILE = "model.tflite"
GOLDEN_FOLDER = "golden"
CURRENT = "current"
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle. `name` is the name of its folder."""

    path: Path
    calibration: Calibration
    name: str

    @property
    def model_path(self) -> Path:
        return self.path / MODEL_FILE

    @property
    def sha256(self) -> str:
        """Of the model, hex."""
        return self.calibration.model_sha256

    def reference(self) -> GoldenReference | None:
        """The golden reference, read from its file; None where there is none."""
        if self.calibration.localization.reference is None:
            return None
        return GoldenReference.from_file(self.path / reference.FILE)

    def memory(self) -> Memory | None:
        """The memory of good parts, read from its file; None where the model gives evidence itself."""
        spec = self.calibration.memory
        return None if spec is None else Memory.from_file(self.path / memory.FILE, spec)

    def golden_path(self, vector: GoldenVector) -> Path:
        """The image of a golden vector."""
        return self.path / GOLDEN_FOLDER / vector.file


# ---- reading


def load(path: str | Path) -> Bundle:
    """The bundle in a folder, or the one that the folder's `current` leads to, checked from end to end.

    Raises BundleError naming the file and the field: see manifest.verify and Calibration.from_json; also
    where the model or the golden images are not those of the calibration. The scores are for check_golden.
    """
    try:
        folder = _bundle_folder(Path(path))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    entries = manifest.verify(folder)
    for file in (MODEL_FILE, calibrations.FILE):
        if file not in entries:
            raise BundleError(f"{folder / manifest.FILE}: files: must list {file}")
    source = folder / calibrations.FILE
    calibration = Calibration.from_json(source.read_bytes(), str(source))
    if calibration.model_sha256 != entries[MODEL_FILE].sha256:
        raise BundleError(
            f"{source}: model_sha256: must be that of {MODEL_FILE}, {entries[MODEL_FILE].sha256}, "
            f"got {calibration.model_sha256}"
        )
    listed = {entry for entry in entries if entry.startswith(f"{GOLDEN_FOLDER}/")}
    _require_golden(source, listed, calibration)
    _require_reference(folder, reference.FILE in entries, calibration)
    _require_memory(folder, memory.FILE in entries, calibration)
    return Bundle(folder, calibration, folder.name)


def _bundle_folder(path: Path) -> Path:
    """The real folder of the bundle, so that a switch of `current` does not pull it away."""
    current = path / CURRENT
    if (path / manifest.FILE).exists():
        return path.resolve()
    if (current / manifest.FILE).exists():
        return current.resolve()
    if current.is_symlink():
        raise BundleError(f"{current}: leads to {current.readlink()}, where there is no {manifest.FILE}")
    if not path.is_dir():
        raise BundleError(f"{path}: must be a folder, {'is a file' if path.exists() else 'does not exist'}")
    raise BundleError(f"{path}: must hold a bundle ({manifest.FILE}) or a link `{CURRENT}` to one")


def _require_golden(source: Path | str, listed: set[str], calibration: Calibration) -> None:
    """The images in golden/ are those that the calibration gives a score for, no more and no less."""
    scored = {f"{GOLDEN_FOLDER}/{vector.file}" for vector in calibration.golden.vectors}
    for file in sorted(scored - listed):
        raise BundleError(f"{source}: golden.vectors: {file} is not in the bundle")
    for file in sorted(listed - scored):
        raise BundleError(f"{source}: golden.vectors: {file} is in the bundle and has no score")


def _require_reference(folder: Path, listed: bool, calibration: Calibration) -> None:
    """The golden reference is there where the calibration uses it, and only there, and within the input."""
    used = calibration.localization.reference is not None
    source = f"{folder / calibrations.FILE}: localization.reference"
    if used != listed:
        raise BundleError(f"{source}: must be given with {reference.FILE}, and only with it")
    if not used:
        return
    size, limit = GoldenReference.from_file(folder / reference.FILE).size, calibration.preprocess.size
    if size.width > limit.width or size.height > limit.height:
        raise BundleError(f"{folder / reference.FILE}: mean must be within the input, {limit}, got {size}")


def _require_memory(folder: Path, listed: bool, calibration: Calibration) -> None:
    """The memory is there where the calibration tells how it is used, and only there."""
    spec = calibration.memory
    if (spec is not None) != listed:
        source = f"{folder / calibrations.FILE}: memory"
        raise BundleError(f"{source}: must be given with {memory.FILE}, and only with it")
    if spec is not None:
        Memory.from_file(folder / memory.FILE, spec)


def check_golden(bundle: Bundle, score: Callable[[Path], float]) -> None:
    """Score every golden image. Raises BundleError where one is off by more than the tolerance."""
    tolerance = bundle.calibration.golden.tolerance
    for vector in bundle.calibration.golden.vectors:
        path = bundle.golden_path(vector)
        found = score(path)
        if not abs(found - vector.score) <= tolerance:
            raise BundleError(
                f"{path}: must score {vector.score:.6f} within {tolerance:g}, scores {found:.6f} here"
            )


# ---- in use


def activate(models: Path, name: str, *, begun: bool = False, gate_s: float | None = None) -> str:
    """Make `current` lead to the bundle `name` in the folder `models`, and `previous` to the one before it.

    The bundle is checked from end to end first, and then on trial (trial.py), `begun` and `gate_s` as there:
    cut at any point, `current` leads to a whole bundle, and what was tried, what was in use before it and
    what was before that are known. Activating what is in use changes nothing.
    Returns the name of the bundle that was in use, or "" where there was none.
    Raises BundleError, and StorageError where a link cannot be written.
    """
    _require_models(models)
    if Path(name).name != name or name in {"", CURRENT, PREVIOUS}:
        raise BundleError(f"bundle: must be the name of a folder in {models}, got {name!r}")
    load(models / name)
    before = _target(models / CURRENT)
    if before == name:
        return before
    if before:
        trial.note(models, Trial(name, before, _target(models / PREVIOUS), begun, gate_s))
    try:
        _switch(models / CURRENT, name)
        if before:
            _switch(models / PREVIOUS, before)
        durable.sync_folder(models)
    except OSError as error:
        raise StorageError(f"{models}: cannot be switched to {name}: {error.strerror}") from error
    return before


def rollback(models: Path, *, begun: bool = False) -> str:
    """Activate the bundle that `previous` leads to. Returns its name. Raises BundleError, StorageError."""
    _require_models(models)
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


def current_name(models: Path) -> str:
    """The name of the bundle that `current` leads to, or "" where there is none."""
    return _target(models / CURRENT)


def previous_name(models: Path) -> str:
    """The name of the bundle that a roll-back leads to, or "" where there is none."""
    previous = _target(models / PREVIOUS)
    return previous if previous != _target(models / CURRENT) else ""


def _require_models(models: Path) -> None:
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


# ---- writing


def write(
    folder_parent: str | Path,
    name: str,
    model_bytes: bytes,
    calibration: Calibration,
    golden: Mapping[str, bytes],
    extra: Mapping[str, bytes],
) -> Path:
    """Write a bundle beside the others in `folder_parent` and make `current` lead to it; its path.

    `golden` is {name: PNG bytes} for golden/, `extra` {path in the bundle: bytes}. The folder is named
    <name>-<calibration.version>. It appears under that name complete and checked, or not at all.

    Raises StorageError where the disk does not take it (what was there before is untouched), BundleError
    where the content would be refused by `load`.
    """
    parent = Path(folder_parent)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BundleError(f"bundle name: must be 1..64 letters, digits, '.', '_' or '-', got {name!r}")
    if calibration.model_sha256 != hashlib.sha256(model_bytes).hexdigest():
        raise BundleError(f"{calibrations.FILE}: model_sha256: must be that of the model to write")
    files = {
        MODEL_FILE: model_bytes,
        calibrations.FILE: calibration.to_json().encode(),
        **{f"{GOLDEN_FOLDER}/{file}": content for file, content in golden.items()},
    }
    if taken := files.keys() & extra.keys():
        raise BundleError(f"{min(taken)}: must not be among the extra files")
    files.update(extra)
    listing = manifest.of_contents(files)
    final = parent / f"{name}-{calibration.version}"
    draft = parent / f".{name}-{secrets.token_hex(4)}.draft"
    try:
        _write_all(draft, {**files, manifest.FILE: listing.encode()})
        load(draft)
        _publish(draft, final)
    except OSError as error:
        raise StorageError(f"{final}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """The files in this order, and all of them on the disk when this returns."""
    folder.mkdir(parents=True)
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.create(path, content)
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        durable.sync_folder(inner)


def _publish(draft: Path, final: Path) -> None:
    """Give the draft its name and switch `current`; where the switch fails the name is taken back."""
    if final.exists():  # rename would put up with an empty folder
        raise FileExistsError(errno.EEXIST, "exists already", str(final))
    draft.rename(final)
    try:
        _switch(final.parent / CURRENT, final.name)
    except BaseException:
        final.rename(draft)
        raise
    durable.sync_folder(final.parent)


def _switch(link: Path, target: str) -> None:
    """Make `link` lead to `target` in one step: a reader sees the old bundle or the new, never none."""
    fresh = link.with_name(f".{link.name}-{secrets.token_hex(4)}")
    try:
        fresh.symlink_to(target)
        os.replace(fresh, link)  # noqa: PTH105 - named as in the manual page rename(2)
    finally:
        fresh.unlink(missing_ok=True)
