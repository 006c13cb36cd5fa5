"""Verdicts and their wire format."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import fastjsonschema
import pytest
from fixtures_daemon import REPOSITORY
from fixtures_verdict import ERROR, NG, OK, THRESHOLDS

from device.image.geometry import Box
from device.inspection.verdict import Tile, Verdict, Votes, decide
from device.schemas.strict_json import schema_file

GOLDEN = REPOSITORY / "tests" / "golden"
SCHEMA = json.loads(schema_file("verdict").read_text())
PAYLOADS = {"verdict-ng.json": NG, "verdict-ok.json": OK, "verdict-error.json": ERROR}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_golden_payloads_byte_for_byte(name: str) -> None:
    assert PAYLOADS[name].to_json() + "\n" == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_golden_payloads_follow_the_schema(name: str) -> None:
    fastjsonschema.compile(SCHEMA)(json.loads((GOLDEN / name).read_text()))


@pytest.mark.parametrize("name", PAYLOADS)
def test_there_and_back(name: str) -> None:
    text = (GOLDEN / name).read_text().strip()
    back = Verdict.from_json(text)
    assert back == replace(PAYLOADS[name], captured_ns=1_790_000_000_123_000_000)
    assert back.to_json() == text


def test_exactly_the_promised_keys_in_their_order() -> None:
    content = json.loads(NG.to_json())
    assert " ".join(content) == (
        "schema event_id session_id seq historical ts clock_synced station part_id trigger verdict reason "
        "votes score threshold model regions tiles image timing_ms camera checks"
    )
    assert content["ts"] == "2026-09-21T14:13:20.123Z"
    assert content["regions"][0]["bbox_norm"] == [0.015625, 0.041667, 0.046875, 0.083333]
    assert list(SCHEMA["properties"]) == list(content) == SCHEMA["required"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "NG"),
        ({"verdict": "MARGINAL", "reason": "darker than the pictures of the training"}, "NG"),
        ({"verdict": "MARGINAL", "reason": "darker", "score": NG.threshold / 2}, "MARGINAL"),
        ({"verdict": "MARGINAL"}, "MARGINAL"),  # it has not the votes
    ],
)
def test_a_doubt_about_the_picture_lets_no_part_pass_the_gate_that_scores_ng(
    changes: dict[str, Any], word: str
) -> None:
    assert replace(NG, **changes).at_the_gate == word


def test_a_path_that_is_not_utf8_can_be_sent() -> None:
    payload = replace(NG, image_path="caf\udce9.png").to_json().encode()
    assert b"caf\\udce9.png" in payload


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "GOOD"}, "verdict: must be OK, NG, MARGINAL or ERROR, got 'GOOD'"),
        ({"score": None}, "score: must be 0..1 with NG, got None"),
        ({"score": 1.5}, "score: must be 0..1 with NG, got 1.5"),
        ({"score": math.nan}, "score: must be 0..1 with NG, got nan"),
        ({"verdict": "ERROR"}, "score: must be null with ERROR, got 0.9375"),
        ({"verdict": "OK"}, "regions: must be empty with OK, got 2"),
        ({"image_size": None}, "image_size: must be known where there are regions, got None"),
        ({"seq": -1}, "seq: must be >= 0, got -1"),
        ({"verdict": "OK", "regions": (), "reason": "dark"}, "reason: must be null with OK, got 'dark'"),
        ({"camera_metadata": {"name": "x"}}, "camera_metadata: must be without `name`, got 'replay'"),
    ],
)
def test_a_verdict_checks_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        replace(NG, **changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changes", [{"area_px": 0}, {"score": 1.1}, {"score": math.nan}, {"method": "guess"}]
)
def test_a_region_checks_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"region.{next(iter(changes))}: must be "):
        replace(NG.regions[0], **changes)


def test_votes_and_tiles_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"votes.ng: must be 0..3, got 4"):
        Votes(4, 3, 2)
    with pytest.raises(ValueError, match=r"votes.needed: must be >= 1, got 0"):
        Votes(1, 3, 0)
    with pytest.raises(ValueError, match=r"tile.score: must be 0..1, got 2"):
        Tile(Box(0, 0, 1, 1), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=2), "schema: must be 1, got 2"),
        (lambda content: content.pop("ts"), "ts: missing"),
        (lambda content: content.update(extra=1), "extra: unknown field"),
        (
            lambda content: content["model"].update(sha256="x"),
            "model.sha256: must be 64 lower-case hex digits",
        ),
        (
            lambda content: content["regions"][1].update(bbox_px=[1, 2, 3]),
            r"regions\[1\].bbox_px: must be \[x, y",
        ),
        (lambda content: content.update(score=True), "score: must be a number 0..1 or null, got true"),
        (lambda content: content.update(verdict="OK"), "regions: must be empty with OK"),
        (lambda content: content["image"].update(h=None), "Size.height must be"),
        (
            lambda content: content.update(ts="2026-09-21T14:13:20Z"),
            "ts: must be an RFC 3339 time in UTC with milli",
        ),
    ],
)
def test_a_payload_that_is_not_as_it_should_be(change: Any, message: str) -> None:
    content = json.loads(NG.to_json())
    change(content)
    with pytest.raises(ValueError, match=message):
        Verdict.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("score", "word"),
    [(0.0, "OK"), (0.2999, "OK"), (0.3, "MARGINAL"), (0.5999, "MARGINAL"), (0.6, "NG"), (1.0, "NG")],
)
def test_the_thresholds_belong_to_the_worse_side(score: float, word: str) -> None:
    assert decide(score, THRESHOLDS) == word


def test_without_a_marginal_band_and_without_a_number() -> None:
    assert decide(0.6, replace(THRESHOLDS, marginal=0.6)) == "NG"
    assert decide(0.5, replace(THRESHOLDS, marginal=0.6)) == "OK"
    with pytest.raises(ValueError, match="got NaN"):
        decide(math.nan, THRESHOLDS)
