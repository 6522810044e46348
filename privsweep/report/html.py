"""One HTML page of tables and runs that needs nothing else: style and pictures inside, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from privsweep.interface.printable import printable
from privsweep.report.figure.kinds import figure_png
from privsweep.report.table_text import LEGEND, table_text
from privsweep.table.fill import FilledTable, Record
from privsweep.table.number_format import show

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_PICTURES = ("reconstructions.png", "curve.png", "roc.png")


def page(
    records: Sequence[Record], tables: Sequence[FilledTable], refused: Sequence[str], folder: Callable[[str], Path]
) -> str:
    """The page; ``folder`` maps a signature to the folder with the run's pictures.

    ``refused``: tables that could not be laid out, a line each.
    """
    environment = jinja2.Environment(
        autoescape=True, finalize=_safe, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    newest = sorted(records, key=lambda r: str(r.get("environment", {}).get("date", "")), reverse=True)
    return template.render(
        tables=[_table(filled) for filled in tables],
        refused=refused,
        runs=[_run(record, folder(record["signature"])) for record in newest],
        legend=LEGEND,
    )


def _safe(value: Any) -> Any:
    """Every string of the template goes through here, and then is escaped."""
    return printable(value) if type(value) is str else value


def _table(filled: FilledTable) -> dict[str, Any]:
    return {
        "id": filled.table.experiment + ("" if filled.scale == "paper" else f" ({filled.scale})"),
        "text": table_text(filled),
        "figure": None if (drawn := figure_png(filled)) is None else _source(drawn),
    }


def _run(record: Record, folder: Path) -> dict[str, Any]:
    choices = record.get("choices", {})
    shown = ("attack", "dataset", "model", "fl_setting")
    defence = "+".join(choices.get("defense") or ()) or "no defence"
    return {
        "signature": record["signature"],
        "title": ", ".join([*(str(choices.get(group, "?")) for group in shown), defence]),
        "about": f"seed {record.get('config', {}).get('seed', '?')}, scale {record.get('scale', '?')}",
        "date": record.get("environment", {}).get("date", ""),
        "numbers": [
            (name, [(key, _text(value)) for key, value in record.get(name, {}).items()])
            for name in ("metrics", "utility", "seconds", "environment")
            if record.get(name)
        ],
        "config": _flat(record.get("config", {})),
        "pictures": [(name, _inline(folder / name)) for name in _PICTURES if (folder / name).is_file()],
    }


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return show(value, None) if number else str(value)


def _flat(node: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            out.extend(_flat(value, f"{path}{key}."))
        else:
            out.append((f"{path}{key}", str(value)))
    return out


def _inline(path: Path) -> str:
    return _source(path.read_bytes())


def _source(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
