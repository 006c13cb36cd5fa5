"""A board whose sensors say what a test writes: files in place of /sys and /proc, and a disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.health.board import Board

_FILES = {
    "throttled": "sys/devices/platform/soc/soc:firmware/get_throttled",
    "temperature_c": "sys/class/thermal/thermal_zone0/temp",
    "resident_kib": "proc/self/status",
    "available_kib": "proc/meminfo",
}


@dataclass
class FakeBoard:
    """set() changes what the sensors say; a fresh one is a Pi at rest."""

    root: Path
    free_ratio: float = 0.6
    free_inodes_ratio: float = 0.9
    read_only: bool = False
    said: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.set(temperature_c=48.3, throttled="0", resident_kib=90_000, available_kib=1_500_000)

    def set(self, **values: Any) -> None:
        self.said.update(values)
        for name, value in values.items():
            path = self.root / _FILES[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_text(name, value))

    def board(self) -> Board:
        return Board(self.root, self.root, self._statvfs)

    def _statvfs(self, path: Path) -> os.statvfs_result:
        blocks, inodes = 1_000_000, 100_000
        free, free_inodes = int(blocks * self.free_ratio), int(inodes * self.free_inodes_ratio)
        flags = os.ST_RDONLY if self.read_only else 0
        return os.statvfs_result(
            (4096, 4096, blocks, free, free, inodes, free_inodes, free_inodes, flags, 255)
        )


def _text(name: str, value: Any) -> str:
    if name == "temperature_c":
        return f"{round(value * 1000)}\n"
    if name == "resident_kib":
        return f"Name:\tpython\nVmHWM:\t  99999 kB\nVmRSS:\t  {value} kB\n"
    if name == "available_kib":
        return f"MemTotal:  4000000 kB\nMemFree:  1 kB\nMemAvailable:  {value} kB\n"
    return f"{value}\n"


def recorded(path: Path) -> Iterator[list[str]]:
    """The rows of a recorded sequence: a line each, fields by spaces, # begins a comment."""
    for line in path.read_text("ascii").splitlines():
        if line and not line.startswith("#"):
            yield line.split()
