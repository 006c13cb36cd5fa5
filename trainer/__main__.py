"""The trainer's commands: python -m trainer COMMAND, which is the same as python -m trainer.COMMAND."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence

from device.system import version

COMMANDS = {
    "fit": "train a defect model and write it as a bundle for the device",
    "evaluate": "score a bundle on labelled images, and say how good it is",
    "compare": "which of two bundles to ship",
    "threshold": "choose a bundle's thresholds anew, on judged images",
    "report": "one HTML file that says how good a bundle is, and where it errs",
    "manifest": "write what a data set says of its images as a CSV list",
    "labelling": "masks and labels from labelling tools, and pictures for them",
    "localization": "compare the maps of a bundle with its masks",
    "synthetic": "draw a data set to try all of this on",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, or list them; its exit code."""
    listed = "\n".join(f"  {name:<14}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description=f"From images to a checked bundle. Commands, each with a --help of its own:\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version.described())
    parser.add_argument("command", nargs="?", choices=tuple(COMMANDS), metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    sys.argv = [f"python -m trainer.{options.command}", *options.arguments]
    runpy.run_module(f"trainer.{options.command}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
