"""The trainer's settings: default.toml is their documentation and their schema."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from device.errors import ConfigError
from device.image.geometry import ResizeMode
from device.settings import Within, keys
from trainer import config

TEXT = config.DEFAULT.read_text("utf-8")
TABLES = tomllib.loads(TEXT)
SELF_EXPLAINING = {"epochs", "batch_size"}


def load(folder: Path, text: str) -> config.TrainerConfig:
    path = folder / "fit.toml"
    path.write_text(text)
    return config.load(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{folder}/fit.toml: ") for line in lines)
    return [line.removeprefix(f"{folder}/fit.toml: ") for line in lines]


def shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_the_dataclasses_are_the_tables_of_the_file() -> None:
    sections = get_type_hints(config.TrainerConfig)
    assert list(sections) == list(TABLES)
    for section, kind in sections.items():
        assert {field.name for field in fields(kind)} == set(TABLES[section]), section


def test_a_key_has_the_same_default_at_its_field_and_in_the_file() -> None:
    fields = {name: keys(kind) for name, kind in config.SECTIONS.items()}
    assert {name: {key: one.default for key, one in held.items()} for name, held in fields.items()} == TABLES


def test_a_default_has_the_type_of_its_field() -> None:
    for section, kind in get_type_hints(config.TrainerConfig).items():
        for key, hint in get_type_hints(kind).items():
            value = TABLES[section][key]
            if hint == list[float]:
                assert {type(item) for item in value} == {float}, f"[{section}] {key}"
            else:
                assert type(value) is (str if hint == ResizeMode else hint), f"[{section}] {key}"


def test_the_default_is_legal_by_its_own_limits(tmp_path: Path) -> None:
    assert load(tmp_path, TEXT) == load(tmp_path, "") == config.load(None)


def test_every_key_has_a_limit_and_a_sentence() -> None:
    keys = {(section, key) for section, table in TABLES.items() for key in table}
    assert set(config.LIMITS) == keys
    without = {key for _, key in keys if not re.search(rf"^#.*\n{key} = ", TEXT, re.MULTILINE)}
    assert without <= SELF_EXPLAINING


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[bundle]\nname = "press-4"\n[split]\nfolds = 3\ntest_share = 0\n')
    assert (loaded.bundle.name, loaded.split.folds, loaded.split.test_share) == ("press-4", 3, 0.0)
    assert isinstance(loaded.split.test_share, float)
    assert loaded.probe == config.load(None).probe


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = (
        "[input]\nmax_sise = 512\nscales = [1.0, 2.0]\n[probe]\nstrengths = []\n"
        '[scratch]\nepochs = 1.5\nalpha = 0.4\n[bundle]\nname = "a b"\n[optics]\nkind = "dense"\n'
    )
    assert problems(tmp_path, text) == [
        "[input] max_sise: unknown key; did you mean max_size?",
        "[input] scales: every item must be 0.05..1, got 2.0",
        "[scratch] epochs: must be an integer, got 1.5",
        "[scratch] alpha: must be one of 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, got 0.4",
        "[bundle] name: must be letters, digits, '.', '_' or '-', got \"a b\"",
        f"[optics]: unknown section; legal are {', '.join(f'[{section}]' for section in TABLES)}",
        "[probe] strengths: must hold one number or more, got []",
    ]


@pytest.mark.parametrize(
    ("section", "key"), [where for where, limit in config.LIMITS.items() if isinstance(limit, Within)]
)
def test_a_number_out_of_its_range(tmp_path: Path, section: str, key: str) -> None:
    limit = config.LIMITS[section, key]
    assert isinstance(limit, Within)
    default = TABLES[section][key]
    for value in (limit.low - 1, limit.high + 1):
        typed = int(value) if isinstance(default, int) else float(value)
        written = f"[{typed}]" if isinstance(default, list) else typed
        [problem] = problems(tmp_path, f"[{section}]\n{key} = {written}")
        assert f"must be {limit.expected}, got {shown(typed)}" in problem


@pytest.mark.parametrize("name", ["press-4", "A.b_c", "x" * 64, ""])
def test_a_name_that_a_bundle_can_have(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, f'[bundle]\nname = "{name}"').bundle.name == name


@pytest.mark.parametrize("name", ["-x", ".x", "a/b", "x" * 65, "käse"])
def test_a_name_that_a_bundle_cannot_have(tmp_path: Path, name: str) -> None:
    [problem] = problems(tmp_path, f'[bundle]\nname = "{name}"')
    assert problem.startswith("[bundle] name: must be letters, digits")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: no such file"):
        config.load(tmp_path / "gone.toml")


# ---- the files that come with it

CONFIGS = sorted((config.DEFAULT.parent / "configs").glob("*.toml"))


def test_there_are_configs_for_what_is_documented():
    assert [path.stem for path in CONFIGS] == ["dagm", "magnetic_tile", "mvtec", "smoke"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_legal_and_says_what_it_is_for(path: Path):
    config.load(path)
    text = path.read_text("utf-8")
    head = text.partition("\n\n")[0]
    assert re.findall(r"^#   (\w+): ", head, re.MULTILINE) == ["command", "hardware", "minutes", "expected"]
    assert f"--config trainer/configs/{path.name}" in head
    assert re.search(r"^#   minutes:   \d+", head, re.MULTILINE)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_holds_only_what_differs_from_the_default(path: Path):
    given = tomllib.loads(path.read_text("utf-8"))
    same = [
        f"[{section}] {key}"
        for section, values in given.items()
        for key, value in values.items()
        if TABLES[section][key] == value
    ]
    assert same == []
