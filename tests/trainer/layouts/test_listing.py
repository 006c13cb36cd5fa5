"""What a layout says of an image."""

from __future__ import annotations

from pathlib import Path

from trainer.layouts.listing import Entry


def test_an_image_has_no_mask_or_several():
    plain = Entry("a.png", Path("a.png"), 1, "bent", None, "a.png", "train")
    marked = Entry("a.png", Path("a.png"), None, "", Path("m1.png"), "a.png", "train", (Path("m2.png"),))
    assert plain.masks == ()
    assert marked.masks == (Path("m1.png"), Path("m2.png"))
