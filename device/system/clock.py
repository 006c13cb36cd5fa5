"""The wall clock, how its times are written, and whether it can be believed.

A Raspberry Pi has no battery clock: until time has come from the network, its dates are wrong. The kernel
keeps an estimate of its own error, and systemd decides from it (`timedatectl`: "System clock synchronized").
This is the same rule, so that the two never disagree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SYNCED_BELOW_US = 16_000_000  # systemd's ntp_synced(): an estimated error of 16 s means "never set"


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, as far as maxerror; the rest is room that the kernel writes to."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


def _find_adjtimex() -> Callable[..., int] | None:
    try:
        return ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):  # not Linux
        return None


_adjtimex = _find_adjtimex()


def clock_synced() -> bool:
    """True when the kernel believes the wall clock to be right; False as well when it cannot be asked."""
    if _adjtimex is None:
        return False
    state = _Timex(modes=0)  # modes 0 only reads
    return _adjtimex(ctypes.byref(state)) >= 0 and bool(state.maxerror < _SYNCED_BELOW_US)


def rfc3339(time: int | datetime) -> str:
    """RFC 3339 in UTC with milliseconds, cut and not rounded: no verdict comes from the future.

    `time`: ns since 1970, or a datetime of any zone.
    """
    if not isinstance(time, datetime):
        time = _EPOCH + timedelta(milliseconds=time // 1_000_000)
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """This moment, as rfc3339 writes it."""
    return rfc3339(datetime.now(UTC))


def stamp() -> str:
    """This second, as `created` of a bundle has it: RFC 3339 in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
