"""The registers: every value has a place of its own, and the page for people says the same."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bridge.register_map import (
    CONTROL_BITS,
    ERRORS,
    FIELDS,
    HEALTHS,
    STATES,
    STATUS_BITS,
    STATUS_WORDS,
    VERDICTS,
    WORDS,
    Field,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "bridge-plc.md").read_text()


def test_no_two_values_share_a_register_and_none_lies_on_both_sides() -> None:
    places = sorted(FIELDS.values(), key=lambda field: field.address)
    for before, after in pairwise(places):
        assert before.address + before.words <= after.address
    assert places[-1].address + places[-1].words <= WORDS
    control = {"control", "trigger_number", "product_wanted", "product_control", "part_id"}
    assert {name for name, field in FIELDS.items() if field.address >= STATUS_WORDS} == control


def test_one_request_reads_a_whole_result() -> None:
    assert STATUS_WORDS <= 125, "Modbus allows no more in one request"


def test_the_page_for_people_names_every_register_with_its_address() -> None:
    rows = re.findall(r"^\| (\d+)(?:\.\.(\d+))? \| `(\w+)` \|", PAGE, re.MULTILINE)
    on_page = {name: (int(first), int(last or first)) for first, last, name in rows if name in FIELDS}
    assert on_page == {
        name: (field.address, field.address + field.words - 1) for name, field in FIELDS.items()
    }


@pytest.mark.parametrize("names", [STATUS_BITS, CONTROL_BITS])
def test_the_page_names_every_bit(names: dict[str, int]) -> None:
    for name, mask in names.items():
        assert re.search(rf"^\| {mask.bit_length() - 1} \| `{name}` \|", PAGE, re.MULTILINE), name


@pytest.mark.parametrize("codes", [ERRORS, VERDICTS, STATES, HEALTHS])
def test_the_page_names_every_code(codes: dict[str | None, int]) -> None:
    for name, code in codes.items():
        assert re.search(rf"\b{code} `{name or 'none'}`", PAGE), (name, code)


def test_texts_are_cut_to_their_place_and_filled_with_zeros() -> None:
    image = [0xFFFF] * 8
    Field(2, 3).put(image, "AB-12345")
    assert image == [0xFFFF, 0xFFFF, 0x4142, 0x2D31, 0x3233, 0xFFFF, 0xFFFF, 0xFFFF]
    Field(2, 3).put(image, "A")
    assert image[2:5] == [0x4100, 0, 0]
    assert Field(2, 3).text(image) == "A"


def test_numbers_have_their_high_word_first() -> None:
    image = [0] * 2
    Field(0, 2).put(image, 0x12345678)
    assert image == [0x1234, 0x5678]


@given(st.integers(0, 2**32 - 1))
def test_numbers_come_back(value: int) -> None:
    image = [0] * 2
    Field(0, 2).put(image, value)
    assert Field(0, 2).number(image) == value


@given(st.lists(st.integers(0, 0xFFFF), min_size=16, max_size=16))
def test_whatever_a_plc_writes_is_some_text(words: list[int]) -> None:
    assert isinstance(Field(0, 16).text(words), str)
