"""The Pi side of EdgeVision: from a camera's frame to a verdict on MQTT."""

__version__ = "0.2.0"
