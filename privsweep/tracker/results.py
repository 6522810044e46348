"""A stored run as trackers take it: parameters, numbers, curves and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from privsweep.store.curve_file import mean_curve

Curve = list[tuple[int, float]]  # (step, value)


@dataclass(frozen=True)
class Results:
    """What there is to tell of a run."""

    name: str  # in a few words, with the signature
    signature: str
    params: Mapping[str, str]  # dotted key of the configuration, and of the choices: value
    numbers: Mapping[str, float]  # finite ones, such as metrics.ssim
    curves: Mapping[str, Curve]  # training.train_accuracy by round; attack.<objective> by iteration, means over victims
    pictures: list[Path]


def results_of(record: Mapping[str, Any], folder: Path) -> Results:
    """Reads ``folder``; what is not there is left out."""
    choices = {name: _text(value) for name, value in record["choices"].items()}
    sign = str(record["signature"])
    words = (choices.get(name, "") for name in ("dataset", "model", "fl_setting", "attack", "defense"))
    numbers = {
        f"{part}.{name}": float(value)
        for part in ("metrics", "utility", "seconds")
        for name, value in record[part].items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    spent = {
        f"privacy.{name}.{k}": float(v)
        for name, budget in record["privacy"].items()
        for k, v in budget.items()
        if k != "covers"
    }
    return Results(
        name=" ".join([*(word for word in words if word), sign]),
        signature=sign,
        params={**choices, "scale": str(record["scale"]), **dict(_flat(record["config"], ""))},
        numbers=numbers | {name: value for name, value in spent.items() if math.isfinite(value)},
        curves=dict(_curves(folder)),
        pictures=sorted(folder.glob("*.png")),
    )


def _flat(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, _text(node)


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _curves(folder: Path) -> Iterator[tuple[str, Curve]]:
    means = {}
    if (folder / "training.csv").is_file():
        training = pd.read_csv(folder / "training.csv")
        means["training"] = training.groupby(training.columns[0]).mean(numeric_only=True)
    if (folder / "curve.csv").is_file():
        means["attack"] = mean_curve(folder / "curve.csv")
    for prefix, frame in means.items():
        for name, column in frame.items():
            finite = column[column.map(math.isfinite)]
            yield f"{prefix}.{name}", [(int(at), float(value)) for at, value in finite.items()]
