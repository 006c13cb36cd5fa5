"""The fixtures of all tests. What they are made of lies in fixtures_*.py."""

from __future__ import annotations

from fixtures_bridge import make_bridge, stand_in
from fixtures_broker import broker, make_broker, subscriber
from fixtures_bundle import bundles_folder, tiny_bundle, tiny_model
from fixtures_camera import deaf_port, rtsp, stream, world
from fixtures_certificates import certificates
from fixtures_daemon import make_station
from fixtures_dashboard import (
    chromium,
    dashboard,
    page_address,
    page_broker,
    talker,
    websockets,
    window,
)
from fixtures_disk import card, make_disk, small_disk
from fixtures_mqtt import make_publisher
from fixtures_network import feed, narrow, spots
from fixtures_outbox import make_outbox
from fixtures_peer import make_peer
from fixtures_report import report_page, reported
from fixtures_systemd import machine
from fixtures_trainer import fast_config, fitted, int8_backbone, textures, weights_file
from hypothesis import HealthCheck, settings

# The same examples each time, however slow the machine: benchmarks/fuzz.py looks for new ones.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

__all__ = [
    "broker",
    "bundles_folder",
    "card",
    "certificates",
    "chromium",
    "dashboard",
    "deaf_port",
    "fast_config",
    "feed",
    "fitted",
    "int8_backbone",
    "machine",
    "make_bridge",
    "make_broker",
    "make_disk",
    "make_outbox",
    "make_peer",
    "make_publisher",
    "make_station",
    "narrow",
    "page_address",
    "page_broker",
    "report_page",
    "reported",
    "rtsp",
    "small_disk",
    "spots",
    "stand_in",
    "stream",
    "subscriber",
    "talker",
    "textures",
    "tiny_bundle",
    "tiny_model",
    "websockets",
    "weights_file",
    "window",
    "world",
]
