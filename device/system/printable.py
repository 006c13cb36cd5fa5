"""Text from outside (file names, messages of libraries, payloads) as one line of a log or a list."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text as any log, terminal and JSON reader can take it: what cannot be printed is escaped."""
    return "".join(map(_escaped, text))


def one_line(text: str) -> str:
    """A text in one line, escaped but for bytes that are no UTF-8: a list of file names keeps those."""
    return "".join(c if "\udc80" <= c <= "\udcff" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
