r"""A table as a LaTeX fragment: ``\input`` it; needs booktabs, and graphicx to shrink wide tables."""

from __future__ import annotations

import re

from privsweep.interface.printable import printable
from privsweep.report.table_text import Band, TableText, table_text
from privsweep.table.fill import FilledTable

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "−": "$-$", "–": "--", "—": "---",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after the end of a line or \item they would be its argument
    "×": r"$\times$", "→": r"$\to$", "∞": r"$\infty$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "≤": r"$\le$", "≥": r"$\ge$", "ε": r"$\varepsilon$", "δ": r"$\delta$", "σ": r"$\sigma$",
    "µ": r"$\mu$", "μ": r"$\mu$", "·": r"$\cdot$", "…": r"\dots{}", "“": "``", "”": "''", "’": "'",
}  # fmt: skip


def latex(filled: FilledTable) -> str:
    """The table and its findings in a float; its notes follow as text, since they may be longer than a page."""
    text = table_text(filled)
    label = "tab:" + re.sub(r"[^A-Za-z0-9._-]+", ":", filled.table.experiment)
    lines = [
        f"% {text.command}",
        r"% \usepackage{booktabs,graphicx}",
        *(f"% {name}: {value}" for name, value in text.conditions),
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape('. '.join(filter(None, [text.title, text.warning, text.legend])))}}}",
        rf"\label{{{label}}}",
    ]
    for i, band in enumerate(text.bands):
        lines += [r"", r"\medskip"] if i else []
        lines += _tabular(band)
    if text.verdicts:
        lines += [r"", r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [*_itemize(_findings(text)), r"\end{minipage}"]
    lines.append(r"\end{table}")
    if text.notes:
        lines += [r"{\footnotesize\noindent", rf"Notes on Table \ref{{{label}}}:"]
        lines += [*_itemize([escape(note) for note in text.notes]), "}"]
    return "\n".join([*lines, ""])


def _findings(text: TableText) -> list[str]:
    return [
        rf"\textbf{{{verdict.word}}} ({verdict.about}): {escape(verdict.claim)}"
        + "".join(f" ({escape(aside)})" for aside in verdict.asides)
        for verdict in text.verdicts
    ]


def _itemize(items: list[str]) -> list[str]:
    return [r"\begin{itemize}", *(rf"\item {item}" for item in items), r"\end{itemize}"]


# By hand: pandas' Styler and tabulate cannot set space between groups of lines or shrink a wide table.
def _tabular(band: Band) -> list[str]:
    lines = [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l*{{{len(band.header) - 1}}}{{r}}}}",
        r"\toprule",
        _row([escape(text) for text in band.header]),
        r"\midrule",
    ]
    for i, group in enumerate(band.groups):
        if i:
            lines.append(r"\addlinespace")
        for line in group:
            if line.kind == "ours":
                lines.append(_row([escape(line.label), *map(escape, line.texts)]))
            else:
                texts = [rf"\textit{{{escape(text)}}}" if text else "" for text in line.texts]
                lines.append(_row([rf"\quad {escape(line.label)}", *texts]))
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def escape(text: str) -> str:
    """Plain text for LaTeX, in one line; a character that pdfLaTeX would not know becomes a question mark."""
    known = (_ESCAPES.get(c, c if c.isascii() or (c.isalpha() and ord(c) < 0x180) else "?") for c in printable(text))
    return "".join(known)


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
