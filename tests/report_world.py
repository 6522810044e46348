"""A small table with hostile strings in it, records that fill it, and the table filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.significance import RULE
from privsweep.table.spec import Table

HOSTILE = "a|b & 50% <script>alert(1)</script> $x_{1}$ \\input{x} # [bold] ~^"


def record(seed: int, ssim: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "signature": f"{seed:012x}",
        "status": "complete",
        "scale": "quick",
        "config": {"seed": seed, "model": {"width": 12}, "attack": {"iterations": 20}},
        "choices": {"attack": "dlg", "dataset": "digits", "model": "lenet", "fl_setting": "fedavg", "defense": []},
        "metrics": {"ssim": ssim, "mse": 0.25},
        "utility": {"test_accuracy": 0.5},
        "seconds": {"per_victim": 1.5},
        "environment": {"device": "cpu", "date": f"2025-01-0{seed + 1}", "commit": "abc"},
        **changes,
    }


def varied(records: Sequence[dict[str, Any]], *keys: str) -> list[dict[str, str]]:
    """What was typed for each of them."""
    return [{key: typed(record, key) for key in keys} for record in records]


def typed(record: dict[str, Any], key: str) -> str:
    choices, group, name = record["choices"], *key.partition(".")[::2]
    chosen = choices[key] if key in choices else record["config"].get(group)
    value = chosen[name] if name else chosen
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)


# Notes of every sort: the table's, a row's (in table()), a finding's and the rule of a comparison.
NOTED: dict[str, Any] = {
    "notes": ["The weights are untrained.", {"quick": "Little is learnt."}],
    "rows": {
        "ssim": {"label": "SSIM", "metric": "ssim", "better": "higher", "note": "of pixels"},
        "again": {"label": "SSIM again", "metric": "ssim", "better": "higher"},
        "weaker": {"label": "Weaker?", "weakened": {"base": "ssim", "adapted": "again"}},
    },
    "findings": [
        {"id": "f1", "claim": "One leaks", "check": "v('ssim', 'one') > 0.4", "holds_in_print": True,
         "note": "0.4 is our bound"},
    ],
}  # fmt: skip
NOTES = ("The weights are untrained.", "SSIM: of pixels", "0.4 is our bound", RULE)


def table(**changes: Any) -> Table:
    config = {
        "title": HOSTILE,
        "place": "section 5",
        "rows": {"ssim": {"label": HOSTILE, "metric": "ssim", "format": ".2f", "better": "higher", "note": "a note"}},
        "columns": {
            "one": {"label": "One", "overrides": ["model=lenet"]},
            "two": {"label": "Two", "overrides": ["model=alexnet"]},
        },
        "seeds": [0, 1],
        "printed": {"ssim": {"one": "0.5"}},
        "findings": [
            {"id": "f1", "claim": "One leaks", "check": "v('ssim', 'one') > 0.4", "holds_in_print": True},
            {
                "id": "f2",
                "claim": "One hides",
                "check": "v('ssim', 'one') < 0.4",
                "holds_in_print": False,
                "explained": {"because": "two leaks less", "check": "v('ssim', 'one') > 0.3"},
            },
            {"id": "f3", "claim": "Two leaks", "check": "v('ssim', 'two') > 0.4", "holds_in_print": None},
        ],
        **changes,
    }
    return Table.from_config(config, "zen/table1")


def lay(scale: str = "paper", overrides: tuple[str, ...] = (), **changes: Any) -> FilledTable:
    records = {"one-s0": record(0, 0.69), "one-s1": record(1, 0.71), "two-s0": record(0, 0.1), "two-s1": None}
    return fill_table(table(**changes), records, scale, overrides)


def wide(columns: int, values: Sequence[float] = (0.6, 0.6), **changes: Any) -> FilledTable:
    labels = {f"c{i}": {"label": f"Number {i:02d}", "overrides": [f"model.width={i}"]} for i in range(columns)}
    many = table(title="Wide", columns=labels, findings=[], printed={"ssim": {"c0": "0.5"}}, **changes)
    records = {f"c{i}-s{s}": record(s, value) for i in range(columns) for s, value in enumerate(values)}
    return fill_table(many, records, "paper")
