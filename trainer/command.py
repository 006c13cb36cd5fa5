"""The frame of every command of the trainer: its log, its one result, its error and its exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from device.errors import EdgeVisionError
from trainer.layouts.layouts import FORMATS

INTERRUPTED = 130
NOISY = ("absl", "tensorflow", "h5py")  # loggers that have nothing to say to who trains


def run(work: Callable[[], object]) -> int:
    """Do the work and print what it gives, alone on standard output; the exit code.

    The log, and what is printed meanwhile (Keras prints its downloads and epochs), go to standard error.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = work()
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(result)
    return 0


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """The argument --bundle."""
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="or a folder with `current`"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """The arguments --data, a list of paths, and --format."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        metavar="PATH",
        help="a folder or a .csv manifest (docs/data.md); given several times, the data sets are united",
    )
    parser.add_argument(
        "--format", choices=("auto", *FORMATS), default="auto", help="layout of the data; default auto"
    )
