"""Curves of a run for the page: few points, few digits; what cannot be read is left out."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from privsweep.interface.printable import printable

VICTIMS = 4  # of an attack's curve
_SENTENCES = 4
_POINTS = 48
_LONGEST = 400  # characters of a sentence

Curves = dict[str, Any]  # "x": numbers, "lines": [[name, numbers], ...], of an objective "y": its name
Columns = dict[str, tuple[str, ...]]
Rows = Iterator[list[str]]


def objective(folder: Path) -> Curves | None:
    """The attack's first objective by iteration, a line for each of the first victims."""
    columns = _read(folder / "curve.csv", _first_victims)
    name = next((c for c in columns if c not in ("iteration", "victim")), None)
    if name is None or not {"iteration", "victim"} <= columns.keys():
        return None
    victims = list(dict.fromkeys(columns["victim"]))[:VICTIMS]
    places = [[i for i, v in enumerate(columns["victim"]) if v == victim] for victim in victims]
    places = [place for place in places if len(place) == len(places[0])]
    if not places:
        return None
    kept = _thinned(len(places[0]))
    lines = [[f"victim {n + 1}", numbers(columns[name][p[i]] for i in kept)] for n, p in enumerate(places)]
    return {"y": printable(name), "x": numbers(columns["iteration"][places[0][i]] for i in kept), "lines": lines}


def training(folder: Path) -> Curves | None:
    """Accuracies by round, those that were measured."""
    columns = _read(folder / "training.csv")
    shown = [c for c in ("train_accuracy", "test_accuracy") if c in columns]
    measured = [i for i, texts in enumerate(zip(*(columns[c] for c in shown), strict=True)) if any(texts)]
    if "round" not in columns or len(measured) < 2:
        return None
    kept = [measured[i] for i in _thinned(len(measured))]
    return {
        "x": numbers(columns["round"][i] for i in kept),
        "lines": [[c.replace("_", " "), numbers(columns[c][i] for i in kept)] for c in shown],
    }


def roc(folder: Path) -> Curves | None:
    """True by false positive rate."""
    columns = _read(folder / "roc.csv")
    false, true = (columns.get(f"{kind}_positive_rate", ()) for kind in ("false", "true"))
    if len(false) < 2 or not true:
        return None
    kept = _thinned(len(false))
    return {"x": numbers(false[i] for i in kept), "lines": [["true positive rate", numbers(true[i] for i in kept)]]}


def sentences(folder: Path) -> list[dict[str, str]]:
    """The first sentences: truth, guess and what else there is."""
    columns = _read(folder / "sentences.csv", lambda _, rows: islice(rows, _SENTENCES))
    columns.pop("victim", None)
    names = [printable(name) for name in columns]
    return [
        dict(zip(names, (printable(text)[:_LONGEST] for text in row), strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def numbers(texts: Iterable[Any]) -> list[float | None]:
    """Four digits each; None for what is no finite number."""
    return [_number(text) for text in texts]


def short(value: float, digits: int) -> float | int | None:
    """As few characters as ``digits`` significant digits take; None for what is not finite."""
    if not math.isfinite(value):
        return None
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _number(text: Any) -> float | None:
    try:
        return short(float(text), 4)
    except ValueError:
        return None


def _thinned(count: int) -> Sequence[int]:
    """Places of at most ``_POINTS`` of ``count`` points, the first and the last among them."""
    if count <= _POINTS:
        return range(count)
    return [round(i * (count - 1) / (_POINTS - 1)) for i in range(_POINTS)]


def _first_victims(head: list[str], rows: Rows) -> Rows:
    """A curve's rows up to those of one victim too many: they stand victim by victim, and are many."""
    place, seen = head.index("victim"), set[str]()
    for row in rows:
        seen.update(row[place : place + 1])
        if len(seen) > VICTIMS:
            return
        yield row


def _read(path: Path, wanted: Callable[[list[str], Rows], Rows] = lambda _, rows: rows) -> Columns:
    """The columns, of the ``wanted`` rows; none for a file that is not there, or is no table."""
    try:
        with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
            lines = csv.reader(file)
            head = next(lines, [])
            return dict(zip(head, zip(*wanted(head, lines), strict=True), strict=True))
    except (OSError, ValueError, csv.Error):  # a ValueError: without a column, or rows of different lengths
        return {}
