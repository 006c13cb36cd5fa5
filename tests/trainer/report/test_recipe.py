"""What made a model."""

from __future__ import annotations

from fixtures_report import section

from trainer.report.recipe import PARTS


def test_every_part_of_the_recipe_has_its_line(report_page):
    recipe = section(report_page, "The recipe, part by part")
    for part in PARTS:
        assert f'<th scope="row">{part}</th>' in recipe
    assert "<b>folds = 7</b> (default 5)" in recipe


def test_the_environment(report_page):
    environment = section(report_page, "Environment")
    assert '<th scope="row">seed</th><td>5</td>' in environment
    assert '<th scope="row">model</th><td>12.5</td>' in environment
