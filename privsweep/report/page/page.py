"""One HTML page of tables and runs that needs nothing else: style, script, data and pictures inside.

Its policy allows this one style and this one script, by their hashes, and pictures inside the page. The script gets all
strings as JSON and makes elements of them, never markup; where the browser knows trusted types it could not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from privsweep.interface.keys import finding
from privsweep.interface.printable import printable
from privsweep.report.page.published import Published
from privsweep.report.page.runs import Command, Lookup, payload
from privsweep.report.table_text import LEGEND, OF_PRINTED
from privsweep.table.fill import Record

_HERE = Path(__file__).parent
_SCRIPTS = ("elements", "data", "bound", "charts", "filter", "details", "list", "compare", "tradeoff", "main")
_OPEN = 3  # tables of the store's own runs up to which all lie open


@dataclass(frozen=True)
class UnderWay:
    """A run that is in progress."""

    title: str
    cell: str  # where it stands in a sweep, such as "zen/table1 lenet-s0"; empty: in none
    phase: str
    done: int
    total: int  # 0: not known
    lasting: str  # such as "3 min"
    where: str


@dataclass(frozen=True)
class Contents:
    """All that the page shows."""

    records: Sequence[Record]  # complete and failed
    tables: Sequence[Published]
    running: Sequence[UnderWay]
    experiments: Sequence[str]  # all tables that there are
    root: str  # the output folder, as it was named
    config_dir: str | None  # where else choices were found

    @property
    def own(self) -> list[str]:
        """What a command needs to find these choices."""
        return finding(self.config_dir)


def page(contents: Contents, folder: Lookup, command: Command) -> str:
    """``folder``: signature -> the folder with a run's files; ``command``: record -> what makes the run again."""
    style, script = _read("style.css"), "".join(_read(f"{name}.js") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    data = payload(contents.records, folder, command) | {"tables": _behind(contents.tables)}
    signatures = {str(record["signature"]) for record in contents.records}
    here = [table for table in contents.tables if table.behind and table.behind & signatures]
    elsewhere = [table for table in contents.tables if table not in here]
    environment = jinja2.Environment(
        autoescape=True, finalize=_safe, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read("page.html.j2")).render(
        style=style, style_hash=_hash(style), script=script, script_hash=_hash(script), data=_json(data),
        parts=[("From runs of this store", here), ("Laid out before", elsewhere)],
        open=len(here) <= _OPEN, here=len(here), tables=contents.tables, waiting=_waiting(contents),
        never=_never(contents), runs=data["runs"], running=contents.running,
        failed=sum(run["status"] != "complete" for run in data["runs"]),
        root=contents.root, one=shlex.join(["privsweep", *contents.own, "experiment=NAME"]),
        legend=LEGEND + OF_PRINTED, made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip


def _safe(value: Any) -> Any:
    """Every string of the template goes through here, and then is escaped."""
    return printable(value) if type(value) is str else value


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(data: Mapping[str, Any]) -> str:
    """JSON that no parser of HTML ends early."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _behind(tables: Sequence[Published]) -> dict[str, list[str]]:
    """Signature -> the tables that its numbers stand in."""
    found: dict[str, list[str]] = {}
    for table in tables:
        for signature in sorted(table.behind or ()):
            found.setdefault(printable(signature), []).append(printable(table.name))
    return found


def _waiting(contents: Contents) -> list[tuple[str, int, str]]:
    """Experiments with stored runs that stand in no table of it, how many they are, and the command that lays it out.

    Tables laid out before their CSV named its runs say nothing of it.
    """
    counted: dict[tuple[str, str], int] = {}
    for record in contents.records:
        choices = record.get("choices")
        experiment = str(choices.get("experiment")) if isinstance(choices, Mapping) else ""
        scale = str(record.get("scale"))
        same = [t.behind for t in contents.tables if (t.experiment, t.scale) == (experiment, scale)]
        shown = any(behind is None or record["signature"] in behind for behind in same)
        if experiment in contents.experiments and record.get("status") == "complete" and not shown:
            counted[experiment, scale] = counted.get((experiment, scale), 0) + 1
    root = [] if contents.root == "outputs" else [f"output_dir={contents.root}"]
    where = [*root, *contents.own]
    return [
        (name, count, shlex.join(["privsweep-report", name, *([] if scale == "paper" else [f"scale={scale}"]), *where]))
        for (name, scale), count in sorted(counted.items())
    ]


def _never(contents: Contents) -> list[str]:
    """Experiments without a table and without a run."""
    chosen = (record.get("choices") for record in contents.records)
    run = {str(choices.get("experiment")) for choices in chosen if isinstance(choices, Mapping)}
    return [name for name in contents.experiments if name not in run | {t.experiment for t in contents.tables}]
