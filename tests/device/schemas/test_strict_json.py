"""Strict JSON, and what its messages say."""

from __future__ import annotations

import time

import pytest

from device.schemas import strict_json

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "kind": {"enum": ["a", "b"]},
        "version": {"const": 1},
        "size": {
            "type": "object",
            "additionalProperties": False,
            "required": ["width"],
            "properties": {"width": {"type": "integer", "minimum": 1}},
        },
        "parts": {
            "type": "array",
            "minItems": 1,
            "items": {"type": ["number", "null"], "exclusiveMinimum": 0},
        },
        "code": {"type": "string", "pattern": "^x", "description": "a code"},
    },
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "every number must be finite, got NaN"),
        ("[-Infinity]", "every number must be finite, got -Infinity"),
        ("[1e999]", "every number must be finite, got 1e999"),
        ("[1" + "0" * 400 + "]", "every number must be finite, got 1000"),
        ('{"a": 1, "b": 2, "a": 3}', "a: must stand only once in its object"),
        ('{"a": ', "line 1 column 7: not JSON: Expecting value"),
        ("", "line 1 column 1: not JSON"),
        (b'{"a": "\xff"}', "must be UTF-8 text"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_strict_json(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strict_json.parse(text)


def test_what_is() -> None:
    assert strict_json.parse(b'{"a": [1, -2.5e3, true, null, "\xc3\xa4"]}') == {
        "a": [1, -2500.0, True, None, "ä"]
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "name: missing"),
        ({"name": "ab", "nmae": 1}, "nmae: unknown field"),
        ({"name": "ab", "size": {}}, "size.width: missing"),
        ({"name": "ab", "size": {"width": 1, "w": 1}}, "size.w: unknown field"),
        ({"name": "ab", "size": {"width": "1"}}, 'size.width: must be a whole number, got "1"'),
        ({"name": "ab", "size": {"width": True}}, "size.width: must be a whole number, got true"),
        ({"name": "ab", "size": {"width": 0}}, "size.width: must be at least 1, got 0"),
        ({"name": "ab", "parts": [1, "x"]}, 'parts[1]: must be a number or null, got "x"'),
        ({"name": "ab", "parts": [0]}, "parts[0]: must be above 0, got 0"),
        ({"name": "ab", "parts": []}, "parts: must be a list of 1 items or more, got []"),
        ({"name": "ab", "kind": "c"}, 'kind: must be one of "a", "b", got "c"'),
        ({"name": "ab", "version": 2}, "version: must be 1, got 2"),
        ({"name": "a"}, 'name: must be text of 2 characters or more, got "a"'),
        ({"name": "ab", "code": "y"}, 'code: must be a code, got "y"'),
        ([], "the whole: must be an object, got []"),
    ],
)
def test_messages_name_the_field(content: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict_json.check(content, strict_json.Schema(SCHEMA))
    assert str(caught.value) == message


def test_what_the_schema_allows() -> None:
    strict_json.check(
        {"name": "ab", "parts": [None, 0.5], "size": {"width": 3}, "version": 1}, strict_json.Schema(SCHEMA)
    )


def test_values_are_shown_shortened() -> None:
    assert strict_json.shown("ä") == '"ä"'
    assert len(strict_json.shown("x" * 1000)) == 80


def test_the_second_of_many_keys_is_found_at_once() -> None:
    keys = ", ".join(f'"key{number}": 0' for number in range(100_000))
    begin = time.process_time()
    with pytest.raises(ValueError, match="key99999: must stand only once"):
        strict_json.parse(f'{{{keys}, "key99999": 1}}')
    assert time.process_time() - begin < 10  # one look at each key for each key takes minutes


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ({"format": "date-time"}, "1. March", 'x: must be of the form "date-time", got "1. March"'),
        ({"uniqueItems": True}, [1, 1], "x: must be as uniqueItems says, true, got [1, 1]"),
    ],
)
def test_a_message_never_fails_itself(rule: dict[str, object], value: object, message: str) -> None:
    """A damaged file would keep a station from starting."""
    schema = strict_json.Schema({"type": "object", "properties": {"x": rule}})
    with pytest.raises(ValueError) as caught:
        strict_json.check({"x": value}, schema)
    assert str(caught.value) == message


def test_a_schema_of_the_device_by_its_name() -> None:
    with pytest.raises(ValueError, match="schema: missing"):
        strict_json.parse_as("health", b"{}")
    with pytest.raises(ValueError, match="not JSON"):
        strict_json.parse_as("health", b"{")
    assert strict_json.schema("health") is strict_json.schema("health")


def test_explaining_is_prepared_only_where_there_is_something_to_explain() -> None:
    schema = strict_json.Schema(SCHEMA)
    strict_json.check({"name": "ab"}, schema)
    assert "thorough" not in vars(schema)
    with pytest.raises(ValueError, match="name: missing"):
        strict_json.check({}, schema)
