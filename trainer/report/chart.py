"""Charts as SVG text: no library and no script; colours come from the page, so light and dark are its own.

Everything is drawn in a box of WIDTH x HEIGHT and scales with the page. What a chart says in colour it says
in its legend, its line style and its title as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 62  # margins for the axes
MOST_POINTS = 300  # of a line: more cannot be seen
TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined by a line; `style` is a class of the style sheet: a, b, c or d."""

    name: str
    x: ArrayLike
    y: ArrayLike
    style: str = "a"


@dataclass(frozen=True, slots=True)
class LabelledPoint:
    """A point with its name, and the intervals around it (low, high) where they are known."""

    name: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Counts in equal bins from x_low to x_high; `up`: above the axis, else below it."""

    name: str
    counts: Sequence[int]
    style: str
    up: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis says, and from where to where."""

    label: str
    low: float = 0.0
    high: float = 1.0

    def share(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values lie between low and high, 0..1."""
        span = self.high - self.low or 1.0
        return np.clip((np.asarray(values, np.float64) - self.low) / span, 0.0, 1.0)

    def ticks(self) -> list[float]:
        """A few round numbers."""
        span = (self.high - self.low) or 1.0
        raw = span / TICKS
        power = 10.0 ** np.floor(np.log10(raw))
        step = float(min((1, 2, 2.5, 5, 10), key=lambda part: abs(part * power - raw)) * power)
        first = np.ceil(self.low / step - 1e-9) * step
        return [float(value) + 0.0 for value in np.arange(first, self.high + step * 1e-6, step)]


def lines(title: str, x: Axis, y: Axis, drawn: Sequence[Line], marks: Sequence[LabelledPoint] = ()) -> str:
    """Lines over two axes."""
    parts = [*_grid(x, y)]
    for line in drawn:
        across, up = _thinned(line)
        points = _points(x, y, across, up)
        parts.append(f'<polyline class="line {line.style}" points="{points}"/>')
    for number, mark in enumerate(marks):
        parts += _mark(x, y, mark, number)
    return _svg(title, [*parts, *_legend([(line.name, line.style) for line in drawn])])


def histogram(title: str, x: Axis, drawn: Sequence[Bars], limits: Sequence[tuple[str, float]]) -> str:
    """Bars above and below one axis, in shares of each set's total; `limits`: upright lines with names."""
    shares = [np.asarray(bars.counts, np.float64) / max(1, sum(bars.counts)) for bars in drawn]
    top = max([float(share.max()) for share in shares if share.size] or [1.0]) or 1.0
    y = Axis("share of its images", -top, top)
    parts = [*_grid(x, y, absolute=True)]
    for bars, share in zip(drawn, shares, strict=True):
        parts += _bars(y, bars, share)
    for number, (name, value) in enumerate(limits):
        place = float(_x(x, value))
        ends = f'y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        parts.append(f'<line class="limit" x1="{place:.1f}" x2="{place:.1f}" {ends}/>')
        parts.append(_text(place, TOP + 10 + 13 * number, name, "end" if place > WIDTH / 2 else "start", 3))
    return _svg(title, [*parts, *_legend([(bars.name, bars.style) for bars in drawn])])


# ---- parts


def _svg(title: str, parts: Sequence[str]) -> str:
    inner = "".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inner}</svg>"
    )


def _x(axis: Axis, values: ArrayLike) -> NDArray[np.float64]:
    return LEFT + axis.share(values) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, values: ArrayLike) -> NDArray[np.float64]:
    return HEIGHT - BOTTOM - axis.share(values) * (HEIGHT - TOP - BOTTOM)


def _grid(x: Axis, y: Axis, *, absolute: bool = False) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in x.ticks():
        place = float(_x(x, value))
        yield f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{bottom}"/>'
        yield _text(place, bottom + 15, f"{value:g}", "middle")
    for value in y.ticks():
        place = float(_y(y, value))
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{place:.1f}" y2="{place:.1f}"/>'
        shown = abs(value) if absolute else value
        yield _text(LEFT - 5, place + 4, f"{round(shown, 6):g}", "end")
    yield _text((LEFT + right) / 2, bottom + 32, x.label, "middle")
    middle = (TOP + bottom) / 2
    yield (
        f'<text class="label" text-anchor="middle" transform="translate(12 {middle:.0f}) rotate(-90)">'
        f"{escape(y.label)}</text>"
    )


def _text(x: float, y: float, text: str, anchor: str, shift: float = 0.0) -> str:
    moved = x - shift if anchor == "end" else x + shift
    return f'<text class="label" x="{moved:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _thinned(line: Line) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most MOST_POINTS of the points, the ends among them."""
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= MOST_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    return x[kept], y[kept]


def _points(x: Axis, y: Axis, across: NDArray[np.float64], up: NDArray[np.float64]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(_x(x, across), _y(y, up), strict=True))


def _mark(x: Axis, y: Axis, mark: LabelledPoint, number: int) -> Iterator[str]:
    px, py = float(_x(x, mark.x)), float(_y(y, mark.y))
    if mark.x_interval:
        low, high = _x(x, mark.x_interval)
        yield f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{py:.1f}" y2="{py:.1f}"/>'
    if mark.y_interval:
        low, high = _y(y, mark.y_interval)
        yield f'<line class="interval" x1="{px:.1f}" x2="{px:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
    yield f'<circle class="mark" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>'
    left = px > (LEFT + WIDTH - RIGHT) / 2
    high_up = py < TOP + 60
    place = py + (20 + 14 * number if high_up else -8 - 14 * number)
    yield _text(px, place, mark.name, "end" if left else "start", 8)


def _bars(y: Axis, bars: Bars, shares: NDArray[np.float64]) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / max(1, len(shares))
    axis = float(_y(y, 0.0))
    for index, (count, share) in enumerate(zip(bars.counts, shares, strict=True)):
        if not count:
            continue
        end = float(_y(y, share if bars.up else -share))
        height = max(1.0, abs(axis - end))
        top = axis - height if bars.up else axis
        yield (
            f'<rect class="bar {bars.style}" x="{LEFT + index * width:.1f}" y="{top:.1f}" '
            f'width="{max(1.0, width - 1):.1f}" height="{height:.1f}">'
            f"<title>{escape(bars.name)}: {count}</title></rect>"
        )


def _legend(entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    place = LEFT + 6.0
    for name, style in entries:
        yield (
            f'<line class="line {style}" x1="{place:.0f}" x2="{place + 18:.0f}" '
            f'y1="{HEIGHT - 12}" y2="{HEIGHT - 12}"/>'
        )
        yield _text(place + 22, HEIGHT - 8, name, "start")
        place += 34 + 6.2 * len(name)
