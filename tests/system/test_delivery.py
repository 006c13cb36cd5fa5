"""Ten kills of the running service, of its broker and of the network between them: every verdict arrives.

A short form of benchmarks/delivery.py --kills, which does it a thousand times.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_daemon import write_images

from benchmarks.delivery import Chaos

RATE_HZ = 50.0


@pytest.mark.parametrize("seed", [0])
def test_nothing_is_lost_and_the_order_is_kept(
    make_broker: object, tmp_path: Path, bundles_folder: Path, seed: int
) -> None:
    write_images(tmp_path / "images", "oonoonon")
    chaos = Chaos(tmp_path, seed, bundles_folder, tmp_path / "images", RATE_HZ)
    found = chaos.run(10, 50)
    assert min(found["by_kind"].values()) >= 2, found  # the seed strikes each of the three
    assert found["sessions"] >= 3, found
    assert found["stored"] == found["arrived"] >= 50, found
    assert found["defects"] > 0, found
    assert found["as_expected"], found
