"""The table of how fast everything is in docs/speed.md, from what ``benchmark.py`` told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.contest import Case

BEGIN, END = "<!-- speed: written by scripts/benchmark.py --write -->\n", "<!-- end of speed -->"
HEAD = "| case | ours, or the baseline | one | way | ours takes | times as fast | floor |\n"
RULE = "|---|---|---|---|--:|--:|--:|\n"


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits: 1.23 ms."""
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3)) if seconds >= u[1]), ("us", 1e-6))
    return f"{seconds / size:.3g} {unit}"


def speed_table(told: Mapping[str, Any], cases: Mapping[str, Case]) -> str:
    """Markdown: where it was measured, then a line for each way of every case."""
    known = told["environment"]
    threads, torch = known["threads"], known["versions"]["torch"]
    where = (
        f"{known['device_name']}, {threads} thread{'s' * (threads > 1)}, load {told['load']:.1f} at the beginning, "
        f"PyTorch {torch}, commit {known['commit']}, {known['date'][:10]}; medians over the turns, and the floor as a "
        "share of the time that ours takes."
    )
    lines = [
        line
        for name, found in groupby(told["results"], key=lambda result: result["case"])
        for line in _lines(name, cases[name].about, list(found))
    ]
    return f"{where}\n\n{HEAD}{RULE}" + "\n".join(lines) + "\n"


def _lines(name: str, about: str, results: Sequence[Mapping[str, Any]]) -> list[str]:
    named = [f"`{name}`", about, results[0]["unit"]]
    lines = []
    for r in results:
        floor = "–" if r["floor"] is None else f"{r['floor'] / r['ours']:.0%}"
        cells = [
            *(named if r is results[0] else [""] * 3),
            r["variant"],
            duration(r["ours"]),
            f"{r['ratio']:.3g}",
            floor,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def put_into(page: Path, table: str) -> None:
    """In the place of the one that is there. Raises ValueError where there is no place for it."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: has no place for the table")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
