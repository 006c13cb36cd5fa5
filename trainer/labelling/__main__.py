"""Draw masks and set labels in a tool that people know, and bring them back: docs/guide/labelling.md.

python -m trainer.labelling export --data DIR --tool label-studio|cvat --out DIR [--kinds scratch,dent]
python -m trainer.labelling import --data DIR --tool label-studio|cvat FILE
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from device.errors import StorageError
from trainer import command
from trainer.labelling import cvat, data_set, label_studio
from trainer.labelling.data_set import MergeResult

TOOLS = {"label-studio": label_studio, "cvat": cvat}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    if options.action == "export":
        return command.run(lambda: export(options.data, options.tool, options.out, options.kinds))
    return command.run(lambda: bring_back(options.data, options.tool, options.file))


def export(data: Path, tool: str, out: Path, kinds: Sequence[str]) -> str:
    """Write what the tool takes; where it lies. Raises DataError, StorageError."""
    pictures = data_set.pictures(data)
    try:
        out.mkdir(parents=True)
        files = TOOLS[tool].export(pictures, kinds, out)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror or error}") from error
    return "\n".join(map(str, files))


def bring_back(data: Path, tool: str, file: Path) -> MergeResult:
    """What was drawn, into the manifest of the data set. Raises DataError, StorageError."""
    return data_set.merge(data, TOOLS[tool].read(file))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.labelling", description="Label Studio and CVAT.")
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    away = actions.add_parser("export", help="images and the model's regions, for the tool")
    back = actions.add_parser("import", help="masks and labels from the tool, into manifest.csv")
    for action in (away, back):
        action.add_argument(
            "--data", type=Path, required=True, metavar="DIR", help="a folder with manifest.csv"
        )
        action.add_argument("--tool", choices=tuple(TOOLS), required=True)
    away.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    away.add_argument(
        "--kinds", type=_kinds, default=("defect",), metavar="A,B", help="of defects; default: defect"
    )
    back.add_argument("file", type=Path, metavar="FILE", help="the tool's export")
    return parser.parse_args(arguments)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    if not kinds or len(set(kinds)) != len(kinds):
        raise argparse.ArgumentTypeError(f"must be names with commas between, each once, got {text!r}")
    return kinds


if __name__ == "__main__":
    sys.exit(main())
