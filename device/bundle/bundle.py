"""A bundle: the folder that holds a model and everything that gives its output a meaning.

    <name>-<UTC>-<sha8>/
      model.tflite       int8 inside; uint8 NHWC image in, evidence map out
      calibration.json   see calibration.py
      golden/            images with the scores they must give
      memory.npz         features of good parts, see memory.py; only where the model gives features
      reference.npz      what good parts look like, see reference.py; only where parts sit still
      manifest.json      see manifest.py; written last, so a folder without it is no bundle

A bundle is checked as a whole before anything of it is used, and never changed after it was written. Where
bundles lie beside each other, and which is in use: store.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device.bundle import calibration as calibrations
from device.bundle import manifest, memory, model_card, reference
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
from device.errors import BundleError
from device.system import durable

__all__ = [
    "Bundle",
    "Calibration",
    "Colour",
    "Contents",
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
    "check_golden",
    "load",
    "write",
]

MODEL_FILE = "model.tflite"
GOLDEN_FOLDER = "golden"
CURRENT = "current"  # a link beside bundles, to the one in use


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


# ---- writing


@dataclass(frozen=True, slots=True)
class Contents:
    """What a bundle is written from. `golden`: PNG files by name; `extra`: any other files by their path."""

    model: bytes
    calibration: Calibration
    golden: Mapping[str, bytes]
    extra: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises BundleError."""
        if self.calibration.model_sha256 != hashlib.sha256(self.model).hexdigest():
            raise BundleError(f"{calibrations.FILE}: model_sha256: must be that of the model to write")

    def files(self) -> dict[str, bytes]:
        """All of the bundle by path; the manifest, which lists the others, last. Raises BundleError."""
        files = {
            MODEL_FILE: self.model,
            calibrations.FILE: self.calibration.to_json().encode(),
            model_card.FILE: model_card.model_card(self.calibration),
            **{f"{GOLDEN_FOLDER}/{file}": content for file, content in self.golden.items()},
        }
        if taken := files.keys() & self.extra.keys():
            raise BundleError(f"{min(taken)}: must not be among the extra files")
        files.update(self.extra)
        return {**files, manifest.FILE: manifest.of_contents(files).encode()}


def write(folder: Path, contents: Contents) -> Bundle:
    """Write a bundle into a folder that is not there yet, and check it; all of it is on the disk then.

    Raises BundleError where `load` refuses the content, OSError where the disk does; what was written stays.
    """
    files = contents.files()
    folder.mkdir(parents=True)
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.create(path, content)
    durable.sync_folders(folder)
    return load(folder)
