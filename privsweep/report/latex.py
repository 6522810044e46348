r"""A table as a LaTeX fragment: ``\input`` it; needs booktabs, and graphicx to shrink wide tables."""

from __future__ import annotations

from privsweep.report.table_text import IN_PRINT, LEGEND, VERDICTS, Band, bands, conditions, warning
from privsweep.table.fill import FilledTable

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "−": "$-$", "–": "--", "—": "---",
    "[": "{[}", "]": "{]}",  # brackets after a line end would be its optional argument
    "×": r"$\times$", "→": r"$\to$", "∞": r"$\infty$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "≤": r"$\le$", "≥": r"$\ge$", "ε": r"$\varepsilon$", "δ": r"$\delta$", "σ": r"$\sigma$",
    "µ": r"$\mu$", "μ": r"$\mu$", "·": r"$\cdot$", "…": r"\dots{}", "“": "``", "”": "''", "’": "'",
}  # fmt: skip


def latex(filled: FilledTable) -> str:
    lines = [
        "% " + _comment(filled.command),
        r"% \usepackage{booktabs,graphicx}",
        *(f"% {_comment(f'{name}: {value}')}" for name, value in conditions(filled)),
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape('. '.join(filter(None, [filled.table.title, warning(filled), LEGEND])))}}}",
        rf"\label{{tab:{_comment(filled.table.experiment).replace('/', ':')}}}",
    ]
    for i, band in enumerate(bands(filled)):
        lines += [r"", r"\medskip"] if i else []
        lines += _tabular(band)
    if filled.verdicts:
        lines += [r"", r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize", r"\begin{itemize}"]
        for verdict in filled.verdicts:
            lines.append(
                rf"\item \textbf{{{VERDICTS[verdict.holds]}}} (in print: {IN_PRINT[verdict.in_print]}): "
                rf"{escape(verdict.finding.claim)}"
            )
        lines += [r"\end{itemize}", r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


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
    """Plain text for LaTeX; a character that pdfLaTeX would not know becomes a question mark."""
    flat = " ".join(text.split())
    return "".join(_ESCAPES.get(c, c if c.isascii() or (c.isalpha() and ord(c) < 0x180) else "?") for c in flat)


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _comment(text: str) -> str:
    return " ".join(text.split())
