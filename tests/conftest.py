"""The fixtures of all tests. What they are made of lies in fixtures_*.py."""

from __future__ import annotations

import pytest
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
from fixtures_disk import make_disk, small_disk
from fixtures_network import feed, narrow, spots
from fixtures_peer import make_peer
from fixtures_systemd import machine
from fixtures_trainer import fast_config, fitted, int8_backbone, textures, weights_file

__all__ = [
    "broker",
    "bundles_folder",
    "certificates",
    "chromium",
    "dashboard",
    "deaf_port",
    "fast_config",
    "feed",
    "fitted",
    "int8_backbone",
    "machine",
    "make_broker",
    "make_disk",
    "make_peer",
    "make_station",
    "narrow",
    "page_address",
    "page_broker",
    "rtsp",
    "small_disk",
    "spots",
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

# Longest first, so that what runs beside them ends with them.
LONG = (
    "test_real_images",
    "test_push",
    "test_systemd",
    "test_install_docs",
    "test_install_cut_off",
    "test_ansible",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run beside one another, those of a file stay together; so do all that boot a machine."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)
    for item in items:
        group = "machine" if "machine" in item.fixturenames else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
