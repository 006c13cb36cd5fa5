"""What trainer.fit was asked for on its command line, and what of it goes together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from device.errors import ConfigError, StorageError
from device.system import durable
from trainer.data.grouping import Grouping


@dataclass(frozen=True, slots=True)
class FitOptions:
    """The command line of trainer.fit. `weights`: imagenet, none or a file, as asked for; None: imagenet."""

    data: tuple[Path, ...]
    format: str
    out: Path
    mode: Literal["supervised", "good-only"] = "supervised"
    start: Path | None = None  # the bundle of --from
    weights: str | None = None
    head: Literal["evidence", "dense"] = "evidence"
    qat: bool = False
    quick: bool = False
    input_size: int | None = None
    limit: int | None = None
    seed: int = 0
    keep_network: Path | None = None
    logs: Path | None = None
    groups: Grouping = "found"

    def check(self) -> None:
        """Everything that can be known before the long part. Raises ConfigError, StorageError."""
        self._check_weights()
        self._check_together()
        durable.require_folder(self.out, f"--out {self.out}")
        if self.keep_network is not None:
            durable.require_folder(self.keep_network.parent, f"--keep-network {self.keep_network}")
            if self.keep_network.is_dir():
                raise StorageError(f"--keep-network {self.keep_network}: cannot be written: is a folder")
        if self.logs is not None:
            durable.require_folder(self.logs, f"--logs {self.logs}")

    def _check_weights(self) -> None:
        given = self.weights
        if given not in (None, "imagenet", "none") and not Path(str(given)).is_file():
            raise ConfigError(f"--weights: must be imagenet, none or a file, got {given} (no such file)")

    def _check_together(self) -> None:
        training = (
            *self._asked("--head", self.head != "evidence"),
            *self._asked("--qat", self.qat),
            *self._asked("--keep-network", self.keep_network is not None),
            *self._asked("--logs", self.logs is not None),
        )
        network = (
            *self._asked("--weights", self.weights is not None),
            *self._asked("--input-size", self.input_size is not None),
        )
        if self.mode == "good-only" and self.start is not None:
            raise ConfigError("--from: needs --mode supervised, as it is known defects that sharpen a bundle")
        if self.mode == "good-only":
            _refuse("--mode good-only: trains no network", training)
        if self.start is not None:
            ignored = (*training, *self._asked("--quick", self.quick), *network)
            _refuse("--from: keeps the bundle's network and its input", ignored)
        if self.head == "dense" or self.weights == "none":
            way = "--head dense" if self.head == "dense" else "--weights none"
            beyond = (*self._asked("--qat", self.qat), *self._asked("--quick", self.quick))
            _refuse(f"{way}: there is no probe's model to train on", beyond)
        if self.quick:
            _refuse("--quick: nothing is trained after the probe", self._asked("--qat", self.qat))
        if self.weights == "none":
            _refuse(
                "--weights none: an evidence head is trained", self._asked("--head", self.head != "evidence")
            )

    @staticmethod
    def _asked(name: str, given: bool) -> tuple[str, ...]:
        return (name,) if given else ()


def _refuse(reason: str, given: Iterable[str]) -> None:
    """What is asked for, and that a way of learning would ignore."""
    if names := ", ".join(given):
        raise ConfigError(f"{reason}: not with {names}")
