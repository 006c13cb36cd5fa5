"""The fixtures of all tests. What they are made of lies in fixtures_*.py."""

from __future__ import annotations

from fixtures_broker import broker, make_broker, subscriber
from fixtures_bundle import bundles_folder, tiny_bundle, tiny_model
from fixtures_daemon import make_station

__all__ = [
    "broker",
    "bundles_folder",
    "make_broker",
    "make_station",
    "subscriber",
    "tiny_bundle",
    "tiny_model",
]
