"""What a training says of itself, epoch by epoch: kept for the report, written for TensorBoard where asked.

The files are TensorBoard's own (records of Event protocol buffers), a folder for each run, and need nothing
but TensorFlow to be written. They are flushed after every epoch, so that one can watch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device.errors import StorageError

FIRST = "brain.Event:2"  # the version that the first record of a file must name


class Logbook:
    """`folder`: where TensorBoard finds the runs; None: nothing is written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []

    def note(self, run: str, epoch: int, values: Mapping[str, float]) -> None:
        """The values of one epoch of a run, by name ("loss", "val_ap", "learning_rate").

        An epoch that is noted again, after a training was resumed, takes the place of the one before.
        Raises StorageError.
        """
        row = {"run": run, "epoch": epoch, **{name: float(value) for name, value in values.items()}}
        self.history = [old for old in self.history if (old["run"], old["epoch"]) != (run, epoch)]
        self.history.append(row)
        if self._folder is None:
            return
        try:
            self._write(self._folder, run, epoch, values)
        except Exception as error:  # TensorFlow's own, which are no OSError
            reason = " ".join(str(error).split())[:200]
            raise StorageError(f"--logs {self._folder}: cannot be written: {reason}") from error

    def _write(self, folder: Path, run: str, epoch: int, values: Mapping[str, float]) -> None:
        import tensorflow as tf

        kinds = tf.compat.v1
        if run not in self._writers:
            place = folder / run
            place.mkdir(parents=True, exist_ok=True)
            writer = tf.io.TFRecordWriter(str(place / f"events.out.tfevents.{time.time():.6f}"))
            writer.write(kinds.Event(wall_time=time.time(), file_version=FIRST).SerializeToString())
            self._writers[run] = writer
        said = [kinds.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        event = kinds.Event(wall_time=time.time(), step=epoch, summary=kinds.Summary(value=said))
        self._writers[run].write(event.SerializeToString())
        self._writers[run].flush()
