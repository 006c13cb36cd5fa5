"""Where a model comes from, for the people who have to know."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from fixtures_data import make_dagm

from trainer import config
from trainer.bundle import provenance
from trainer.data.dataset import load


@pytest.fixture
def dataset(tmp_path):
    return load(make_dagm(tmp_path / "Class7"))


def test_the_record_is_json_and_says_all(dataset):
    settings = config.load(None)
    found = provenance.record({"recipe": "probe"}, dataset, settings, weights="imagenet", seed=7)
    assert json.loads(json.dumps(found)) == found
    assert (found["recipe"], found["seed"], found["weights"]) == ("probe", 7, {"source": "imagenet"})
    assert found["config"]["split"] == {
        "test_share": settings.split.test_share,
        "folds": settings.split.folds,
    }
    assert found["data"] == {
        "name": "Class7",
        "format": "dagm",
        "digest": dataset.digest,
        "split_rule": "DAGM's own Train and Test folders",
        "kinds": {
            "defective": {"train": 3, "test": 3, "unassigned": 0},
            "good": {"train": 4, "test": 4, "unassigned": 0},
        },
        "sets": [],
        "train": {"good": 4, "defective": 3},
        "test": {"good": 4, "defective": 3},
        "problems": 0,
    }
    assert {"python", "keras", "numpy", "scikit-learn", "ai-edge-litert"} <= found["versions"].keys()


def test_weights_from_a_file_are_known_by_their_digest(dataset, tmp_path):
    path = tmp_path / "mine.weights.h5"
    path.write_bytes(b"weights")
    found = provenance.record({}, dataset, config.load(None), weights=str(path), seed=0)
    assert found["weights"] == {"source": path.name, "sha256": hashlib.sha256(b"weights").hexdigest()}


def test_the_commit_or_nothing(dataset, tmp_path, monkeypatch):
    found = provenance.record({}, dataset, config.load(None), weights="none", seed=0)
    assert found["git"] is None or re.fullmatch("[0-9a-f]{40}", found["git"])
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no git
    assert provenance.record({}, dataset, config.load(None), weights="none", seed=0)["git"] is None
