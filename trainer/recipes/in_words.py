"""A way to build a model, as one line of the log: what a record says of it, without its punctuation."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = {"ap": "AP", "pooling_share": "pooling", "mask_weight": "masks weigh"}


def in_words(described: Mapping[str, object]) -> str:
    """512x512 px, cuts a+b, views mirrored, AP 0.994: sizes, then what is set, in the record's order."""
    return ", ".join(part for part in (_part(*one) for one in described.items()) if part)


def _part(name: str, value: object) -> str:
    """Nothing for what is not so, or not there."""
    called = NAMES.get(name, name.replace("_", " "))
    if value is None or value is False or value in ("", [], ()):
        return ""
    if value is True:
        return called
    if isinstance(value, (list, tuple)):
        joined = ("x" if name.endswith("_px") else "+").join(map(str, value))
        return f"{joined} px" if name.endswith("_px") else f"{called} {joined}"
    return f"{called} {value:.4g}" if isinstance(value, float) else f"{called} {value}"
