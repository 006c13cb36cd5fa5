"""`snapshot`: one picture of the configured camera into a file."""

from __future__ import annotations

from pathlib import Path

from device.aim.aim import require_free_camera, say
from device.archive.encode import jpeg, png
from device.camera.camera import make_camera
from device.config import Config
from device.errors import ConfigError, FrameError
from device.system import durable
from device.system.signals import StopSignal

QUALITY = 95


def snapshot(config: Config, path: Path, *, beside: bool) -> int:
    """Write the camera's present picture, whole or not at all, as a PNG or JPEG by the name. Returns 0.

    Raises ConfigError: another suffix. BusyError: the service has the camera. FrameError, StorageError.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"{path}: must end in .png, .jpg or .jpeg")
    require_free_camera(config, beside=beside)
    with StopSignal() as stop:
        camera = make_camera(config.camera, stop.wait)
        try:
            camera.open()
            frame = camera.read(config.camera.timeout_s, flush=camera.live)
            if frame is None:
                raise FrameError(f"{camera.name}: has no picture")
            durable.write(path, png(frame.image) if suffix == ".png" else jpeg(frame.image, QUALITY))
        finally:
            camera.close()
    say(f"{path}: {frame.size.width}x{frame.size.height} px")
    return 0
