"""An event again, by enough of its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures_bundle import png_bytes
from fixtures_daemon import run_device
from fixtures_verdict import NG

from device.archive import image_store
from device.archive.image_store import ImageStore, Quotas, StoredImage
from device.archive.review import review, reviews
from device.errors import ReviewError

SESSION, OTHER = "5e551040aa" * 3, "5e55104fbb" * 3
Keep = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[station]\nname = "press-4"\nstate = "state"\n')
    return path


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    folder = tmp_path / "state" / image_store.FOLDER
    folder.mkdir(parents=True)
    store = ImageStore(folder, Quotas(10**9, 90, 0))
    store.open()

    def kept(session: str, seq: int, **changes: object) -> str:
        event_id = f"{session}-{seq:08}"
        verdict = replace(NG, event_id=event_id, session_id=session, seq=seq, **changes)
        image = png_bytes(np.full((480, 640, 3), 90, np.uint8))
        picture = StoredImage(event_id, verdict.captured_ns, True, image, ".png", verdict.to_json())
        assert store.put(picture) is None
        return event_id

    return kept


def test_an_event_is_told_in_words_with_its_model_and_its_boxes(
    config: Path, keep: Keep, tmp_path: Path
) -> None:
    event_id = keep(SESSION, 12)
    keep(SESSION, 112)
    review(tmp_path / "state", event_id, "ng", "Ada", "a dent")
    done = run_device("show", "5e551040-12", "--config", config, "--annotate", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "verdict   NG, score 0.9375, NG from 0.6000\n" in done.stdout
    assert f"event     {event_id}\n" in done.stdout
    assert "part      A-0042, on press-4, asked for by free-run\n" in done.stdout
    assert "model     tiny 20260304T050607Z-abcdef01\n" in done.stdout
    assert "regions   10,20 30x40 px, score 0.97; 0,0 7x5 px, score 0.50\n" in done.stdout
    assert "review    ng, by Ada: a dent\n" in done.stdout
    drawn = cv2.imread(str(tmp_path / "out" / f"{event_id}.png"))
    assert (drawn[22, 11] != 90).any()


@pytest.mark.parametrize(
    "text", [*(f"{SESSION}-{end}" for end in ("00000012", "0000001", "12")), "5e551040-12"]
)
def test_enough_of_an_id_is_enough(keep: Keep, tmp_path: Path, text: str) -> None:
    event_id = keep(SESSION, 12)
    keep(SESSION, 2)
    keep(OTHER, 12)
    assert image_store.whole_id(tmp_path / "state" / image_store.FOLDER, text) == event_id
    review(tmp_path / "state", text, "ok", "Ada")
    assert list(reviews(tmp_path / "state")) == [event_id]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5e55104-12", "means 2 events"),
        ("5e55", "means 3 events"),
        ("5e551040-3", "no image of this event"),
        ("*", "no image of this event"),
        ("../../etc/passwd", "no image of this event"),
        ("", "no image of this event"),
    ],
)
def test_none_or_several_are_refused_by_name(
    config: Path, keep: Keep, tmp_path: Path, text: str, told: str
) -> None:
    for session, seq in ((SESSION, 12), (SESSION, 2), (OTHER, 12)):
        keep(session, seq)
    with pytest.raises(ReviewError, match=told):
        image_store.whole_id(tmp_path / "state" / image_store.FOLDER, text)
    assert run_device("show", text, "--config", config).returncode == 11
