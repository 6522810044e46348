"""Writes a filled table to files: Markdown, LaTeX, CSV, PNG, and its figure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from pathlib import Path

from privsweep.report.figure.kinds import write_figure
from privsweep.report.figure.pictures import lacks_pictures
from privsweep.report.latex import latex
from privsweep.report.markdown import markdown
from privsweep.report.table_csv import table_csv
from privsweep.report.table_png import table_png
from privsweep.store.atomic import whole_file
from privsweep.store.spoilt import say
from privsweep.table.fill import FilledTable

TEXT_FORMATS: dict[str, Callable[[FilledTable], str]] = {"md": markdown, "tex": latex, "csv": table_csv}


def write(filled: FilledTable, output_dir: Path, published: Collection[str] = ()) -> list[Path]:
    """Writes ``paper/<experiment>.{md,tex,csv,png}`` below ``output_dir``, whole or not at all, and
    ``<experiment>.figure.png`` where the experiment has a figure; one of pictures stays where runs have lost theirs.

    The scale stands in the name unless it is ``paper``, and so do overrides that change the numbers: a
    variant never takes the place of the paper's table, unless they are those under which that is ``published``.
    ``smoke`` goes to ``smoke/``.
    """
    stem = path_of(filled, output_dir, published)
    paths = []
    for suffix, render in TEXT_FORMATS.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        with whole_file(path) as draft:
            draft.write_text(render(filled), encoding="utf-8")
        paths.append(path)
    paths.append(table_png(stem.with_name(f"{stem.name}.png"), filled))
    if filled.table.figure is not None:
        path = stem.with_name(f"{stem.name}.figure.png")
        if path.exists() and lacks_pictures(filled):
            say(f"{path}: stays as it is, for runs behind it are stored without pictures; unpack those with pictures")
        else:
            paths.append(write_figure(path, filled))
    return paths


def name_at(scale: str, name: str) -> str:
    """The name of a table's files at a scale."""
    return name if scale in ("paper", "smoke") else f"{name}.{scale}"


def path_of(filled: FilledTable, output_dir: Path, published: Collection[str] = ()) -> Path:
    """Where ``write`` files a table, without the suffix. Raises UserError for a name that leads out of that folder."""
    folder = output_dir / ("smoke" if filled.scale == "smoke" else "paper")
    path = filled.table.path
    name = name_at(filled.scale, path.name)
    if changed := sorted({*filled.overrides} - {*published}):
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", ".".join(changed)).strip("-.")
        digest = hashlib.sha256("\n".join(changed).encode(errors="backslashreplace")).hexdigest()[:6]
        name += f".{slug[:40]}-{digest}"
    return folder / path.with_name(name)
