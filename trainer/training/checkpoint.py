"""States of a training on the disk, so that a killed one goes on where it was.

A file holds arrays and a few words about them. It is complete or not there: written beside, flushed to the
disk, then moved into place.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.errors import StorageError

Arrays = list[NDArray[Any]]
ABOUT = "about"


class Checkpoints:
    """A folder of states that belong to one training. Those of another are thrown away when it is opened.

    `mark`: what tells this training from any other: its data, settings, seed and beginning.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder = folder
        self._mark = folder / "mark"
        if not self._mark.is_file() or self._mark.read_text() != mark:
            shutil.rmtree(folder, ignore_errors=True)
            self._store("mark", mark.encode())

    def __str__(self) -> str:
        return str(self._folder)

    def save(self, name: str, arrays: Sequence[NDArray[Any]], about: dict[str, Any]) -> None:
        """Raises StorageError where the disk does not take it; what was there before stays."""
        path = self._folder / f"{name}.npz"
        numbered = {f"{index:04d}": array for index, array in enumerate(arrays)}
        words = np.frombuffer(json.dumps(about).encode(), np.uint8)
        new = path.with_suffix(".new")
        content = io.BytesIO()
        np.savez(content, **numbered, **{ABOUT: words})
        try:
            with new.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise _unwritten(path, error) from None

    def load(self, name: str) -> tuple[Arrays, dict[str, Any]] | None:
        """(arrays, about), or None where there is no such state."""
        path = self._folder / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path) as stored:
            about = json.loads(stored[ABOUT].tobytes())
            return [stored[key] for key in sorted(stored.files) if key != ABOUT], about

    def keep(self, name: str, kept: str) -> None:
        """A second name for a state, which then stays when the first is saved anew."""
        self._link(self._folder / f"{name}.npz", self._folder / f"{kept}.npz")

    def remove(self) -> None:
        """The training is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _store(self, name: str, content: bytes) -> None:
        path = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise _unwritten(path, error) from None

    @staticmethod
    def _link(path: Path, second: Path) -> None:
        new = second.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            os.link(path, new)
            new.replace(second)
        except OSError as error:
            raise _unwritten(second, error) from None


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written: {error.strerror}; the training stops here and the same command goes on "
        "from the state before, once there is room"
    )
