"""The discovery message, against what Home Assistant documents."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fixtures_daemon import REPOSITORY

from device import __version__
from device.mqtt.home_assistant import discovery, discovery_topic

GOLDEN = REPOSITORY / "tests" / "golden" / "home-assistant.json"
ROOT = "edgevision/press-4"

# The documented keys, by their full names: https://www.home-assistant.io/integrations/mqtt/ (device discovery
# payload, availability), and .../sensor.mqtt/, .../binary_sensor.mqtt/, .../image.mqtt/, .../button.mqtt/
# (configuration variables). Compared with homeassistant 2026.2.3: components/mqtt/schemas.py, sensor.py,
# binary_sensor.py, image.py, button.py.
DEVICE = {
    "identifiers",
    "connections",
    "configuration_url",
    "hw_version",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
}
ORIGIN = {"name", "sw_version", "support_url"}
AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
AT_DEVICE_LEVEL = {
    "device",
    "origin",
    "components",
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
    "payload_available",
    "payload_not_available",
    "state_topic",
    "command_topic",
    "qos",
    "encoding",
}
OF_EVERY_ENTITY = {
    "platform",
    "unique_id",
    "default_entity_id",
    "name",
    "icon",
    "enabled_by_default",
    "entity_category",
    "entity_picture",
    "json_attributes_topic",
    "json_attributes_template",
    "qos",
    "encoding",
}
OF_A_PLATFORM = {
    "sensor": {
        "state_topic",
        "value_template",
        "device_class",
        "expire_after",
        "force_update",
        "last_reset_value_template",
        "options",
        "suggested_display_precision",
        "state_class",
        "unit_of_measurement",
    },
    "binary_sensor": {
        "state_topic",
        "value_template",
        "device_class",
        "expire_after",
        "force_update",
        "off_delay",
        "payload_off",
        "payload_on",
    },
    "image": {"image_topic", "image_encoding", "content_type", "url_topic", "url_template"},
    "button": {"command_topic", "command_template", "device_class", "payload_press", "retain"},
}
REQUIRED = {
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
    "image": {"image_topic"},
    "button": {"command_topic"},
}


@pytest.fixture
def message() -> dict[str, Any]:
    return json.loads(discovery(ROOT, "press-4", "tiny", picture=True, trigger=True))


def test_the_golden_message_byte_for_byte() -> None:
    text = discovery(ROOT, "press-4", "tiny", picture=True, trigger=True)
    assert text.replace(__version__, "VERSION") + "\n" == GOLDEN.read_text()


def test_every_key_is_documented(message: dict[str, Any]) -> None:
    assert set(message) <= AT_DEVICE_LEVEL
    assert {"device", "origin", "components"} <= set(message)
    assert set(message["device"]) <= DEVICE
    assert message["device"]["identifiers"]
    assert set(message["origin"]) <= ORIGIN
    assert message["origin"]["name"]
    for availability in message["availability"]:
        assert set(availability) <= AVAILABILITY
    for name, entity in message["components"].items():
        platform = entity["platform"]
        assert set(entity) <= OF_EVERY_ENTITY | OF_A_PLATFORM[platform], name
        assert REQUIRED[platform] | {"platform", "unique_id"} <= set(entity), name


def test_every_entity_that_a_person_wants_is_there(message: dict[str, Any]) -> None:
    platforms = {name: entity["platform"] for name, entity in message["components"].items()}
    counts = ("ok", "ng", "marginal", "error", "yield")
    sensors = ("verdict", "score", *counts, "defect_at", "health", "temperature", "model")
    others = {"problem": "binary_sensor", "picture": "image", "trigger": "button"}
    assert platforms == dict.fromkeys(sensors, "sensor") | others


def test_entities_can_be_told_apart(message: dict[str, Any]) -> None:
    for key in ("unique_id", "default_entity_id", "name"):
        values = [entity[key] for entity in message["components"].values()]
        assert len(set(values)) == len(values), key
    for entity in message["components"].values():
        domain = entity["platform"]
        assert re.fullmatch(rf"{domain}\.[a-z0-9_]+", entity["default_entity_id"])


def test_options_and_units_do_not_contradict_each_other(message: dict[str, Any]) -> None:
    """sensor.mqtt: `options` needs device_class enum, and neither state_class nor unit_of_measurement."""
    for entity in message["components"].values():
        if "options" in entity:
            assert entity["device_class"] == "enum"
            assert not {"state_class", "unit_of_measurement"} & set(entity)


def test_what_the_station_does_not_have_is_named_by_its_platform_alone_and_so_removed() -> None:
    message = json.loads(discovery(ROOT, "press-4", "tiny", picture=False, trigger=False))
    assert message["components"]["trigger"] == {"platform": "button"}
    assert message["components"]["picture"] == {"platform": "image"}
    assert "cmd/" not in json.dumps(message)
    assert "image/" not in json.dumps(message)


def test_the_topic_has_no_character_that_home_assistant_refuses() -> None:
    assert discovery_topic("homeassistant", "press-4") == "homeassistant/device/press-4/config"
    topic = discovery_topic("homeassistant", "hall.2_press-4")
    assert re.fullmatch(r"homeassistant/\w+/[a-zA-Z0-9_-]+/config", topic)
