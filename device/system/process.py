"""How this process runs: when its threads give way to each other, how many OpenCV has, how memory is kept.

glibc gives every thread an arena of its own, and each keeps what its thread has freed; a station has a dozen
threads. So there is one, and it keeps room for what the next frame needs: memory that the system has taken
back costs a page fault every 4 KiB. Pictures are mapped by themselves, and given back as soon as nobody needs
them: when they lay among what stays, memory grew by 11 bytes a frame. With another C library this costs
memory and time, and nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

import cv2

SWITCH_S = 0.0005  # a thread that works in Python gives way so soon; Python's own 5 ms would delay verdicts
NICENESS = 5  # of the threads beside the model's
_M_TRIM_THRESHOLD = -1  # these three: malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_PICTURE_BYTES = 512 * 1024  # what is as large is mapped by itself; 224 x 224 pixels are not
_ROOM_BYTES = 4 * 1024 * 1024  # that are kept at the end of the arena


def prepare() -> None:
    """Call it first of all, before there are other threads."""
    sys.setswitchinterval(SWITCH_S)
    cv2.setNumThreads(1)  # its threads wait by spinning, on the cores that the model is at work on
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _PICTURE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _ROOM_BYTES)


def step_back(niceness: int = NICENESS) -> None:
    """This thread, and those that it starts from now on, work in the time that the model's thread leaves.

    Where all cores are at work, one that wakes up would interrupt the model in the middle of a frame. For
    threads that nobody waits for within milliseconds. There is no way back without a privilege.
    """
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


def settle() -> None:
    """After the start: give back what only that has needed, and spare the collector what stays for good."""
    gc.collect()
    gc.freeze()
    if (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        malloc_trim(0)
