"""Text from records, experiment files and command lines, made safe to show."""

from __future__ import annotations

import re
from typing import Any

_BREAKS = re.compile(r"[^\S ]+")  # white space other than plain spaces
# What begins an escape, code, a table's cell, a formula, HTML, a link or its target; other marks only change the look.
_MARKDOWN = re.compile(r"[\\`|$]|<(?=[A-Za-z/!?])|(?<=\])[(:]")


def printable(text: str) -> str:
    r"""The text in one line, with every character that cannot be printed as its escape.

    Escape sequences, other control characters, marks that turn the direction of writing and lone surrogates become
    ``\x1b`` or ``\u202e`` in letters, so a terminal does not obey them and every encoding can write them.
    """
    flat = _BREAKS.sub(" ", text).strip()
    if flat.isprintable():
        return flat
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)


def in_markdown(text: str) -> str:
    """Plain text for Markdown, in one line: no HTML, no link, no code, no formula, no new cell."""
    return _MARKDOWN.sub(lambda match: "\\" + match[0], printable(text))


def shown(value: Any) -> str:
    """A value as one would type it, in one line, and no more of it than one can read."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = printable(text)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text):,} characters)"
