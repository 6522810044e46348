"""Tables as LaTeX."""

from __future__ import annotations

import re

from report_world import NOTED, NOTES, lay, wide

from privsweep.report.latex import escape, latex


def test_latex_is_escaped_and_balanced() -> None:
    text = latex(lay())
    body = "\n".join(line for line in text.splitlines() if not line.startswith(("%", r"\resizebox")))
    plain = re.sub(r"\\[\\{}&%$#_]", "", body)
    assert plain.count("{") + 1 == plain.count("}")  # the one that \resizebox opens
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[#_~^|<>]", plain)
    assert text.count(r"\begin") == text.count(r"\end")
    assert all(body.count(command) == 1 for command in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"\input{x}" not in text
    widths = {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if line.endswith(r" \\")}
    assert widths == {2}
    assert text.isascii()
    assert escape("é ± 语") == r"é $\pm$ ?"


def test_a_wide_table_stands_in_bands() -> None:
    text = latex(wide(26))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3


def test_every_note_is_there() -> None:
    text = latex(lay(**NOTED))
    assert all(escape(note) in text for note in NOTES)
    assert r"\ref{tab:zen:table1}" in text
    assert text.index(r"\end{table}") < text.index("The weights are untrained.")  # a float is no longer than a page
