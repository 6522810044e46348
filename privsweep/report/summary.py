"""The summary of an ad hoc sweep: one line for each combination of the varied values, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pandas as pd

from privsweep.interface.utility import with_finals
from privsweep.report.in_words import CHANCE, HEADLINES, sweep_in_words
from privsweep.report.markdown import pipe_table
from privsweep.report.table_csv import frame_csv
from privsweep.table.cells import aggregate
from privsweep.table.number_format import UNKNOWN, Number, show
from privsweep.table.readings import Record, look_up

# Those of a sweep's metrics that its summary shows; the records hold the others.
MAIN = (
    *("mse", "psnr", "ssim", "asr", "recovered", "oracle_mse", "below_oracle", "diverged"),
    *("gradient_distance", "attack_accuracy", "auc", "empirical_epsilon", "property_accuracy", "property_auc"),
)


@dataclass(frozen=True)
class Summary:
    """Text for people (``head``, ``rows``) and numbers for programs (``frame``)."""

    head: list[str]
    keys: int  # of the head, how many were varied; they come first
    rows: list[list[str]]
    frame: pd.DataFrame  # a column for what was varied; <name>, <name>_std; runs, complete
    words: str  # in a sentence
    problems: Sequence[str]  # of what was asked for, one line each

    def markdown(self) -> str:
        return pipe_table(self.head, self.rows) + "\n"

    def csv(self) -> str:
        return frame_csv(self.frame)


def summary(
    records: Sequence[Record], varied: Sequence[Mapping[str, str]], chosen: Sequence[str] | None = None
) -> Summary:
    """Mean ± sample standard deviation over seeds of metrics and utility.

    ``varied``: what was typed for each, by swept key such as ``attack`` or ``model.width``, for a record does not
    tell all of it (a path, a scale, the memory of an attack); ``seed`` is what is averaged over.
    ``chosen``: the numbers to show, in their order, by names of metrics, of utility, or paths such as
    ``seconds.attack``; None: the main metrics and the utility.
    A combination with a failed run has no mean: it says how many runs there are.
    """
    keys = [key for key in (varied[0] if varied else ()) if key != "seed"]
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record, typed in zip(records, varied, strict=True):
        groups.setdefault(tuple(typed[key] for key in keys), []).append(record)
    complete = [record for record in records if record["status"] == "complete"]
    asked = _main(complete) if chosen is None else {name: name for name in chosen}
    paths = {name: path for name, path in asked.items() if not complete or _known(path, complete)}
    rows: list[list[str]] = []
    frame: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    for values, members in groups.items():
        done = [record for record in members if record["status"] == "complete"]
        runs = str(len(members)) if len(done) == len(members) else f"{len(done)} of {len(members)}"
        over = {name: _over([number_of(record, path) for record in done], len(members)) for name, path in paths.items()}
        told_by = (*HEADLINES, CHANCE)
        means = {name: _over([number_of(record, name) for record in done], len(members))[1] for name in told_by}
        rows.append([*values, *(text for text, _, _ in over.values()), runs])
        by_key, counts = dict(zip(keys, values, strict=True)), {"runs": len(members), "complete": len(done)}
        numbers: dict[str, float | None] = {}
        for name, (_, mean, std) in over.items():
            numbers |= {name: mean, f"{name}_std": std}
        frame.append({**by_key, **numbers, **counts})
        told.append({**by_key, **means, **counts})
    problems = _problems([name for name in asked if name not in paths], complete)
    words = sweep_in_words(told, keys)
    return Summary([*keys, *paths, "runs"], len(keys), rows, pd.DataFrame(frame), words, problems)


def _main(complete: Sequence[Record]) -> dict[str, str]:
    """Name -> path of what is shown where nothing was chosen."""
    metrics = [name for name in MAIN if any(name in record["metrics"] for record in complete)]
    utility = dict.fromkeys(name for record in complete for name in record["utility"])
    return {**{name: name for name in metrics}, **{name: f"utility.{name}" for name in utility}}


def number_of(record: Record, name: str) -> Number:
    """Of the metrics, else of the utility, or at the end of a path."""
    found = look_up(record, name)
    return look_up(record, f"utility.{name}") if found is UNKNOWN and "." not in name else found


def _over(values: Sequence[Number], wanted: int) -> tuple[str, float | None, float | None]:
    known = [value for value in values if value is not UNKNOWN]
    if len(known) < wanted:
        return "", None, None
    mean, std = aggregate(known, "mean")
    return show(mean, None) + ("" if std is None else f" ± {show(std, None)}"), mean, std


def _known(path: str, complete: Sequence[Record]) -> bool:
    return any(number_of(record, path) is not UNKNOWN for record in complete)


def _problems(lacking: Sequence[str], complete: Sequence[Record]) -> list[str]:
    """A line for each name that no run has a number of."""
    both = [{**record["metrics"], **with_finals(record["utility"])} for record in complete]
    names = list(dict.fromkeys(name for numbers in both for name in numbers))
    timed = dict.fromkeys(f"seconds.{name}" for record in complete for name in record["seconds"])
    there = ", ".join(name for name in names if not name.endswith(("_median", "_low", "_high")))
    found = {name: get_close_matches(name, [*names, *timed], 1) for name in lacking}
    return [
        f"summary=[{name}]: no run has a number of that name; "
        + (f"did you mean {near[0]}?" if near else f"there are {there}")
        for name, near in found.items()
    ]
