"""Strings of a stranger's experiment file or record, through every writer: shown as they are, obeyed by none."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from page_world import failed, html, publish
from report_world import record, table
from rich.console import Console

from privsweep.report.figure.kinds import write_figure
from privsweep.report.latex import latex
from privsweep.report.markdown import markdown
from privsweep.report.summary import summary
from privsweep.report.summary_terminal import summary_terminal
from privsweep.report.table_csv import table_csv
from privsweep.report.table_terminal import table_terminal
from privsweep.report.write import write
from privsweep.table.fill import FilledTable, fill_table

CORPUS = {
    "script": "<script>alert(1)</script>",
    "attribute": "\"'><img src=x onerror=alert(1)>",
    "comment": "<!-- --><?php ?>",
    "entity": "&lt;script&gt;",
    "markdown_link": "[a](javascript:alert(1)) ![b](http://example.org/b.png)",
    "markdown_reference": "[a]: javascript:alert(1)",
    "autolink": "<javascript:alert(1)>",
    "backtick": "` <b>x</b> `` ` <i>",
    "cells": "a | b \\| c \\\\| d",
    "lines": "a\n# b\r\n\n| c | d |\n|---|---|\x0b\x0c\x85\u2028e",
    "input": "\\input{/etc/passwd} \\write18{id} ^^5cinput{x} \\verb|x| \\end{table}",
    "comment_line": "%\n\\input{/etc/passwd}",
    "brace": "} \\} {$x_1$ & # ~ ^ \\\\[1cm] \\\\* *",
    "markup": "[bold red]x[/] [link=http://example.org]y[/link] \\[b] [/] :warning: \\",
    "colour": "\x1b[31mred\x1b[0m \x9b31m",
    "title": "\x1b]0;owned\x07\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\",
    "overwrite": "missing\rheld \b\b\x7f\x00",
    "direction": "a\u202eb\u2066c\u200d",
    "surrogate": "a\ud800b",
    "formula": "=cmd|'/c calc'!A1",
    "formulas": "\t+1+cmd() @SUM(1) -2+3",
    "mathtext": "$\\frac{$ $$ \\$ $x_",
}
FIGURES = [{"kind": kind, "x": ["?"], "xlabel": "?", "ylabel": "?"} for kind in ("bars", "lines", "boxes")]
FIGURES += [{"kind": "curves", "value": "x", "xlabel": "?", "ylabel": "?"}, {"kind": "pictures", "victims": 2}]
FIGURES += [{"kind": "heatmap", "x": ["?"], "xlabel": "?", "ylabel": "?", "victim": 0}]


SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


@pytest.fixture(params=CORPUS.values(), ids=CORPUS.keys())
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hostile(text: str) -> FilledTable:
    """A table and records with ``text`` wherever a string may stand."""
    changes = {
        "title": text, "place": text, "notes": [text],
        "rows": {"ssim": {"label": text, "metric": "ssim", "better": "higher", "note": text}},
        "columns": {c: {"label": text, "overrides": [f"model={c}"], "note": text} for c in ("one", "two")},
        "printed": {"ssim": {"one": text}},
        "findings": [
            {"id": "f1", "claim": text, "check": f"{text!r} != 'x'", "holds_in_print": None, "note": text},
            {"id": "f2", "claim": text, "check": f"{text!r} == 'x'", "holds_in_print": None,
             "explained": {"because": text, "check": f"{text!r} != 'x'"}},
        ],
    }  # fmt: skip
    records = {"one-s0": a_record(text), "one-s1": {"status": "failed", "error": text}, "two-s0": a_record(text)}
    return fill_table(table(**changes), records, "quick", [f"model={text}"])


def a_record(text: str) -> dict[str, Any]:
    return record(0, 0.5) | {
        "choices": {"attack": text, "defense": [text]}, "config": {"seed": text, text: {text: text}},
        "environment": {"device": text, "date": text, text: text, "versions": {text: text}},
        "scale": text, "metrics": {"ssim": 0.5, text: 1.0}, "utility": {text: 1.0}, "seconds": {text: 1.0},
    }  # fmt: skip


def obeyed(written: str) -> list[str]:
    """Characters that a terminal or an editor would obey, line ends apart."""
    return [c for c in written if not c.isprintable() and c != "\n"]


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            self.attributes.setdefault(name, set()).add(value or "")


def test_html(text: str, tmp_path: Path) -> None:
    """The page's frame and tables; what its script makes of the data: ``page/test_browser.py``."""
    found, known = (Tags(one) for one in (a_page(text, tmp_path / "a"), a_page("x", tmp_path / "b")))
    assert found.tags == known.tags
    assert found.attributes.keys() == known.attributes.keys()
    assert all(re.match("#|paper/", value) for value in found.attributes["href"])


def a_page(text: str, root: Path) -> str:
    publish(hostile(text), root)
    record = a_record(text) | {"choices": {"experiment": text, "attack": text, "defense": [text]}}
    written = html(root, record, failed(1, text, scale=text), experiments=(text, "never"))
    assert not obeyed(written)
    assert written.encode("utf-8")
    assert written.count("<script") == 2
    return written


def test_markdown(text: str) -> None:
    written = markdown(hostile(text))
    assert not obeyed(written)
    read = MarkdownIt("commonmark", {"html": True}).enable("table")
    found = Tags(read.render(written))
    assert found.tags <= {"h1", "h2", "p", "strong", "em", "ul", "li", "code",
                          "table", "thead", "tbody", "tr", "th", "td"}  # fmt: skip
    assert found.attributes.keys() <= {"style"}  # alignment
    rendered = read.render(written)
    assert rendered.count("<table>") == 1
    assert rendered.count("<tr>") == 4
    assert rendered.count("<td") == 9
    assert rendered.count("<h2>") == 4


def test_latex(text: str) -> None:
    written = latex(hostile(text))
    assert not obeyed(written)
    lines = [line for line in written.splitlines() if not line.startswith("%")]
    assert len(written.splitlines()) == len(latex(hostile("x")).splitlines())
    body = "\n".join(lines).replace(SHRUNK, "{")
    assert set(re.findall(r"\\([A-Za-z]+)", body)) <= {
        "begin", "end", "centering", "caption", "label", "linewidth",
        "toprule", "midrule", "bottomrule", "quad", "textit", "textbf", "item", "footnotesize", "noindent", "medskip",
        "ref", "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "pm",
        "uparrow",
    }  # fmt: skip
    plain = re.sub(r"\\[\\{}&%$#_]", "", body)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[#_~^|<>%]", plain)
    assert body.isascii()


def test_csv(text: str) -> None:
    written = table_csv(hostile(text))
    assert not obeyed(written)
    rows = list(csv.DictReader(io.StringIO(written)))
    assert len(rows) == 6
    made = summary([a_record(text)], [{text: text, "attack": text}])
    for cell in [*(cell for row in rows for cell in row.values()), *next(csv.reader(io.StringIO(made.csv())))]:
        assert not re.match(r"[=+\-@\t\r]", cell)
    assert not obeyed(made.csv())


@pytest.mark.parametrize("number", ["-0.3", "+1e-3", "-1:54", "-", "-12.5%"])
def test_numbers_stay_numbers_in_csv(number: str) -> None:
    assert number in table_csv(hostile(number)).splitlines()[1].split(",")


def test_terminal(text: str) -> None:
    made = summary([a_record(text), a_record("x")], [{"attack": text}, {"attack": "x"}])
    for content in (table_terminal(hostile(text), 300), summary_terminal(made, 300)):
        for terminal in (True, False):
            console = Console(file=io.StringIO(), width=300, force_terminal=terminal, color_system=None)
            console.print(content)
            written = console.file.getvalue()  # type: ignore[attr-defined]
            assert not obeyed(re.sub(r"\x1b\[\d*(;\d+)*m", "", written) if terminal else written)
            assert "\x1b]8" not in written
    assert not obeyed(made.markdown())


def test_pictures(tmp_path: Path, text: str) -> None:
    filled = hostile(text)
    panels = [{"title": text, "series": [{"label": text, "columns": ["one"]}]}]
    for figure in FIGURES:
        named = {key: text if value == "?" else value for key, value in figure.items()}
        named |= {"x": [text]} if "x" in figure else {}
        one = table(columns={"one": {"label": text}}, findings=[], rows={"ssim": {"label": text, "metric": "ssim"}})
        checked = type(one).from_config(
            one.model_dump(exclude={"figure", "experiment"}), "zen/t", {**named, "row": "ssim", "panels": panels}
        )
        drawn = fill_table(checked, {"one-s0": a_record(text)}, "quick")
        assert write_figure(tmp_path / "figure.png", drawn).is_file()
    assert all(path.is_file() for path in write(filled, tmp_path))
