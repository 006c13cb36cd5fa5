"""What goes together on the command line of trainer.fit, and what is known before the long part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device.errors import ConfigError, StorageError
from trainer.options import FitOptions


def options(tmp_path: Path, **given: Any) -> FitOptions:
    return FitOptions(**{"data": (tmp_path,), "format": "auto", "out": tmp_path / "out", **given})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mode": "good-only", "qat": True}, "--mode good-only: trains no network: not with --qat"),
        ({"mode": "good-only", "head": "dense"}, "--mode good-only: trains no network: not with --head"),
        ({"mode": "good-only", "start": Path("b")}, "--from: needs --mode supervised"),
        (
            {"start": Path("b"), "weights": "imagenet", "input_size": 256, "logs": Path("l")},
            "--from: keeps the bundle's network and its input: not with --logs, --weights, --input-size",
        ),
        (
            {"head": "dense", "qat": True},
            "--head dense: there is no probe's model to train on: not with --qat",
        ),
        (
            {"weights": "none", "head": "dense"},
            "--weights none: an evidence head is trained: not with --head",
        ),
        ({"weights": "missing.h5"}, "--weights: must be imagenet, none or a file, got missing.h5"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        options(tmp_path, **given).check()
    assert str(refused.value).startswith(told)
    assert not (tmp_path / "out").exists(), "nothing is made for what is refused"


@pytest.mark.parametrize(
    "given", [{}, {"qat": True}, {"mode": "good-only"}, {"head": "dense"}, {"weights": "none"}]
)
def test_what_goes_together_is_accepted_and_the_folder_is_there(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    options(tmp_path, keep_network=None, **given).check()
    assert (tmp_path / "out").is_dir()


def test_the_network_s_folder_is_made_before_the_training(tmp_path: Path) -> None:
    options(tmp_path, keep_network=tmp_path / "nets" / "net.keras").check()
    assert (tmp_path / "nets").is_dir()


@pytest.mark.parametrize("field", ["out", "keep_network", "logs"])
def test_a_place_that_cannot_be_written_is_known_at_once(tmp_path: Path, field: str) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "below"
    option = f"--{field.replace('_', '-')}"
    with pytest.raises(StorageError, match=rf"{option} .*below.*: cannot be written: Not a directory"):
        options(tmp_path, **{field: place / "net.keras" if field == "keep_network" else place}).check()
