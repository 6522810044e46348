"""The summary of an ad hoc sweep: one line for each combination of the varied values, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from privsweep.interface.utility import with_finals
from privsweep.report.in_words import sweep_in_words
from privsweep.report.markdown import pipe_table
from privsweep.report.table_csv import plain_cell
from privsweep.table.cells import aggregate
from privsweep.table.fill import Record
from privsweep.table.number_format import show

# Those of a sweep's metrics that its summary shows; the records hold the others.
MAIN = (
    *("mse", "psnr", "ssim", "asr", "recovered", "oracle_mse", "below_oracle", "diverged"),
    *("gradient_distance", "attack_accuracy", "auc"),
)


@dataclass(frozen=True)
class Summary:
    """Text for people (``head``, ``rows``) and numbers for programs (``frame``)."""

    head: list[str]
    keys: int  # of the head, how many were varied; they come first
    rows: list[list[str]]
    frame: pd.DataFrame  # a column for what was varied; <name>, <name>_std; runs, complete
    words: str  # in a sentence

    def markdown(self) -> str:
        return pipe_table(self.head, self.rows) + "\n"

    def csv(self) -> str:
        safe = self.frame.map(lambda value: plain_cell(value) if isinstance(value, str) else value)
        return safe.rename(columns=plain_cell).to_csv(index=False)


def summary(records: Sequence[Record], varied: Sequence[str]) -> Summary:
    """Mean ± sample standard deviation over seeds (and whatever else was not varied) of metrics and utility.

    ``varied``: the overridden keys, such as ``attack`` or ``model.width``; ``seed`` is what is averaged over.
    A combination with a failed run has no mean: it says how many runs there are.
    """
    keys = [key for key in varied if key != "seed"]
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(_varied(record, key) for key in keys), []).append(record)
    complete = [record for record in records if record["status"] == "complete"]
    names = [name for name in MAIN if any(name in record["metrics"] for record in complete)]
    utility = list(dict.fromkeys(name for record in complete for name in record["utility"]))
    seen = {id(record): {**record, "utility": with_finals(record["utility"])} for record in complete}
    rows: list[list[str]] = []
    frame: list[dict[str, Any]] = []
    for values, members in groups.items():
        done = [record for record in members if record["status"] == "complete"]
        runs = str(len(members)) if len(done) == len(members) else f"{len(done)} of {len(members)}"
        texts: list[str] = []
        numbers: dict[str, float | None] = {}
        for part, name in [("metrics", n) for n in names] + [("utility", n) for n in utility]:
            found = [seen[id(r)][part].get(name) for r in done if name in seen[id(r)][part]]
            text, mean, std = _over(found, len(members))
            texts.append(text)
            numbers |= {name: mean, f"{name}_std": std}
        rows.append([*values, *texts, runs])
        by_key = dict(zip(keys, values, strict=True))
        frame.append({**by_key, **numbers, "runs": len(members), "complete": len(done)})
    words = sweep_in_words(frame, keys)
    return Summary([*keys, *names, *utility, "runs"], len(keys), rows, pd.DataFrame(frame), words)


def _over(values: Sequence[float | None], wanted: int) -> tuple[str, float | None, float | None]:
    if len(values) < wanted:
        return "", None, None
    mean, std = aggregate(values, "mean")
    return show(mean, None) + ("" if std is None else f" ± {show(std, None)}"), mean, std


def _varied(record: Record, key: str) -> str:
    """The value of an overridden key: a group's choice, or a value of the configuration."""
    if key in record["choices"]:
        value = record["choices"][key]
    else:
        value = record["config"]
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else "" if value is None else str(value)
