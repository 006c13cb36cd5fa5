"""Arrays of a file in numpy's .npz form that is what it should be: these names, these types, no more bytes.

The headers are looked at before anything is unpacked: how many files, which, how large, how packed. What they
promise is what is read, so that a small file cannot become a large one in memory. Numpy's own reader takes
whatever it is given, evaluates headers as Python, and fails on damage in a dozen ways.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    r"\{'descr': '([<|][a-z][0-9]+)', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,9}, ?)*(?:[0-9]{1,9})?)\), \} *\n"
)
_END = struct.Struct("<4s4H2LH")  # of a zip file's directory
_END_MAGIC = b"PK\x05\x06"
_DIRECTORY_BYTES = 500  # an entry
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, struct.error),
    *(NotImplementedError, RuntimeError, LookupError, OverflowError, ValueError, TypeError, OSError),
)


def read(path: Path, dtypes: Mapping[str, str], most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by name.

    `dtypes`: numpy's name of each array's type; these and no others must be there. `most_bytes`: of the file,
    and of all arrays together. Raises OSError, and ValueError with what is wrong in one line.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"must have at most {most_bytes} bytes, has {size}")
        content = file.read(most_bytes)
    return parse(content, dtypes, most_bytes)


def parse(content: bytes, dtypes: Mapping[str, str], most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a file's content, of these names and dtypes and no others. Raises ValueError."""
    _require_directory(content, dtypes)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_entries(archive, dtypes, most_bytes)
            return {name: _array(archive.read(f"{name}.npy"), name, dtypes[name]) for name in dtypes}
    except _Wrong as error:
        raise ValueError(str(error)) from None
    except _DAMAGE as error:
        raise ValueError(f"damaged: {type(error).__name__}: {str(error)[:200]}") from None


class _Wrong(ValueError):
    """What is whole, and not what it should be."""


def _require_directory(content: bytes, dtypes: Mapping[str, str]) -> None:
    """Before the directory is read: it has as many entries as it should, and is no larger than they need."""
    if len(content) < _END.size or not content.startswith(b"PK\x03\x04"):
        raise ValueError("damaged, or no .npz file")
    magic, disk, first, here, entries, size, _, comment = _END.unpack(content[-_END.size :])
    if magic != _END_MAGIC or disk or first or comment or here != entries:
        raise ValueError("damaged, or no .npz file")
    if entries != len(dtypes) or size > entries * _DIRECTORY_BYTES:
        raise ValueError(f"must hold {', '.join(sorted(dtypes))}, got {entries} arrays")


def _require_entries(archive: zipfile.ZipFile, dtypes: Mapping[str, str], most_bytes: int) -> None:
    entries = archive.infolist()
    found = sorted(entry.filename.removesuffix(".npy") for entry in entries)
    if found != sorted(dtypes):
        raise _Wrong(f"must hold {', '.join(sorted(dtypes))}, got {ascii(', '.join(found))[:200]}")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise _Wrong("damaged, or packed in a way that numpy does not use")
    total = sum(entry.file_size for entry in entries)
    if total > most_bytes:
        raise _Wrong(f"must have at most {most_bytes} bytes of arrays, has {total}")


def _array(content: bytes, name: str, dtype: str) -> NDArray[Any]:
    """The array of one .npy file; its header is read, not evaluated."""
    if not content.startswith(_MAGIC) or len(content) < 10:
        raise _Wrong(f"{name}: damaged, or no array of numpy's format 1.0")
    begin = 10 + int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(content[10:begin].decode("latin-1"))
    if header is None:
        raise _Wrong(f"{name}: its header is damaged")
    found = np.dtype(header[1])
    if found.name != dtype:
        raise _Wrong(f"{name} must be {dtype}, got {found.name}")
    shape = tuple(int(part) for part in header[3].split(",") if part.strip())
    if math.prod(shape) * found.itemsize != len(content) - begin:
        raise _Wrong(f"{name}: must have the bytes of its shape {shape}, has {len(content) - begin}")
    array = np.frombuffer(content, found, offset=begin)
    return array.reshape(shape, order="F" if header[2] == "True" else "C").copy()
