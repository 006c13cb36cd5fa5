"""The frame of every command of the trainer: its log, its one result, its error and its exit code."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from device.errors import EdgeVisionError
from trainer.data.grouping import GROUPINGS
from trainer.layouts.layouts import FORMATS

INTERRUPTED = 130
LIBRARIES = ("absl", "tensorflow", "h5py")  # their loggers have nothing to say to who trains
STANDARD_ERROR = 2  # the descriptor


def run(work: Callable[[], object], *, verbose: bool = False) -> int:
    """Do the work and print what it gives, alone on standard output; the exit code.

    The log goes to standard error. What libraries say meanwhile follows it where it is `verbose`, and is not
    heard else: TensorFlow, its converter and XNNPACK write to the process's standard error behind Python's
    back, Keras prints its downloads and epochs.
    """
    try:
        with contextlib.ExitStack() as stack:
            if not verbose:
                stack.enter_context(_libraries_silent())
            stack.enter_context(_logged())
            stack.enter_context(contextlib.redirect_stdout(sys.stderr if verbose else io.StringIO()))
            result = work()
    except EdgeVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(result)
    return 0


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """The log goes to sys.stderr as it is now."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextlib.contextmanager
def _libraries_silent() -> Iterator[None]:
    """The descriptor of standard error leads nowhere; sys.stderr gets another one that leads where it did.

    Should a library end the process, faulthandler still says where.
    """
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stderr.flush()
    before = os.dup(STANDARD_ERROR)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, before)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STANDARD_ERROR)
        os.close(nowhere)
        stack.callback(os.dup2, before, STANDARD_ERROR)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if _leads_to_standard_error(sys.stderr):
            told = os.fdopen(before, "w", buffering=1, errors="backslashreplace", closefd=False)
            stack.enter_context(contextlib.redirect_stderr(told))
            faulthandler.enable(told)
            stack.callback(faulthandler.disable)
        yield


def _leads_to_standard_error(stream: object) -> bool:
    try:
        return bool(stream.fileno() == STANDARD_ERROR)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # what catches output in a test has none
        return False


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """The argument --bundle."""
    parser.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="or a folder with `current`"
    )


def add_groups(parser: argparse.ArgumentParser) -> None:
    """The argument --groups."""
    parser.add_argument(
        "--groups",
        choices=GROUPINGS,
        default="found",
        help="what a split must not separate: images that show the same thing, found by their pixels "
        "(default), or only what the layout gives",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """The argument --verbose."""
    parser.add_argument("--verbose", action="store_true", help="show what TensorFlow and others say, too")


def add_data(parser: argparse.ArgumentParser) -> None:
    """The arguments --data, a list of paths, and --format."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        metavar="PATH",
        help="a folder or a .csv manifest (docs/guide/data.md); several data sets are united",
    )
    parser.add_argument(
        "--format", choices=("auto", *FORMATS), default="auto", help="layout of the data; default auto"
    )
