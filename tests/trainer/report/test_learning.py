"""How a model was learned."""

from __future__ import annotations

from fixtures_report import section


def test_the_ways_that_were_tried(report_page):
    learning = section(report_page, "How it was learned")
    assert '<th scope="row">fine_tuned</th><td>0.9800</td>' in learning
    assert "Fine-tuned against the probe: shipped: probe." in learning
    assert "shipped: post-training; not_done: frames are seen in tiles." in learning
    assert "epoch by epoch: head &lt;1&gt;" in learning
    assert "learning rate: learning_rate." in learning
