"""Pieces of a report's page as HTML text. What comes from data is escaped here, whatever it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

FILE = "report.html"  # of a bundle
TEMPLATE = Path(__file__).with_name("report.html")


class Markup(str):
    """HTML that was made here, and is not escaped again."""

    __slots__ = ()


def page(title: str, subtitle: str, sections: Iterable[Markup]) -> bytes:
    """The whole file."""
    found = list(sections)
    text = Template(TEMPLATE.read_text("utf-8")).substitute(
        title=escape(title), subtitle=escape(subtitle), content="\n".join(found)
    )
    return text.encode("utf-8", "replace")  # a file's name may hold what is not text


def section(title: str, *parts: Markup, folded: bool = False) -> Markup:
    """A heading and what stands under it; nothing where nothing does.

    `folded`: what stands there shows after a click, and on paper.
    """
    content = "\n".join(part for part in parts if part)
    if not content:
        return Markup("")
    head = f"<h2>{escape(title)}</h2>"
    if folded:
        return Markup(f"<section><details><summary>{head}</summary>\n{content}\n</details></section>")
    return Markup(f"<section>{head}\n{content}\n</section>")


def heading(text: str) -> Markup:
    """Inside of a section."""
    return Markup(f"<h3>{escape(text)}</h3>")


def paragraph(text: str) -> Markup:
    """Plain text."""
    return Markup(f"<p>{escape(text)}</p>")


def row_of(*parts: str) -> Markup:
    """Side by side where the page is wide enough."""
    return Markup(f'<div class="row">{"".join(parts)}</div>')


def figure(inner: str, caption: str) -> Markup:
    """A chart or a picture with its words."""
    return Markup(f"<figure>{inner}<figcaption>{escape(caption)}</figcaption></figure>")


def picture(encoded: str, alternative: str, width: int, height: int) -> Markup:
    """A picture inside of the page, as wide as the page after a click; `encoded`: a JPEG in base64."""
    return Markup(
        f'<details class="picture"><summary><img src="data:image/jpeg;base64,{encoded}" '
        f'alt="{escape(alternative)}" width="{width}" height="{height}"></summary></details>'
    )


def tiles(values: Mapping[str, tuple[object, str]]) -> Markup:
    """{what: (value, a note)} as large figures."""
    found = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{shown(value)}</b><span>{escape(note)}</span></dd></div>"
        for name, (value, note) in values.items()
    )
    return Markup(f'<dl class="tiles">{found}</dl>')


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str,
    marked: Collection[int] = (),
    *,
    long: bool = False,
) -> Markup:
    """A table whose first column names the row; `marked`: the numbers of rows that stand out.

    `long`: whether its cells hold what must be broken anywhere, such as digests.
    """
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for number, (first, *others) in enumerate(rows):
        cells = "".join(f"<td>{shown(value)}</td>" for value in others)
        chosen = ' class="marked"' if number in marked else ""
        lines.append(f'<tr{chosen}><th scope="row">{shown(first)}</th>{cells}</tr>')
    if not lines:
        return Markup("")
    kind = ' class="long"' if long else ""
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{kind}><caption>{escape(caption)}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def shown(value: object) -> str:
    """A cell's text, escaped: numbers short, nothing as a dash."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(key))} {shown(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(part) for part in value)
    return escape(str(value))
