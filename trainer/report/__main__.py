"""A report on a bundle and labelled images: one HTML file, offline, without a script.

    python -m trainer.report --bundle DIR --data PATH --out FILE.html [--format F] [--split test|all]
                             [--network FILE.keras] [--config FILE]

The images are chosen as trainer.evaluate chooses them; every score comes from the int8 file through
device.inspection. With the float network that `trainer.fit --keep-network` saved, the network's true gradient
stands beside the maps. Exit codes are those of device.errors, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from device.bundle import bundle as bundles
from device.errors import StorageError
from trainer import command
from trainer import config as configs
from trainer.data.dataset import load


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.report", description=__doc__.split("\n", maxsplit=1)[0]
    )
    command.add_bundle(parser)
    command.add_data(parser)
    command.add_verbose(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .html file to write")
    parser.add_argument("--split", choices=("test", "all"), default="test", help="default test")
    parser.add_argument("--network", type=Path, metavar="FILE", help="what trainer.fit --keep-network wrote")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file: its [report]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = _parse(arguments)
    return command.run(lambda: _report(options), verbose=options.verbose)


def _report(options: argparse.Namespace) -> Path:
    from trainer.report import report  # it brings TensorFlow, which `--help` does not need

    settings = configs.load(options.config).report
    bundle = bundles.load(options.bundle)
    dataset = load(options.data, options.format, protocol="given")
    content = report.of_bundle(bundle, dataset, options.split, options.network, settings)
    _write(options.out, content)
    path: Path = options.out
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(f"--out {path}: cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
