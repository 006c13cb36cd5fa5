"""Whether there are enough images: what their number lets anyone know, and what fewer of them had brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.scoring.metrics import interval

USUAL_RECALL = 0.9  # for which the interval is told, while there is no model
FEW = 10  # defective images: below, good ones alone may teach more
FLAWLESS = 0.99  # average precision, which leaves more images little to bring
LUCK = 0.03  # by which two trainings of one kind differ


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


def afterwards(curve: Mapping[str, Any]) -> str:
    """What a learning curve (trainer.recipes.learning_curve) says of more images, in a sentence."""
    first, *others = zip(curve["images"], curve["ap"], strict=True)
    *_, half, every = curve["ap"]
    gain, error = every - half, max(LUCK, 2 * curve["gain_error"])
    shown = "".join(f", from {images} {ap:.3f}" for images, ap in others)
    if every >= FLAWLESS:
        verdict = "more images like these would bring little"
    elif gain > error:
        verdict = f"twice the images brought {gain:.2f}, and more would probably help again"
    else:
        verdict = f"twice the images brought {gain:+.2f}, which may be luck: more need not help"
    return f"From {first[0]} images average precision is {first[1]:.3f}{shown}: {verdict}"
