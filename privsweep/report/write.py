"""A filled table to files (Markdown, LaTeX, CSV, PNG, its figure) and to the terminal."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from privsweep.report.figure.draw import write_figure
from privsweep.report.latex import latex
from privsweep.report.markdown import markdown
from privsweep.report.table_png import table_picture
from privsweep.report.table_text import IN_PRINT, MOST, VERDICTS, Band, bands, label, warning
from privsweep.store.atomic import whole_file
from privsweep.table.fill import FilledTable
from privsweep.table.number_format import UNKNOWN

COLUMNS = (
    "table",
    "scale",
    "row",
    "column",
    "kind",
    "seed",
    "state",
    "value",
    "std",
    "n",
    "printed",
    "difference",
)
_COLUMN = 15  # characters that a column takes in a terminal
_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}


def write(filled: FilledTable, output_dir: Path) -> list[Path]:
    """Writes ``paper/<experiment>.{md,tex,csv,png}`` below ``output_dir``, whole or not at all, and
    ``<experiment>.figure.png`` where the experiment has a figure.

    The scale stands in the name unless it is ``paper``, and so do overrides that change the numbers: a
    variant never takes the place of the paper's table. ``smoke`` goes to ``smoke/``.
    """
    stem = path_of(filled, output_dir)
    text: dict[str, Callable[[FilledTable], str]] = {"md": markdown, "tex": latex, "csv": tidy}
    paths = []
    for suffix, render in text.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        with whole_file(path) as draft:
            draft.write_text(render(filled), encoding="utf-8")
        paths.append(path)
    paths.append(table_picture(stem.with_name(f"{stem.name}.png"), filled))
    if filled.table.figure is not None:
        paths.append(write_figure(stem.with_name(f"{stem.name}.figure.png"), filled))
    return paths


def path_of(filled: FilledTable, output_dir: Path) -> Path:
    """Where a table is filed, without the suffix."""
    folder = output_dir / ("smoke" if filled.scale == "smoke" else "paper")
    name = filled.table.experiment + (".quick" if filled.scale == "quick" else "")
    if filled.overrides:
        changed = sorted(filled.overrides)
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", ".".join(changed)).strip("-.")
        digest = hashlib.sha256("\n".join(changed).encode()).hexdigest()[:6]
        name += f".{slug[:40]}-{digest}"
    return folder / name


def tidy(filled: FilledTable) -> str:
    """CSV, one line a number: ``kind`` is ``seed`` for single runs, ``mean`` or ``median`` over all seeds.

    N/A (never reached) is written so; an empty value is not known yet.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for (row, column), cell in filled.cells.items():
        about = {"table": filled.table.experiment, "scale": filled.scale, "row": row, "column": column,
                 "printed": cell.printed or ""}  # fmt: skip
        for seed in filled.table.seeds if cell.wanted else ():
            known = seed in cell.values
            state = "complete" if known else "failed" if seed in cell.failed else "missing"
            writer.writerow({**about, "kind": "seed", "seed": seed, "state": state,
                             "value": _number(cell.values[seed]) if known else ""})  # fmt: skip
        writer.writerow({
            **about, "kind": filled.table.source(row, column).aggregate, "state": cell.state,
            "n": len(cell.values),
            "value": "" if cell.value is UNKNOWN else _number(cell.value),
            "std": "" if cell.std is None else _number(cell.std),
            "difference": "" if cell.difference is None else _number(cell.difference),
        })  # fmt: skip
    return out.getvalue()


def terminal(filled: FilledTable, width: int) -> RenderableType:
    """For ``rich.print`` on a terminal ``width`` characters wide: the table, and below it the findings."""
    parts: list[RenderableType] = [Text(filled.table.title, style="italic")]
    if remark := warning(filled):
        parts.insert(0, Text(remark, style="bold yellow"))
    longest = max(len(label(row)) for row in filled.table.rows.values())
    room = max(1, (width - min(longest, width // 3)) // _COLUMN)
    parts += map(_printed, bands(filled, min(room, MOST)))
    for verdict in filled.verdicts:
        judged = Text(f"{VERDICTS[verdict.holds]:>9}", style=_STYLES[verdict.holds])
        judged.append(f"  {verdict.finding.claim} ", style="default")
        judged.append(f"(in print: {IN_PRINT[verdict.in_print]})", style="dim")
        parts.append(judged)
    parts.extend(Text(problem, style="red") for problem in filled.problems)
    parts.append(Text(f"{filled.complete} of {filled.jobs} runs complete", style="dim"))
    return Group(*parts)


def _printed(band: Band) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD)
    for i, text in enumerate(band.header):
        table.add_column(Text(text), justify="left" if i == 0 else "right", overflow="fold")
    for group in band.groups:
        for i, line in enumerate(group):
            dim = "" if line.kind == "ours" else "dim"
            name = Text(line.label if line.kind == "ours" else f"  {line.label}", style=dim)
            texts = [Text(t, style="yellow" if f else dim) for t, f in zip(line.texts, line.faint, strict=True)]
            table.add_row(name, *texts, end_section=i == len(group) - 1)
    return table


def frame_csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([head, *rows])
    return out.getvalue()


def _number(value: Any) -> str:
    return "N/A" if value is None else f"{value:.10g}"
