"""How a station introduces itself to Home Assistant: one device discovery message with all its entities.

The keys are those of https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, by their full
names. Every entity reads a topic that the station publishes anyway. One that this station does not have is
named with its platform alone: Home Assistant removes what it knows of it from before.
"""

from __future__ import annotations

import json
from typing import Any

from device import __version__

# Home Assistant knows two words for a status; `stopped` is not available either.
_IS_AVAILABLE = "{{ 'online' if value == 'online' else 'offline' }}"
_HAS_PROBLEM = "{{ {'init': None, 'ready': 'OFF'}.get(value_json.state, 'ON') }}"
_DEFECT_AT = "{{ value_json.defects[0].ts if value_json.defects else None }}"
_YIELD_PERCENT = (
    "{% set seen = value_json.ok + value_json.ng + value_json.marginal %}"
    "{{ (100 * value_json.ok / seen) | round(2) if seen else None }}"
)


def discovery_topic(prefix: str, station: str) -> str:
    """Where the message goes, retained. Home Assistant takes no dot there."""
    return f"{prefix}/device/{_object_id(station)}/config"


def discovery(root: str, station: str, model_id: str, *, picture: bool, trigger: bool) -> str:
    """The message as compact JSON. `root`: <prefix>/<station> of the station's own topics.

    `picture`: whether the station publishes pictures of defects. `trigger`: whether it takes that command;
    only then is there a button.
    """
    identity = f"edgevision-{_object_id(station)}"
    missing = {name for name, has in (("picture", picture), ("trigger", trigger)) if not has}
    entities = _sensors(root) | _problem(root) | _picture(root) | _button(root)
    content = {
        "device": {
            "identifiers": [identity],
            "name": station,
            "manufacturer": "EdgeVision",
            "model": model_id,
            "sw_version": __version__,
        },
        "origin": {"name": "EdgeVision", "sw_version": __version__},
        "availability": [{"topic": f"{root}/status", "value_template": _IS_AVAILABLE}],
        "components": {
            name: {"platform": entity["platform"]} if name in missing else _named(entity, identity, name)
            for name, entity in entities.items()
        },
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _named(entity: dict[str, Any], identity: str, name: str) -> dict[str, Any]:
    """An entity with the two ids that are this station's alone."""
    default = f"{entity['platform']}.{_slug(identity)}_{name}"
    return {**entity, "unique_id": f"{identity}-{name}", "default_entity_id": default}


def _sensors(root: str) -> dict[str, dict[str, Any]]:
    return {
        "verdict": _sensor(
            "Verdict",
            f"{root}/inspection/last",
            "{{ value_json.verdict }}",
            device_class="enum",
            options=["OK", "NG", "MARGINAL", "ERROR"],
            icon="mdi:magnify-scan",
        ),
        "score": _sensor(
            "Score",
            f"{root}/inspection/last",
            "{{ value_json.score }}",
            state_class="measurement",
            suggested_display_precision=3,
            icon="mdi:gauge",
        ),
        **{
            word: _sensor(
                f"Parts {word}" if word != "error" else "Frames not judged",
                f"{root}/counters",
                f"{{{{ value_json.{word} }}}}",
                state_class="total_increasing",
                icon="mdi:counter",
            )
            for word in ("ok", "ng", "marginal", "error")
        },
        "yield": _sensor(
            "Yield",
            f"{root}/counters",
            _YIELD_PERCENT,
            unit_of_measurement="%",
            state_class="measurement",
            icon="mdi:percent",
        ),
        "defect_at": _sensor("Last defect at", f"{root}/history", _DEFECT_AT, device_class="timestamp"),
        "health": _sensor(
            "Health",
            f"{root}/health",
            "{{ value_json.state }}",
            device_class="enum",
            options=["init", "ready", "degraded", "alert"],
            json_attributes_topic=f"{root}/health",
            json_attributes_template="{{ value_json.roles | tojson }}",
            entity_category="diagnostic",
        ),
        "temperature": _sensor(
            "Temperature",
            f"{root}/stats",
            "{{ value_json.temperature_c }}",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            entity_category="diagnostic",
        ),
        "model": _sensor(
            "Model",
            f"{root}/model",
            "{{ value_json.version }}",
            json_attributes_topic=f"{root}/model",
            entity_category="diagnostic",
            icon="mdi:brain",
        ),
    }


def _sensor(name: str, topic: str, template: str, **more: Any) -> dict[str, Any]:
    return {"platform": "sensor", "name": name, "state_topic": topic, "value_template": template, **more}


def _problem(root: str) -> dict[str, dict[str, Any]]:
    return {
        "problem": {
            "platform": "binary_sensor",
            "name": "Problem",
            "device_class": "problem",
            "state_topic": f"{root}/health",
            "value_template": _HAS_PROBLEM,
        }
    }


def _picture(root: str) -> dict[str, dict[str, Any]]:
    return {
        "picture": {
            "platform": "image",
            "name": "Last defect",
            "image_topic": f"{root}/image/last",
            "content_type": "image/jpeg",
        }
    }


def _button(root: str) -> dict[str, dict[str, Any]]:
    return {
        "trigger": {
            "platform": "button",
            "name": "Inspect now",
            "command_topic": f"{root}/cmd/trigger",
            "payload_press": '{"by":"homeassistant"}',
            "qos": 1,
            "retain": False,
            "icon": "mdi:camera-iris",
        }
    }


def _object_id(station: str) -> str:
    """A station's name holds letters, digits, "-", "_" and "."; an object id all of these but the last."""
    return station.replace(".", "_")


def _slug(text: str) -> str:
    """As Home Assistant writes entity ids."""
    return text.lower().replace("-", "_")
