"""Whether a fine-tuning that is killed (SIGKILL) in the middle of an epoch ends as one that was left alone.

    python benchmarks/resume.py --data PATH --weights FILE [--input-size N] [--limit N] [--folds N]
                                [--epochs N] [--from-block N] [--kills N] [--augment]

`trainer.fit` runs three times with the same seed: twice to its end, which shows the noise of the machine, and
once killed as soon as the first fold has learned a new epoch and the others have not, then started again with
the same command, --kills times. Printed: what the epochs said of unseen images, and how far each run lies
from the first: in average precision, separation and loss, over all epochs, and whether the int8 files are the
same.

Hardware: any. With the defaults, some ten minutes on two CPU cores.

Exit codes: 0 done, 1 a run failed, 2 wrong command line.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
WATCHED = "fold-0.npz"  # what the first fold knows
MEASURES = ("val_ap", "val_separation", "loss")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parse(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fit.toml").write_text(_settings(options))
        try:
            first = _ended(_started(options, folder, "first"), folder / "first")
            again = _ended(_started(options, folder, "again"), folder / "again")
            for _ in range(options.kills):
                _kill(_started(options, folder, "killed"), folder / "killed")
            killed = _ended(_started(options, folder, "killed"), folder / "killed")
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    for row in first["history"]:
        print(f"epoch {row['epoch']}: { ({key: round(row[key], 4) for key in MEASURES if key in row}) }")
    print(f"twice the same command: {_differences(first, again)}")
    print(f"killed {options.kills} times: {_differences(first, killed)}")
    return 0


def _settings(options: argparse.Namespace) -> str:
    augment = "" if options.augment else 'flip_horizontal = "never"\nflip_vertical = "never"\n'
    light = "" if options.augment else 'quarter_turns = "never"\nbrightness = 0.0\ncontrast = 0.0\n'
    return (
        f'[finetune]\nwhen = "always"\nepochs = {options.epochs}\nfrom_block = {options.from_block}\n'
        f"patience = {options.epochs + 1}\n[augment]\n{augment}{light}"
        f"[split]\nfolds = {options.folds}\n[probe]\nmax_megapixels = 1.0\nfinalists = 1\n"
        "[report]\ngradient = false\nmap_images = 0\n"
    )


def _started(options: argparse.Namespace, folder: Path, name: str) -> subprocess.Popen[bytes]:
    command = (
        *(sys.executable, "-m", "trainer.fit", "--data", options.data.resolve(), "--out", folder / name),
        *("--weights", options.weights.resolve(), "--config", folder / "fit.toml"),
        *("--input-size", options.input_size, "--limit", options.limit),
    )
    said = (folder / f"{name}.log").open("ab")
    return subprocess.Popen(tuple(map(str, command)), cwd=REPOSITORY, stdout=said, stderr=said)


def _kill(process: subprocess.Popen[bytes], out: Path) -> None:
    """In the middle of an epoch that is not the first: the first fold has learned it, the others have not."""
    path = out / "checkpoint" / WATCHED
    known = _version(path)
    for _ in range(1 if known else 2):
        while _version(path) == known:
            if process.poll() is not None:
                raise RuntimeError(f"it ended before it could be killed: {_last(out)}")
            time.sleep(0.01)
        known = _version(path)
    time.sleep(0.2)  # into the next network's epoch
    process.send_signal(signal.SIGKILL)
    process.wait()


def _version(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _ended(process: subprocess.Popen[bytes], out: Path) -> dict[str, Any]:
    """What its bundle says of the training. RuntimeError where there is none."""
    if process.wait():
        raise RuntimeError(_last(out))
    found = json.loads((out / "current" / "calibration.json").read_text())
    tuning = found["training"]["fine_tuning"]
    return {"history": found["training"]["history"], "int8": tuning, "sha256": found["model_sha256"]}


def _last(out: Path) -> str:
    lines = out.with_suffix(".log").read_text(errors="replace").splitlines()
    return lines[-1] if lines else "nothing was said"


def _differences(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The greatest over all epochs, and whether the shipped files are the same."""
    pairs = list(zip(first["history"], other["history"], strict=True))
    found: dict[str, Any] = {
        name: max(abs(one[name] - two[name]) for one, two in pairs if name in one) for name in MEASURES
    }
    ships = [one["int8"]["shipped"] for one in (first, other)]
    return {**found, "shipped": ships, "same_int8_file": first["sha256"] == other["sha256"]}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A fine-tuning that is killed and goes on.")
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="PATH", help="images to train on")
    add("--weights", type=Path, required=True, metavar="FILE", help="as trainer.fit takes it")
    add("--input-size", type=int, default=256, metavar="N", help="px, default 256")
    add("--limit", type=int, default=40, metavar="N", help="good and defective images, default 40 each")
    add("--folds", type=int, default=3, metavar="N", help="default 3")
    add("--epochs", type=int, default=3, metavar="N", help="after the head's one; default 3")
    add("--from-block", type=int, default=10, metavar="N", help="first that trains; default 10")
    add("--kills", type=int, default=1, metavar="N", help="default 1")
    add("--augment", action="store_true", help="with the default augmentation; all layers in every step")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
