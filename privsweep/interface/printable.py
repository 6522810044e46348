"""Text from records, experiment files and command lines, made safe to show."""

from __future__ import annotations

import re

_BREAKS = re.compile(r"[^\S ]+")  # white space other than plain spaces


def printable(text: str) -> str:
    r"""The text in one line, with every character that cannot be printed as its escape.

    Escape sequences, other control characters, marks that turn the direction of writing and lone surrogates become
    ``\x1b`` or ``\u202e`` in letters, so a terminal does not obey them and every encoding can write them.
    """
    flat = _BREAKS.sub(" ", text).strip()
    if flat.isprintable():
        return flat
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)
