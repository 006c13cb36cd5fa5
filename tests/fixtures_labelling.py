"""A data set as `device export` writes it, with the station's word on each image."""

from __future__ import annotations

import json
from pathlib import Path

from fixtures_bundle import make_image, png_bytes
from fixtures_daemon import REPOSITORY

SCORES = {"a": 0.95, "b": 0.61, "c": 0.10}  # the threshold is 0.6


def write_reviewed(folder: Path) -> Path:
    """images/a.png (sure to be NG), b.png (doubtful) and c.png (OK), 64 x 48 px."""
    template = json.loads((REPOSITORY / "tests" / "golden" / "verdict-ng.json").read_text())
    for part in ("images", "verdicts"):
        (folder / part).mkdir(parents=True)
    rows = ["path,label,mask,group,split"]
    for seed, (name, score) in enumerate(SCORES.items()):
        (folder / "images" / f"{name}.png").write_bytes(png_bytes(make_image(width=64, height=48, seed=seed)))
        regions = template["regions"] if score > 0.6 else []
        verdict = template | {"score": score, "regions": regions}
        (folder / "verdicts" / f"{name}.json").write_text(json.dumps(verdict))
        rows.append(f"images/{name}.png,{'ok' if score < 0.6 else 'ng'},,part {name},")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
