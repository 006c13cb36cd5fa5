"""`show`: one event again, in words and with its boxes, as the station kept it."""

from __future__ import annotations

from pathlib import Path

from device.archive import image_store
from device.archive.review import reviews
from device.cli.inspect import make_folder, write_image
from device.config import Config
from device.errors import ReviewError, StorageError
from device.image.frame import read_image
from device.inspection.annotate import annotate
from device.inspection.verdict import Verdict
from device.system.clock import rfc3339
from device.system.printable import printable


def show(config: Config, event: str, annotated: Path | None) -> int:
    """Print what the station said of an event, by which model; write its picture with the boxes where asked.

    `event`: its id, or enough of it; see image_store.whole_id. Returns the exit code, 0.
    Raises ReviewError: no such event, more than one, or a verdict that cannot be read; FrameError: its
    picture. StorageError: the archive, or the folder to write to.
    """
    folder = config.state / image_store.FOLDER
    try:
        event_id = image_store.whole_id(folder, event)
        image = image_store.find(folder, event_id)
        content = None if image is None else image.with_suffix(image_store.SIDECAR).read_bytes()
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if image is None or content is None:
        raise ReviewError(f"{event_id}: is not in {folder} any more")
    try:
        verdict = Verdict.from_json(content)
    except ValueError as error:
        raise ReviewError(f"{image.with_suffix(image_store.SIDECAR)}: is no verdict: {error}") from None
    for name, text in _told(config.state, verdict, image).items():
        print(f"{name:<10}{printable(text)}")
    if annotated is not None:
        make_folder(annotated)
        picture = annotated / f"{event_id}.png"
        write_image(picture, annotate(read_image(image)[0], verdict))
        print(f"{'boxes':<10}{picture}")
    return 0


def _told(state: Path, verdict: Verdict, image: Path) -> dict[str, str]:
    """What there is to say, by its name."""
    score = (
        "no score" if verdict.score is None else f"score {verdict.score:.4f}, NG from {verdict.threshold:.4f}"
    )
    clock = "" if verdict.clock_synced else " (the clock was not set)"
    told = {
        "verdict": f"{verdict.verdict}, {score}",
        "event": verdict.event_id,
        "time": f"{rfc3339(verdict.captured_ns)}{clock}",
        "part": f"{verdict.part_id or 'unnamed'}, on {verdict.station}, asked for by {verdict.trigger}",
        "model": f"{verdict.model.id} {verdict.model.version}",
        "regions": "; ".join(
            f"{r.box.x},{r.box.y} {r.box.width}x{r.box.height} px, score {r.score:.2f}"
            for r in verdict.regions
        ),
        "reason": verdict.reason or "",
        "review": "",
        "picture": str(image),
    }
    if said := reviews(state).get(verdict.event_id):
        told["review"] = f"{said.label}, by {said.by}" + (f": {said.note}" if said.note else "")
    return {name: text for name, text in told.items() if text}
