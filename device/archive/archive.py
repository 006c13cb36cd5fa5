"""Which images are kept (NG, MARGINAL, a share of OK), and the thread that keeps them in the image store.

Inspection never waits for this. Images wait in a queue that is bounded by the bytes of their pixels. Loss
rule: when it is full, the newest image is not kept, and counted; its verdict is published all the same. A
disk that is full, read-only or gone is a reason in `state`, and the next image is tried again.

A small copy of the NG and MARGINAL images, with the model's heat over them, may be published as well
(`publish_image_max_bytes`): best effort, from the same queue, whatever the disk says.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from device.archive import image_store
from device.archive.encode import jpeg, png, png_layer, thumbnail
from device.archive.image_store import ImageStore, Quotas, StoredImage
from device.config import ArchiveConfig
from device.errors import StorageError
from device.image.frame import Frame, Pixels, read_image
from device.inspection.annotate import heat_layer
from device.inspection.verdict import Verdict
from device.system import process
from device.system.clock import clock_synced

log = logging.getLogger(__name__)

STOP_S = 5.0  # how long stop() waits for what is queued
_NICENESS = 19  # of the thread: inspection comes first, and may take both cores
_TIDY_EVERY_S = 600.0  # how often is looked for what has become too old while nothing new comes

Publish = Callable[[str, bytes], object]  # (topic below the station, payload)


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """What has become of the images. `reason`: why the last one could not be kept, None where it was.

    `images`, `size_bytes`: what is on the disk. Of this session: `kept`, `skipped` (the queue was full),
    `failed` (the disk did not take it), `removed` (to make room, or too old).
    """

    reason: str | None
    images: int
    size_bytes: int
    kept: int
    skipped: int
    failed: int
    removed: int

    def __str__(self) -> str:
        return (
            f"{self.kept} kept, {self.skipped} skipped, {self.failed} failed, {self.removed} removed; "
            f"{self.images} images, {self.size_bytes / 1e6:.1f} MB"
        )


class Archive:
    """start(), keep() for every frame that was inspected, stop()."""

    def __init__(self, state: Path, config: ArchiveConfig, publish: Publish) -> None:
        """`state`: the station's state folder. `publish` is called in the archive's thread."""
        self._config = config
        self._publish = publish
        self._store = ImageStore(
            state / image_store.FOLDER, Quotas(config.max_bytes, config.max_days, config.min_free_bytes)
        )
        self._is_open = False
        self._tidy_at_s = 0.0
        self._thread = threading.Thread(target=self._keep_all, name="archive", daemon=True)
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: deque[tuple[Pixels, Verdict]] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._reason: str | None = None
        self._kept = self._skipped = self._failed = 0
        self._images = self._size_bytes = self._removed = 0

    def start(self) -> None:
        """Begin; what is on the disk already is counted in the thread."""
        self._thread.start()

    def keep(self, frame: Frame, verdict: Verdict) -> None:
        """Take the frame's image where it is wanted. Never waits; the frame may be released afterwards."""
        if not (self._is_stored(verdict) or self._is_published(verdict)):
            return
        image = frame.image
        with self._changed:
            full = self._waiting_bytes + image.nbytes > self._config.queue_bytes
            if self._closing or (full and self._waiting):
                self._skipped += 1
                return
            # what owns no memory is a view, maybe of a buffer that the camera will fill again
            self._waiting.append((image if image.flags.owndata else image.copy(), verdict))
            self._waiting_bytes += image.nbytes
            self._changed.notify()

    def stop(self) -> None:
        """Keep what is queued, for at most STOP_S; what is left then is counted as skipped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        with self._changed:
            self._skipped += len(self._waiting)
            self._waiting.clear()

    @property
    def state(self) -> ArchiveState:
        with self._changed:
            return ArchiveState(
                self._reason,
                self._images,
                self._size_bytes,
                self._kept,
                self._skipped,
                self._failed,
                self._removed,
            )

    # ---- what is wanted

    def _is_stored(self, verdict: Verdict) -> bool:
        if self._config.max_bytes == 0 or verdict.verdict == "ERROR":
            return False
        return verdict.verdict != "OK" or is_sampled(verdict.event_id, self._config.ok_ratio)

    def _is_published(self, verdict: Verdict) -> bool:
        return bool(self._config.publish_image_max_bytes) and verdict.verdict in ("NG", "MARGINAL")

    # ---- the thread

    def _keep_all(self) -> None:
        process.step_back(_NICENESS)
        self._tidy()
        while not self._ended():
            if (job := self._next()) is not None:
                image, verdict = job
                if self._is_published(verdict):
                    self._publish_small(image, verdict)
                if self._is_stored(verdict):
                    self._store_picture(image, verdict)
            self._tidy()

    def _ended(self) -> bool:
        with self._changed:
            return self._closing and not self._waiting

    def _next(self) -> tuple[Pixels, Verdict] | None:
        """The image that has waited longest; None when nothing came for a while, or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing, _TIDY_EVERY_S)
            if not self._waiting:
                return None
            image, verdict = self._waiting.popleft()
            self._waiting_bytes -= image.nbytes
            return image, verdict

    def _publish_small(self, image: Pixels, verdict: Verdict) -> None:
        content = thumbnail(image, self._config.publish_image_max_bytes)
        if content is not None:
            self._publish(f"image/{verdict.event_id}", content)
        if (heat := _heat_file(verdict)) is not None:
            self._publish(f"heat/{verdict.event_id}", heat)

    def _store_picture(self, image: Pixels, verdict: Verdict) -> None:
        picture = self._picture(image, verdict)
        try:
            self._open()
            reason = self._store.put(picture)
        except OSError as error:
            reason = _words(error)
            if isinstance(error, FileNotFoundError):  # removed by hand: begin anew
                self._is_open = False
        self._note(reason)
        with self._changed:
            self._kept += reason is None
            self._failed += reason is not None

    def _picture(self, image: Pixels, verdict: Verdict) -> StoredImage:
        is_jpeg = self._config.format == "jpeg"
        return StoredImage(
            event_id=verdict.event_id,
            captured_ns=verdict.captured_ns,
            clock_synced=verdict.clock_synced,
            image=jpeg(image, self._config.jpeg_quality) if is_jpeg else png(image),
            suffix=".jpg" if is_jpeg else ".png",
            sidecar=verdict.to_json() + "\n",
            heat=_heat_file(verdict),
        )

    def _tidy(self) -> None:
        """Now and then: remove what is too old, if the date can be believed."""
        if self._config.max_bytes == 0 or time.monotonic() < self._tidy_at_s:
            return
        self._tidy_at_s = time.monotonic() + _TIDY_EVERY_S
        try:
            self._open()
            if clock_synced():
                self._store.expire(datetime.now(UTC).date())
        except OSError as error:
            self._note(_words(error))
        else:
            self._count()

    def _open(self) -> None:
        if not self._is_open:
            self._store.open()
            self._is_open = True

    def _note(self, reason: str | None) -> None:
        """The first failure is loud, those that follow are not; then the recovery is told."""
        before = self._reason
        if reason is not None:
            level = logging.WARNING if before is None else logging.DEBUG
            log.log(level, "the image is not kept, inspection goes on: %s", reason)
        elif before is not None:
            log.info("images are kept again")
        with self._changed:
            self._reason = reason
        self._count()

    def _count(self) -> None:
        with self._changed:
            self._images, self._size_bytes = self._store.images, self._store.size_bytes
            self._removed = self._store.removed


def kept_pictures(state: Path, event_id: str, max_bytes: int) -> dict[str, bytes]:
    """{topic: content} of what is published of an event, from its image and heat; empty: not kept.

    Raises StorageError: the disk. FrameError: the image is damaged.
    """
    try:
        path = image_store.find(state / image_store.FOLDER, event_id)
        heat = None if path is None else image_store.heat_beside(path)
    except OSError as error:
        raise StorageError(f"{event_id}: cannot be read: {_words(error)}") from error
    small = None if path is None else thumbnail(read_image(path)[0], max_bytes)
    said = {f"image/{event_id}": small, f"heat/{event_id}": heat}
    return {topic: content for topic, content in said.items() if content is not None}


def is_sampled(event_id: str, ratio: float) -> bool:
    """Whether an event belongs to this share of all events: the same answer for the same id, everywhere."""
    digest = hashlib.sha256(event_id.encode()).digest()
    return int.from_bytes(digest[:8]) < ratio * 2**64


def _heat_file(verdict: Verdict) -> bytes | None:
    return None if verdict.heat is None else png_layer(heat_layer(verdict.heat))


def _words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
