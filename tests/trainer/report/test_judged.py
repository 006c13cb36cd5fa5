"""Who is reported on."""

from __future__ import annotations

import sys

import numpy as np
from fixtures_bundle import TinyModel

from trainer.data.dataset import Dataset
from trainer.network.export import Int8Model
from trainer.report.judged import command_line, facts_of, look_of


def test_an_image_is_seen_through_who_judged_it(reported, tiny_model: TinyModel):
    model_input, evidence = look_of(reported)(3)
    assert model_input.placement.source == reported.judged[3].size
    assert np.allclose(evidence, Int8Model(tiny_model.content).evidence(model_input.tensor))


def test_a_data_set_is_told_by_its_folder_not_its_path(reported, tmp_path):
    facts = facts_of(Dataset(tmp_path / "parts", "csv", reported.judged, ("one",), "d1", "by hand"))
    assert (facts["folder"], facts["images"], facts["problems"]) == ("parts", 14, 1)
    assert str(tmp_path) not in str(facts)


def test_the_command_is_told_without_its_interpreter(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/lib/trainer/fit.py", "--data", "my parts"])
    assert command_line() == "python -m trainer.fit --data 'my parts'"
