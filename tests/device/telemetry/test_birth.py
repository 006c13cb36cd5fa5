"""The birth message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
from fixtures_daemon import REPOSITORY

import device
from device.bundle.bundle import Bundle
from device.inspection.pipeline import Pipeline
from device.schemas.strict_json import schema_file
from device.telemetry.birth import birth

SCHEMA = json.loads(schema_file("birth").read_text())
GOLDEN = REPOSITORY / "tests" / "golden" / "birth.json"
STARTED = datetime(2026, 1, 31, 8, 0, 0, 123456, timezone(timedelta(hours=2)))


def test_the_golden_payload_byte_for_byte_but_for_what_differs_between_machines(tiny_bundle: Bundle) -> None:
    pipeline = Pipeline(tiny_bundle, "press-4", "5e55104")
    text = birth(pipeline, STARTED, ("trigger", "review"), "5")
    content = json.loads(text)
    jsonschema.Draft7Validator(SCHEMA).validate(content)
    for version in content["versions"].values():
        text = text.replace(f'"{version}"', '"VERSION"')
    for found in (tiny_bundle.sha256, tiny_bundle.calibration.version, pipeline.runtime):
        text = text.replace(f'"{found}"', '"VERSION"')
    assert text + "\n" == GOLDEN.read_text()
    assert content["model"]["sha256"] == tiny_bundle.sha256
    assert content["versions"]["edgevision"] == device.__version__


def test_a_whole_second_has_its_milliseconds_too(tiny_bundle: Bundle) -> None:
    pipeline = Pipeline(tiny_bundle, "press-4", "5e55104")
    started = datetime(2026, 1, 31, tzinfo=UTC)
    assert json.loads(birth(pipeline, started, (), "3.1.1"))["started"] == "2026-01-31T00:00:00.000Z"
