"""How the process runs, seen in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fixtures_daemon import REPOSITORY

THREADS = """
import sys, threading, ctypes
from device.system import process
if sys.argv[1] == "prepared":
    process.prepare()
print(sys.getswitchinterval())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def use():
    for _ in range(100):
        libc.malloc(1000)
for _ in range(12):  # one after the other would share an arena
    threading.Thread(target=use).start()
libc.malloc_stats()
"""
SETTLED = """
import gc
from device.system import process
kept = [[] for _ in range(10000)]
process.settle()
print(gc.get_freeze_count() > 10000, len(gc.get_objects()) < 1000)
"""
STEPPED_BACK = """
import os, threading
from device.system import process
def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
def tell():
    print(niceness())
def step_back():
    process.step_back(niceness() + 3)
    tell()
    process.step_back(niceness() - 1)
    inner = threading.Thread(target=tell)
    inner.start()
    inner.join()
before = niceness()
thread = threading.Thread(target=step_back)
thread.start()
thread.join()
print(before, niceness() == before)
"""


def ran(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", program, *arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's statistics")
@pytest.mark.parametrize(("mode", "switch_s"), [("prepared", "0.0005"), ("plain", "0.005")])
def test_threads_give_way_soon_and_share_an_arena(mode: str, switch_s: str) -> None:
    done = ran(THREADS, mode)
    assert done.stdout.split() == [switch_s]
    assert (done.stderr.count("Arena ") == 1) == (mode == "prepared")


def test_what_the_start_has_made_is_not_looked_at_again() -> None:
    assert ran(SETTLED).stdout.split() == ["True", "True"]


def test_a_thread_that_steps_back_takes_along_what_it_starts_and_nothing_else() -> None:
    stepped, inner, before, same = ran(STEPPED_BACK).stdout.split()
    assert int(stepped) == int(before) + 3
    assert (inner, same) == (stepped, "True")
