"""What every command of the trainer keeps to."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from fixtures_trainer import REPOSITORY

from device.errors import DataError
from trainer import command

log = logging.getLogger(__name__)


def test_the_result_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty() -> Path:
        print("Downloading")
        return Path("bundles/x")

    assert command.run(chatty) == 0
    assert capsys.readouterr() == ("bundles/x\n", "")
    assert command.run(chatty, verbose=True) == 0
    assert capsys.readouterr() == ("bundles/x\n", "Downloading\n")


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [(DataError("data: none"), 8, "error: data: none\n"), (KeyboardInterrupt(), 130, "interrupted\n")],
)
def test_a_fault_has_its_code_and_one_line(
    capsys: pytest.CaptureFixture[str], fault: BaseException, code: int, told: str
) -> None:
    def work() -> None:
        raise fault

    assert command.run(work) == code
    assert capsys.readouterr() == ("", told)


def test_what_nobody_foresaw_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 // 0)


CHATTY = """
import logging, os, sys, warnings
from trainer import command
from trainer.steps import Steps, bar

def work():
    with Steps({"counting": 1}).at("counting"):
        os.write(2, b"I0000 port.cc: from C\\n")
        os.system("echo from a child >&2")
        warnings.warn("from a library")
        logging.getLogger("absl").warning("from absl")
        logging.getLogger("trainer.x").warning("mine")
        assert sum(bar(range(3), "numbers", 3)) == 3
        return "result"

sys.exit(command.run(work, verbose="--verbose" in sys.argv))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", script, *arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_log_file_gets_what_the_trainer_says_and_no_bar() -> None:
    done = run(CHATTY)
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert done.stderr.splitlines() == ["step 1 of 1: counting", "mine"]


def test_verbose_lets_libraries_speak() -> None:
    said = run(CHATTY, "--verbose").stderr
    for part in ("from C", "from a child", "from a library", "from absl", "mine"):
        assert part in said


def on_a_terminal(script: str) -> tuple[int, bytes, str]:
    """(exit code, standard output, what the terminal showed)."""
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, 100))
    done = subprocess.run(
        (sys.executable, "-c", script), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=far, check=False
    )
    os.close(far)
    said = b""
    with contextlib.suppress(OSError):  # at its end
        while part := os.read(near, 4096):
            said += part
    os.close(near)
    return done.returncode, done.stdout, said.decode()


def test_a_terminal_gets_a_bar_that_names_the_step() -> None:
    """And nothing of libraries."""
    slow = CHATTY.replace("bar(range(3)", "bar((time.sleep(0.15) or n for n in range(3))")
    slow = slow.replace(
        "def work", "import time\nfrom trainer import steps\nsteps.BAR_AFTER_S = 0.1\ndef work"
    )
    code, out, said = on_a_terminal(slow)
    assert (code, out) == (0, b"result\n")
    assert "step 1 of 1: counting, numbers:" in said
    assert "from C" not in said


def test_a_crash_inside_of_a_library_says_where() -> None:
    script = CHATTY.replace("os.write(2", "import ctypes; ctypes.string_at(0); os.write(2")
    done = run(script)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in work" in done.stderr


def commands() -> list[str]:
    """Every module of the trainer that can be run."""
    files = [path for place in ("*.py", "*/__main__.py") for path in (REPOSITORY / "trainer").glob(place)]
    found = [path for path in files if "__main__" in path.stem + path.read_text("utf-8")]
    modules = (".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in found)
    return sorted(module.removesuffix(".__main__") for module in modules)


def test_the_commands_are_found() -> None:
    assert {"trainer.fit", "trainer.evaluate", "trainer.report", "trainer.compare"} <= set(commands())


@pytest.mark.parametrize("module", commands())
def test_help_is_there_at_once(module: str) -> None:
    """In less than a second: of this process's own time, as others may be at work here."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        (sys.executable, "-X", "importtime", "-m", module, "--help"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m {module} ")
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert loaded & {"tensorflow", "keras", "sklearn", "scipy"} == set()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_arguments_that_commands_share() -> None:
    parser = argparse.ArgumentParser()
    command.add_bundle(parser)
    command.add_data(parser)
    options = parser.parse_args(["--bundle", "b", "--data", "d"])
    assert (options.bundle, options.data, options.format) == (Path("b"), [Path("d")], "auto")
