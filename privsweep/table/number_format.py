"""Numbers as papers print them: read ``"1:54"``, ``"77.2%"``, ``"N/A"``; write ours the same way."""

from __future__ import annotations

import re
from enum import Enum


class Unknown(Enum):
    """What is not known (a run is missing, a text is not a number), as against None: known to be N/A."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Number = float | None | Unknown

FORMAT = r"^(m:ss|\.\d[fge%])$"  # what a row may ask for
YES, NO = "Yes", "No"
NOT_AVAILABLE = frozenset({"N/A", "n/a", "NA", "-", "–", "—", "∞"})
_CLOCK = re.compile(r"(\d+):([0-5]\d(?:\.\d+)?)")
_PLAIN = re.compile(r"([+-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([KM%]?)(?:\s*±.*)?")
_VERDICT = re.compile(rf"({YES}|{NO})\d?")  # with the mark of a footnote
_FACTORS = {"": 1.0, "%": 1.0, "K": 1e3, "M": 1e6}


def parse(printed: str) -> Number:
    """The number behind a printed string: ``m:ss`` in seconds, ``%`` in points, K and M multiplied out.

    Yes is 1 and No is 0. None for N/A; UNKNOWN for a text that is no number.
    """
    text = printed.strip().replace("−", "-")
    if text in NOT_AVAILABLE:
        return None
    if verdict := _VERDICT.fullmatch(text):
        return float(verdict[1] == YES)
    if clock := _CLOCK.fullmatch(text):
        return 60 * int(clock[1]) + float(clock[2])
    if plain := _PLAIN.fullmatch(text):
        return float(plain[1].replace(",", "")) * _FACTORS[plain[2]]
    return UNKNOWN


def in_printed_unit(value: float, form: str | None) -> float:
    """A record's fraction becomes points where the row is printed in percent."""
    return 100 * value if form is not None and form.endswith("%") else value


def show(value: float | None, form: str | None, *, signed: bool = False) -> str:
    """A number in the printed unit as text; without a format three significant digits, integers whole.

    Clock times under ten seconds show a tenth, for ours are often shorter than a paper's.
    """
    if value is None:
        return "N/A"
    sign = "+" if signed and value >= 0 else ""
    if form == "m:ss":
        return ("-" if value < 0 else sign) + _clock(abs(value))
    size = abs(value)
    if form is not None:
        text = f"{value:{form[:-1]}f}%" if form.endswith("%") else f"{value:{form}}"
    elif size >= 1e6 or 0 < size < 1e-3:
        text = f"{value:.1e}"
    else:
        text = f"{value:.0f}" if size >= 100 else f"{value:.3g}"
    nothing = text.startswith("-") and not text.strip("-0.%")  # rounded away, and its sign with it
    return text[1:] if nothing else sign + text


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "inf"
    digits = 1 if round(seconds, 1) < 10 else 0
    minutes, rest = divmod(round(seconds, digits), 60)
    return f"{minutes:.0f}:{rest:0{4 if digits else 2}.{digits}f}"
