"""The README's table of how fast everything is, from what ``benchmark.py`` told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.contest import Case

BEGIN, END = "<!-- speed: written by scripts/benchmark.py --readme -->\n", "<!-- end of speed -->"
HEAD = "| case | the baseline, or what it is measured against | one | ours takes | times as fast | floor |\n"
RULE = "|---|---|---|---|---|---|\n"


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits: 1.23 ms."""
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3)) if seconds >= u[1]), ("us", 1e-6))
    return f"{seconds / size:.3g} {unit}"


def speed_table(told: Mapping[str, Any], cases: Mapping[str, Case]) -> str:
    """Markdown: where it was measured, then a line a case, with all its ways."""
    known = told["environment"]
    threads, torch = known["threads"], known["versions"]["torch"]
    where = (
        f"{known['device_name']}, {threads} thread{'s' * (threads > 1)}, load {told['load']:.1f} at the beginning, "
        f"PyTorch {torch}, commit {known['commit']}, {known['date'][:10]}; medians over the turns, and the floor as a "
        "share of the time that ours takes."
    )
    lines = [
        _line(name, cases[name].about, list(found))
        for name, found in groupby(told["results"], key=lambda result: result["case"])
    ]
    return f"{where}\n\n{HEAD}{RULE}" + "\n".join(lines) + "\n"


def _line(name: str, about: str, results: Sequence[Mapping[str, Any]]) -> str:
    ways = [(f"{r['variant']}: " if r["variant"] else "", r) for r in results]
    took = ", ".join(f"{way}{duration(r['ours'])}" for way, r in ways)
    faster = ", ".join(f"{way}{r['ratio']:.3g}" for way, r in ways)
    floor = ", ".join(f"{r['floor'] / r['ours']:.0%}" for r in results if r["floor"] is not None)
    return f"| `{name}` | {about} | {results[0]['unit']} | {took} | {faster} | {floor or '–'} |"


def put_into(readme: Path, table: str) -> None:
    """In the place of the one that is there. Raises ValueError where there is no place for it."""
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme}: has no place for the table")
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
