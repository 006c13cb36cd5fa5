"""Reading a TOML file against a default one: the default is the documentation and the schema.

A key that the default file lacks is unknown, and a value must have the type of the default's. What a type
cannot say (ranges, choices) is said by the key's limit, which stands with its default at the field of the
section's dataclass that holds it (`key`). All problems of a file are reported at once, one a line:

    config.toml: [mqtt] keepalive_s: must be 5..3600, got -1
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from device.errors import ConfigError

Tables = dict[str, dict[str, Any]]


class Limit(Protocol):
    """What a value must be beyond its type. For an array, it holds for every item."""

    @property
    def expected(self) -> str:
        """How to end the sentence "must be ..."."""

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is legal."""


Limits = Mapping[tuple[str, str], Limit]


@dataclass(frozen=True, slots=True)
class Within:
    """A number from `low` to `high`, both included; `or_zero` allows 0 beside them."""

    low: float
    high: float
    or_zero: bool = False

    @property
    def expected(self) -> str:
        return f"{'0 or ' if self.or_zero else ''}{self.low:g}..{self.high:g}"

    def allows(self, value: Any) -> bool:
        return self.low <= value <= self.high or (self.or_zero and value == 0)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few values."""

    choices: tuple[Any, ...]

    @property
    def expected(self) -> str:
        return ("one of " if len(self.choices) > 1 else "") + ", ".join(_shown(c) for c in self.choices)

    def allows(self, value: Any) -> bool:
        return value in self.choices


@dataclass(frozen=True, slots=True)
class Matching:
    """A string that a regular expression matches as a whole; `expected` says the same in words."""

    pattern: str
    expected: str

    def allows(self, value: Any) -> bool:
        return re.fullmatch(self.pattern, value) is not None


# ---- the keys of a section, as a dataclass


def as_it_is(value: Any, folder: Path) -> Any:
    """What is in the file is what is wanted."""
    return value


def frozen(value: Any, folder: Path) -> tuple[Any, ...]:
    """An array."""
    return tuple(value)


def or_none(value: Any, folder: Path) -> Any:
    """Empty, or 0, is None."""
    return value or None


def from_folder(value: Any, folder: Path) -> Path:
    """A path, which counts from the folder of the file unless it is absolute."""
    return folder / str(value)


def from_folder_or_none(value: Any, folder: Path) -> Path | None:
    """A path from the folder of the file; None where it is empty."""
    return folder / str(value) if value else None


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section: its value in the default file, what is legal, and what a program makes of a value.

    `only`: the values of the section's key `kind` that it is for; empty: all.
    """

    default: Any
    limit: Limit | None
    read: Callable[[Any, Path], Any]
    only: tuple[str, ...]


def key(
    default: Any,
    limit: Limit | None = None,
    read: Callable[[Any, Path], Any] = as_it_is,
    only: tuple[str, ...] = (),
) -> Any:
    """A field of a section's dataclass. A relative path of the default counts from the working folder."""
    described = {"key": Key(default, limit, read, only)}
    return field(default_factory=lambda: read(default, Path()), metadata=described)


def keys(*kinds: type) -> dict[str, Key]:
    """The keys that dataclasses hold, by name; a field that was not made by `key` is none."""
    return {one.name: one.metadata["key"] for kind in kinds for one in fields(kind) if "key" in one.metadata}


def limits(sections: Mapping[str, tuple[type, ...]]) -> Limits:
    """What is legal in each section: {(section, key): limit}, without keys that their type says all of."""
    return {
        (section, name): one.limit
        for section, kinds in sections.items()
        for name, one in keys(*kinds).items()
        if one.limit is not None
    }


Section = TypeVar("Section")


def section(kind: type[Section], table: Mapping[str, Any], folder: Path = Path(), **made: Any) -> Section:
    """A section's dataclass from its table. `made`: fields that are no keys, or that need more than one."""
    read = {name: one.read(table[name], folder) for name, one in keys(kind).items() if name not in made}
    return kind(**read, **made)


# ---- reading


def no_conflicts(tables: Tables) -> list[str]:
    """For a file whose values are all independent."""
    return []


def load_tables(
    default_path: Path,
    user_path: Path,
    limits: Limits,
    conflicts: Callable[[Tables], list[str]] = no_conflicts,
) -> Tables:
    """The default's tables with the user's values in place of its own: {section: {key: value}}.

    An integer given where the default has a float becomes a float. `conflicts` names what is legal key by key
    and cannot be together, a line each ("[camera] timeout_s: must be ..."); where a value was illegal it sees
    the default.
    Raises ConfigError: the file is missing, not UTF-8 or not TOML (one line), or any of its keys or values
    is illegal (all of them, one a line).
    """
    tables = read_toml(default_path)
    problems = _merge(tables, read_toml(user_path), limits) + conflicts(tables)
    if problems:
        raise ConfigError("\n".join(f"{user_path}: {problem}" for problem in problems))
    return tables


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as it stands. Raises ConfigError when it is missing, unreadable, not UTF-8 or not TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: must be UTF-8 text, got byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _merge(tables: Tables, given: dict[str, Any], limits: Limits) -> list[str]:
    """Put what is legal in `given` into `tables`; return a line for what is not."""
    problems = []
    for section, values in given.items():
        if section not in tables:
            problems.append(_unknown_section(section, values, tables))
        elif not isinstance(values, dict):
            problems.append(f"[{section}]: must be a section, got {_shown(values)}")
        else:
            problems += _merge_section(section, tables, values, limits)
    return problems


def _merge_section(section: str, tables: Tables, given: dict[str, Any], limits: Limits) -> list[str]:
    table = tables[section]
    problems = []
    for key, value in given.items():
        if key not in table:
            problems.append(f"[{section}] {key}: unknown key; {_nearest_key(section, key, tables)}")
        elif problem := _problem(value, table[key], limits.get((section, key))):
            problems.append(f"[{section}] {key}: {problem}")
        else:
            table[key] = _as(table[key], value)
    return problems


def _problem(value: Any, default: Any, limit: Limit | None) -> str | None:
    """Why a value is illegal, as a clause, or None."""
    expected = _type_name(default)
    if _type_name(value) != expected and not (expected == "a number" and _type_name(value) == "an integer"):
        return f"must be {expected}, got {_shown(value)}"
    if isinstance(value, list):
        pattern = default[0] if default else value[0] if value else None
        found = (_problem(item, pattern, limit) for item in value)
        return next((f"every item {problem}" for problem in found if problem), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, got {value}"
    if limit is not None and not limit.allows(value):
        return f"must be {limit.expected}, got {_shown(value)}"
    return None


def _as(default: Any, value: Any) -> Any:
    """The value in the default's type: 2 is 2.0 where the default has a float."""
    if isinstance(value, list) and default:
        return [_as(default[0], item) for item in value]
    return float(value) if isinstance(default, float) else value


def _type_name(value: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date or time")


def _shown(value: Any) -> str:
    """A value as one would write it in the file, cut to a length that leaves the message readable."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_section(name: str, value: Any, tables: Tables) -> str:
    if isinstance(value, dict):
        return f"[{name}]: unknown section; {_did_you_mean([f'[{s}]' for s in tables], f'[{name}]')}"
    return f"{name}: stands outside every section; {_nearest_key('', name, tables)}"


def _nearest_key(section: str, key: str, tables: Tables) -> str:
    """The legal key that was probably meant: one of this section, or the same name in another one."""
    own = list(tables.get(section, {}))
    if difflib.get_close_matches(key, own, n=1):
        return _did_you_mean(own, key)
    elsewhere = [f"[{other}] {key}" for other, table in tables.items() if key in table]
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return _did_you_mean(own or [f"[{other}]" for other in tables], key)


def _did_you_mean(legal: list[str], found: str) -> str:
    near = difflib.get_close_matches(found, legal, n=1)
    return f"did you mean {near[0]}?" if near else f"legal are {', '.join(legal)}"
