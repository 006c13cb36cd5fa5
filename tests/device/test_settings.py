"""The generic part of configuration: a default file that is also the schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device.errors import ConfigError
from device.settings import (
    Limits,
    Matching,
    OneOf,
    Tables,
    Within,
    from_folder,
    frozen,
    key,
    keys,
    limits,
    load_tables,
    or_none,
    read_toml,
    section,
)

DEFAULT = """
[fit]
rate = 1e-3
epochs = 10
fine_tune = true
sizes = [224, 512]
note = ""

[data]
mode = "auto"
path = "images"
"""
LIMITS: Limits = {
    ("fit", "rate"): Within(1e-6, 1.0),
    ("fit", "epochs"): Within(1, 100, or_zero=True),
    ("fit", "sizes"): Within(32, 1024),
    ("data", "mode"): OneOf(("auto", "csv")),
    ("data", "path"): Matching(r".+", "a path"),
}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_text(text: str, **options: Any) -> Tables:
        (tmp_path / "default.toml").write_text(DEFAULT)
        (tmp_path / "config.toml").write_text(text, "utf-8")
        return load_tables(tmp_path / "default.toml", tmp_path / "config.toml", LIMITS, **options)

    return load_text


def problems(load: Any, text: str) -> list[str]:
    """The lines of the ConfigError, without the file's name, which each must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    lines = str(caught.value).splitlines()
    assert all("config.toml: " in line for line in lines)
    return [line.split("config.toml: ", 1)[1] for line in lines]


def test_an_empty_file_gives_the_default(load: Any) -> None:
    assert load("") == {
        "fit": {"rate": 1e-3, "epochs": 10, "fine_tune": True, "sizes": [224, 512], "note": ""},
        "data": {"mode": "auto", "path": "images"},
    }


def test_given_values_replace_the_default_and_integers_become_numbers(load: Any) -> None:
    tables = load('[fit]\nrate = 1\nepochs = 0\nsizes = [64]\n[data]\nmode = "csv"\n')
    assert tables["fit"]["rate"] == 1.0
    assert isinstance(tables["fit"]["rate"], float)
    assert tables["fit"]["epochs"] == 0
    assert tables["fit"]["sizes"] == [64]
    assert tables["data"] == {"mode": "csv", "path": "images"}


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(load: Any) -> None:
    text = '[data]\nmode = "cvs"\n[fit]\nepochs = -1\nepoch = 3\n[fitt]\nrate = 1\n'
    assert problems(load, text) == [
        '[data] mode: must be one of "auto", "csv", got "cvs"',
        "[fit] epochs: must be 0 or 1..100, got -1",
        "[fit] epoch: unknown key; did you mean epochs?",
        "[fitt]: unknown section; did you mean [fit]?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[fit]\nepochs = 2.5", "[fit] epochs: must be an integer, got 2.5"),
        ("[fit]\nepochs = true", "[fit] epochs: must be an integer, got true"),
        ("[fit]\nrate = false", "[fit] rate: must be a number, got false"),
        ("[fit]\nfine_tune = 1", "[fit] fine_tune: must be true or false, got 1"),
        ('[fit]\nrate = "fast"', '[fit] rate: must be a number, got "fast"'),
        ("[fit]\nrate = nan", "[fit] rate: must be a finite number, got nan"),
        ("[fit]\nrate = inf", "[fit] rate: must be a finite number, got inf"),
        ("[fit]\nrate = 2.0", "[fit] rate: must be 1e-06..1, got 2.0"),
        ("[fit]\nsizes = 224", "[fit] sizes: must be an array, got 224"),
        ('[fit]\nsizes = [224, "a"]', '[fit] sizes: every item must be an integer, got "a"'),
        ("[fit]\nsizes = [224, 8]", "[fit] sizes: every item must be 32..1024, got 8"),
        ("[fit]\nnote = 2026-01-01", '[fit] note: must be a string, got "2026-01-01"'),
        ("[fit.rate]\nx = 1", '[fit] rate: must be a number, got {"x": 1}'),
        ('[data]\npath = ""', '[data] path: must be a path, got ""'),
        ("[fit]\npath = 1", "[fit] path: unknown key; did you mean [data] path?"),
        ("[data]\nxyzzy = 1", "[data] xyzzy: unknown key; legal are mode, path"),
        ("[qqq]", "[qqq]: unknown section; legal are [fit], [data]"),
        ("fit = 3", "[fit]: must be a section, got 3"),
        ("rate = 3", "rate: stands outside every section; did you mean [fit] rate?"),
        ("xyzzy = 3", "xyzzy: stands outside every section; legal are [fit], [data]"),
        (f'[fit]\nepochs = "{"x" * 99}"', f'[fit] epochs: must be an integer, got "{"x" * 56}...'),
    ],
)
def test_one_illegal_thing(load: Any, text: str, problem: str) -> None:
    assert problems(load, text) == [problem]


def test_conflicts_are_reported_beside_the_rest(load: Any) -> None:
    def conflicts(tables: Tables) -> list[str]:
        return ["[fit] epochs: needs fine_tune"] if not tables["fit"]["fine_tune"] else []

    assert load("", conflicts=conflicts)
    with pytest.raises(ConfigError) as caught:
        load("[fit]\nfine_tune = false\nepochs = -1\n", conflicts=conflicts)
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()] == [
        "[fit] epochs: must be 0 or 1..100, got -1",
        "[fit] epochs: needs fine_tune",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"[fit\n", "not valid TOML: "),
        (b"[fit]\nrate = 1\nrate = 2\n", "not valid TOML: Cannot overwrite a value"),
        ("[fit]\nnote = 'é'\n".encode("latin-1"), "must be UTF-8 text, got byte 0xe9 at offset 14"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf[fit]\nrate = 1\n")
    assert read_toml(tmp_path / "config.toml") == {"fit": {"rate": 1}}


@dataclass(frozen=True, slots=True)
class Fit:
    """A section."""

    epochs: int = key(10, Within(1, 100))
    sizes: tuple[int, ...] = key([224, 512], Within(32, 1024), frozen)
    images: Path = key("images", read=from_folder)
    note: str | None = key("", read=or_none)
    seed: int = 0  # no key


def test_a_section_knows_its_keys_and_what_is_legal() -> None:
    assert {name: one.default for name, one in keys(Fit).items()} == {
        "epochs": 10,
        "sizes": [224, 512],
        "images": "images",
        "note": "",
    }
    assert limits({"fit": (Fit,)}) == {("fit", "epochs"): Within(1, 100), ("fit", "sizes"): Within(32, 1024)}


def test_a_section_is_read_from_its_table(tmp_path: Path) -> None:
    table = {"epochs": 3, "sizes": [64], "images": "here", "note": ""}
    assert section(Fit, table, tmp_path, seed=7) == Fit(3, (64,), tmp_path / "here", None, 7)
    assert Fit() == Fit(10, (224, 512), Path("images"), None, 0)
