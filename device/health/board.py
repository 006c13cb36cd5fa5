"""The machine that the station runs on: temperature, throttling, supply, disk, memory. Read, not judged.

Where a machine has no such sensor, or a folder is not there, the value is None. `root` is the folder in
which /sys and /proc are looked for, so that recorded readings can be played back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
_KIB = 1024
_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_ZONES = "sys/class/thermal"


@dataclass(frozen=True, slots=True)
class ThrottleBits:
    """The Raspberry Pi firmware's word (`vcgencmd get_throttled`): bits 0-3 now, 16-19 since the start."""

    bits: int

    def __post_init__(self) -> None:
        if not 0 <= self.bits < 1 << 32:
            raise ValueError(f"throttled must be a 32-bit word, got {self.bits:#x}")

    @property
    def under_voltage(self) -> bool:
        """The supply is below 4.63 V at this moment."""
        return bool(self.bits & 1)

    @property
    def slowed(self) -> bool:
        """The processor is slowed at this moment: capped, throttled, or at the soft temperature limit."""
        return bool(self.bits & 0b1110)

    @property
    def had_under_voltage(self) -> bool:
        return bool(self.bits & 1 << 16)

    @property
    def was_slowed(self) -> bool:
        return bool(self.bits & 0b1110 << 16)


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of a folder, as seen by a user who is not root."""

    total_bytes: int
    free_bytes: int
    total_inodes: int  # 0: a file system that counts none
    free_inodes: int
    read_only: bool

    @property
    def free_ratio(self) -> float:
        return self.free_bytes / self.total_bytes if self.total_bytes else 0.0

    @property
    def free_inodes_ratio(self) -> float:
        return self.free_inodes / self.total_inodes if self.total_inodes else 1.0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """`resident_bytes`: of this process. `available_bytes`: what the machine could still give out."""

    resident_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """All of it at one moment; None is what this machine cannot tell."""

    temperature_c: float | None
    throttled: ThrottleBits | None
    disk: Disk | None
    memory: MemoryUse | None


class Board:
    """The sensors of this machine, and the disk that `folder` (or the nearest parent that exists) is on."""

    def __init__(
        self,
        folder: Path,
        root: Path = Path("/"),
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._folder = folder
        self._root = root
        self._statvfs = statvfs

    def read(self) -> Reading:
        """Look at everything once: a few small files, below a millisecond."""
        return Reading(self._temperature_c(), self._throttled(), self._disk(), self._memory())

    def _temperature_c(self) -> float | None:
        """The hottest thermal zone."""
        zones = sorted((self._root / _ZONES).glob("thermal_zone*/temp"))
        found = [_number(zone, 10) for zone in zones]
        return max((value / 1000 for value in found if value is not None), default=None)

    def _throttled(self) -> ThrottleBits | None:
        bits = _number(self._root / _THROTTLED, 16)
        return ThrottleBits(bits) if bits is not None and 0 <= bits < 1 << 32 else None

    def _disk(self) -> Disk | None:
        folder = self._folder
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            found = self._statvfs(folder)
        except OSError:
            return None
        return Disk(
            total_bytes=found.f_blocks * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            total_inodes=found.f_files,
            free_inodes=found.f_favail,
            read_only=bool(found.f_flag & os.ST_RDONLY) or self._stopped(folder),
        )

    def _stopped(self, folder: Path) -> bool:
        """Whether the kernel has stopped writing after an error. Newer ones leave ST_RDONLY unset then."""
        try:
            device = folder.stat().st_dev
            lines = (self._root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
        except OSError:
            return False
        number = f"{os.major(device)}:{os.minor(device)}"
        return any(
            fields[2] == number and not {"emergency_ro", "shutdown"}.isdisjoint(fields[-1].split(","))
            for fields in map(str.split, lines)
        )

    def _memory(self) -> MemoryUse | None:
        resident = _kib(self._root / "proc/self/status", "VmRSS")
        available = _kib(self._root / "proc/meminfo", "MemAvailable")
        if resident is None or available is None:
            return None
        return MemoryUse(resident * _KIB, available * _KIB)


def _number(path: Path, base: int) -> int | None:
    """The only number of a file; None where there is none (thermal zones may refuse to be read)."""
    try:
        return int(path.read_text("ascii"), base)
    except (OSError, ValueError):
        return None


def _kib(path: Path, name: str) -> int | None:
    """The number behind `name:` in one of /proc's tables."""
    try:
        lines = path.read_text("ascii", "replace").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
    except (OSError, ValueError, IndexError):
        return None
