"""Arrays from a file that somebody else may have made, or a card has changed."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device.schemas import strict_npz

DTYPES = {"items": "int8", "means": "float16", "scale": "float64"}
LIMIT = 10_000


def saved(save: Callable[..., None] = np.savez_compressed, **changes: object) -> bytes:
    arrays = {
        "items": np.arange(12, dtype=np.int8).reshape(3, 4),
        "means": np.asfortranarray(np.ones((2, 3, 4), np.float16)),
        "scale": np.float64(0.5),
    }
    file = io.BytesIO()
    save(file, **{**arrays, **changes})
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_has_written(save: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(saved(save, items=np.zeros((0, 5), np.int8)))
    found = strict_npz.read(path, DTYPES, LIMIT)
    with np.load(path) as expected:
        for name in DTYPES:
            assert found[name].dtype == expected[name].dtype
            assert np.array_equal(found[name], expected[name])
    assert found["items"].shape == (0, 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"items": np.zeros(3, np.int16)}, "items must be int8, got int16"),
        ({"items": np.zeros(3, object)}, "items: its header is damaged"),
        ({"items": np.zeros(20_000, np.int8)}, "must have at most 10000 bytes of arrays, has"),
        ({"more": np.zeros(3)}, "must hold items, means, scale, got 4 arrays"),
    ],
)
def test_what_is_something_else(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        strict_npz.parse(saved(**changes), DTYPES, LIMIT)


@pytest.mark.parametrize("kind", [b"<v2", b"<f3", b"<q9", b"|S0"])
def test_a_type_that_numpy_does_not_know(kind: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(np.savez))) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"<f2", kind))
    with pytest.raises(ValueError, match=r"damaged|must be float16"):
        strict_npz.parse(file.getvalue(), DTYPES, LIMIT)


def test_other_names() -> None:
    with pytest.raises(ValueError, match="must hold items, means, scale, got 'items, means, other'"):
        strict_npz.parse(saved().replace(b"scale", b"other"), DTYPES, LIMIT)


def test_a_bomb_is_not_unpacked() -> None:
    """A megabyte of zeros packed into a thousand bytes, with a directory that tells the truth, or lies."""
    content = saved(items=np.zeros(10**6, np.int8))
    assert len(content) < 5000
    with pytest.raises(ValueError, match="at most 10000 bytes of arrays"):
        strict_npz.parse(content, DTYPES, LIMIT)
    lying = content.replace(struct.pack("<L", 10**6 + 128), struct.pack("<L", 140))
    assert lying != content
    with pytest.raises(ValueError, match="damaged"):
        strict_npz.parse(lying, DTYPES, LIMIT)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as old, zipfile.ZipFile(file, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match="packed in a way that numpy does not use"):
        strict_npz.parse(file.getvalue(), DTYPES, LIMIT)


def test_a_directory_of_a_million_files_is_not_read() -> None:
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 60_000, 60_000, 46 * 60_000, 30, 0)
    with pytest.raises(ValueError, match="must hold items, means, scale, got 60000 arrays"):
        strict_npz.parse(b"PK\x03\x04" + b"\0" * 5000 + end, DTYPES, LIMIT)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match="must have at most 10000 bytes, has 1000000000000"):
        strict_npz.read(path, DTYPES, LIMIT)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_flipped_bit_and_any_cut_is_one_error(save: Callable[..., None]) -> None:
    content = saved(save)
    expected = strict_npz.parse(content, DTYPES, LIMIT)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = strict_npz.parse(bytes(damaged), DTYPES, LIMIT)
        except ValueError:
            continue
        assert all(  # dates and the like were hit
            np.array_equal(found[name], expected[name]) for name in DTYPES
        )
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"damaged|must hold"):
            strict_npz.parse(content[:length], DTYPES, LIMIT)


def test_mutations_are_one_error() -> None:
    chance = random.Random(1)  # noqa: S311 - reproducible, not secret
    content = saved()
    for _ in range(5000):
        damaged = bytearray(content)
        for _ in range(chance.choice((2, 5, 30))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            strict_npz.parse(bytes(damaged), DTYPES, LIMIT)
        except ValueError:
            continue
