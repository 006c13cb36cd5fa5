"""JSON that is what it should be: no NaN, no infinity, no key twice, and every field as its schema says."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import fastjsonschema


class Schema:
    """A JSON Schema, for `check`, compiled when it is first needed.

    fastjsonschema writes the rule and all that it stands in into every message: four times the memory and the
    time of a check that only says no. So that comes first, and the other where there is something to tell.
    """

    def __init__(self, definition: dict[str, Any]) -> None:
        self._definition = definition

    @cached_property
    def quick(self) -> Any:
        """Called with a value, it raises a JsonSchemaValueException without an explanation."""
        return fastjsonschema.compile(_without_const(self._definition), detailed_exceptions=False)

    @cached_property
    def thorough(self) -> Any:
        """Called with a value, it raises a JsonSchemaValueException that says what is wrong."""
        return fastjsonschema.compile(self._definition)


def parse(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError: not UTF-8, not JSON, a number not finite, a key twice."""
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode(),  # json would take UTF-16 and UTF-32 as well
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique_keys,
        )
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def schema_file(name: str) -> Path:
    """The file NAME.schema.json in this folder."""
    return Path(__file__).with_name(f"{name}.schema.json")


@cache
def schema(name: str) -> Schema:
    """NAME.schema.json in this folder, compiled once."""
    return Schema(json.loads(schema_file(name).read_text("utf-8")))


def parse_as(name: str, text: str | bytes) -> Any:
    """The value of a JSON text that NAME.schema.json allows. Raises ValueError naming what is wrong."""
    value = parse(text)
    check(value, schema(name))
    return value


def check(value: Any, schema: Schema) -> None:
    """Raises ValueError, naming the first field that is unknown, missing, or not what the schema says."""
    try:
        schema.quick(value)
    except fastjsonschema.JsonSchemaValueException as error:
        raise ValueError(_what_is_wrong(value, schema) or str(error)) from None


def shown(value: Any) -> str:
    """A value for a message, as JSON and not too long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _without_const(definition: Any) -> Any:
    """A schema with enum in place of const, which fastjsonschema cannot compile without details."""
    if isinstance(definition, dict):
        rules = {key: _without_const(rule) for key, rule in definition.items()}
        return {
            ("enum" if key == "const" else key): [rule] if key == "const" else rule
            for key, rule in rules.items()
        }
    return [_without_const(one) for one in definition] if isinstance(definition, list) else definition


def _what_is_wrong(value: Any, schema: Schema) -> str:
    try:
        schema.thorough(value)
    except fastjsonschema.JsonSchemaValueException as error:
        return _explained(error)
    return ""


def _explained(error: fastjsonschema.JsonSchemaValueException) -> str:
    field = error.name.removeprefix("data").removeprefix(".")
    found, rule = error.value, error.rule_definition
    if error.rule == "required":
        missing = next(name for name in rule if name not in found)
        return f"{_joined(field, missing)}: missing"
    if error.rule == "additionalProperties":
        unknown = next(name for name in found if name not in error.definition.get("properties", {}))
        return f"{_joined(field, unknown)}: unknown field"
    return f"{field or 'the whole'}: must be {_expected(error)}, got {shown(found)}"


def _expected(error: fastjsonschema.JsonSchemaValueException) -> str:
    """The rule that was broken, in words; a schema's own `description` of the field says it best."""
    definition, rule = error.definition, error.rule_definition
    if "description" in definition:
        return str(definition["description"])
    if error.rule == "type":
        names = [rule] if isinstance(rule, str) else rule
        return " or ".join(_TYPES[name] for name in names)
    if error.rule == "enum":
        return f"one of {', '.join(map(shown, rule))}"
    return _RULES.get(error.rule, f"as {error.rule} says, {{}}").format(shown(rule))


_TYPES = {
    "object": "an object",
    "array": "an array",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_RULES = {
    "const": "{}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minLength": "text of {} characters or more",
    "minItems": "a list of {} items or more",
    "maxItems": "a list of {} items or fewer",
    "pattern": "text that matches {}",
    "format": "of the form {}",
    "anyOf": "as one of {}",
}


def _joined(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _no_constant(text: str) -> float:
    raise ValueError(f"every number must be finite, got {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"every number must be finite, got {text[:40]}")
    return number


def _whole(text: str) -> int:
    _finite(text)  # an integer that no float can hold is no quantity either
    return int(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice}: must stand only once in its object")
    return keys
