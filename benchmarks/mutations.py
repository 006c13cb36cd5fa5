"""Good files and messages, changed as a bad card, a bad cable or a bad person would, from a seed."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**300, 0.5, -0.0, 1e-320, 1e308),
    *(float("nan"), float("inf")),
    *(
        "",
        "x" * 5000,
        "../../etc/passwd",
        "/",
        "\x1b]0;x\x07",
        "\ud800",
        "a\nb",
        "1e999",
        "{}",
        "$(id)",
        "NaN",
    ),
    *([], {}, [[]] * 50, [0] * 5000, {"": None}, {"__proto__": 1}),
)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def content(chance: random.Random, good: bytes) -> bytes:
    """A file with one to four changes."""
    changed = bytearray(good)
    for _ in range(chance.choice((1, 1, 2, 4))):
        chance.choice(_CHANGES)(chance, changed)
    return bytes(changed)


def json_text(chance: random.Random, good: Any) -> bytes:
    """A JSON text in which a few values, names or bytes are others."""
    value = json.loads(json.dumps(good))
    for _ in range(chance.choice((1, 1, 2, 3))):
        value = _changed_value(chance, value)
    text = json.dumps(value).encode()
    return content(chance, text) if chance.random() < 0.2 else text


def png(chance: random.Random, good: bytes) -> bytes:
    """A PNG whose chunks bear their checksums again, so that what is in them is reached."""
    changed = content(chance, good)
    return _with_checksums(changed) if chance.random() < 0.7 else changed


def npz(chance: random.Random, good: bytes) -> bytes:
    """An .npz whose arrays are changed and packed again, or whose bytes are."""
    if chance.random() < 0.5:
        return content(chance, good)
    file = io.BytesIO()
    method = chance.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    )
    with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(file, "w", method) as new:
        victim = chance.choice(old.namelist())
        for name in old.namelist():
            array = old.read(name)
            new.writestr(name, _changed_array(chance, array) if name == victim else array)
    return file.getvalue()


def _changed_array(chance: random.Random, array: bytes) -> bytes:
    """Its header, as text; or a few of its bytes; or it is a bomb."""
    kind = chance.randrange(20)
    if kind < 9:
        return content(chance, array)
    if kind == 9:
        return array + bytes(chance.choice((1, 1000, 10**6, 7 * 10**7)))
    begin = 10 + int.from_bytes(array[8:10], "little")
    return array[:10] + content(chance, array[10:begin])[: begin - 10].ljust(begin - 10) + array[begin:]


def _changed_value(chance: random.Random, value: Any) -> Any:
    """The same value with one change at some depth."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        what = chance.randrange(8)
        if what == 0:
            return {key: value[key] for key in value if key != name}
        if what == 1:
            return {**value, chance.choice(("", "x", f"{name} ", "__class__", "\x1b[2J")): value[name]}
        return {**value, name: _changed_value(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        what = chance.randrange(6)
        if what == 0:
            return value[:at] + value[at + 1 :]
        if what == 1:
            return value * chance.choice((2, 300))
        return [*value[:at], _changed_value(chance, value[at]), *value[at + 1 :]]
    return chance.choice(HOSTILE)


def _with_checksums(image: bytes) -> bytes:
    fixed, at = bytearray(image), 8
    while at + 12 <= len(image):
        end = at + 8 + struct.unpack_from(">I", image, at)[0]
        if end + 4 > len(image):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(image[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


# ---- one change of bytes, in place


def _flip(chance: random.Random, changed: bytearray) -> None:
    if changed:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, changed: bytearray) -> None:
    for _ in range(chance.choice((1, 3, 20)) if changed else 0):
        changed[chance.randrange(len(changed))] = chance.randrange(256)


def _extreme(chance: random.Random, changed: bytearray) -> None:
    """A number of 2 or 4 bytes, where headers are more often than elsewhere."""
    size, order = chance.choice((2, 4)), chance.choice(("little", "big"))
    last = len(changed) - size
    if last >= 0:
        at = chance.randint(0, min(last, 200) if chance.random() < 0.6 else last)
        number = chance.choice(_EXTREMES) & (1 << 8 * size) - 1
        changed[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]


def _cut(chance: random.Random, changed: bytearray) -> None:
    del changed[chance.randint(0, len(changed)) :]


def _leave_out(chance: random.Random, changed: bytearray) -> None:
    at = chance.randint(0, len(changed))
    del changed[at : at + chance.choice((1, 4, 100))]


def _repeat(chance: random.Random, changed: bytearray) -> None:
    at = chance.randint(0, len(changed))
    piece = changed[at : at + chance.choice((1, 12, 500))]
    changed[at:at] = piece * chance.choice((1, 2, 50))


def _insert(chance: random.Random, changed: bytearray) -> None:
    at = chance.randint(0, len(changed))
    changed[at:at] = chance.randbytes(chance.choice((1, 4, 64)))


_CHANGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(_flip, _flip, _set, _extreme, _extreme),
    *(_cut, _leave_out, _repeat, _insert),
)
