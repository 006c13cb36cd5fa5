"""Whether there are enough images: what their number lets anyone know, said before a long training."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.scoring.metrics import interval

USUAL_RECALL = 0.9  # for which the interval is told, while there is no model
FEW = 10  # defective images: below, good ones alone may teach more


def beforehand(good: int, defective: int) -> Iterator[str]:
    """What so many images can show of a model, in sentences; `defective`: 0 where none is used."""
    if good:
        most = 100 * interval(0, good)[1]
        yield f"{good} good: were none of them rejected, up to {most:.1f} % of good parts could be (95 %)"
    if defective:
        low, high = interval(round(USUAL_RECALL * defective), defective)
        yield f"{defective} defective: recall can be known to within {50 * (high - low):.0f} points (95 %)"
    if 0 < defective < FEW <= good:
        yield (
            f"{defective} defective images are few: --mode good-only learns from good ones alone, and --from "
            "sharpens what it made with these"
        )
