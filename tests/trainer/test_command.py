"""What every command of the trainer keeps to."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest

from device.errors import DataError
from trainer import command

log = logging.getLogger(__name__)


def test_the_result_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty() -> Path:
        print("Downloading")
        return Path("bundles/x")

    assert command.run(chatty) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("bundles/x\n", "Downloading\n")


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


def test_arguments_that_commands_share() -> None:
    parser = argparse.ArgumentParser()
    command.add_bundle(parser)
    command.add_data(parser)
    options = parser.parse_args(["--bundle", "b", "--data", "d"])
    assert (options.bundle, options.data, options.format) == (Path("b"), [Path("d")], "auto")
