"""An image store, and small pictures to put in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from device.archive.image_store import ImageStore, Quotas, StoredImage

IMAGE = bytes(3000)
SIZE = 3002  # with the side-car of picture()
NOON = int(datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()) * 10**9
DAY_NS = 24 * 3600 * 10**9
PLENTY = Quotas(10**9, 90, 0)


def picture(
    event_id: str,
    captured_ns: int = NOON,
    *,
    synced: bool = True,
    image: bytes = IMAGE,
    heat: bytes | None = None,
) -> StoredImage:
    return StoredImage(event_id, captured_ns, synced, image, ".jpg", "{}", heat)


def opened(folder: Path, quotas: Quotas = PLENTY) -> ImageStore:
    store = ImageStore(folder, quotas)
    store.open()
    return store
