"""Output in any encoding: a sign that it does not have is written in those that it has."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper

_NAME = "privsweep.signs"
_SIGNS = {
    "±": "+-", "●": "*", "–": "-", "—": "-", "−": "-", "─": "-", "…": "...", "↓": "v", "↑": "^",
    "→": "->", "≤": "<=", "≥": ">=", "×": "x", "·": "*", "“": '"', "”": '"', "’": "'", "∞": "inf", "ε": "epsilon",
    "δ": "delta", "σ": "sigma", "μ": "u", "µ": "u", "ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e",
}  # fmt: skip


def any_encoding() -> None:
    """From now on whatever is printed can be: without it, one sign too many would end a command."""
    codecs.register_error(_NAME, _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    left = error.object[error.start : error.end]
    return "".join(_SIGNS.get(sign) or sign.encode("unicode_escape").decode() for sign in left), error.end
