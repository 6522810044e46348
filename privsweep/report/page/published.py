"""Tables as they lie in ``paper/`` and ``smoke/``: read from their Markdown, with the figure beside it."""

from __future__ import annotations

import csv
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from privsweep.interface.printable import printable
from privsweep.report.page.pictures import figure
from privsweep.report.table_text import LEGEND, VERDICTS

FOLDERS = ("paper", "smoke")
_LARGEST = 4_000_000  # bytes of a file that is read
_FOLDED = ("Notes", "Conditions")
_LEGEND = LEGEND.partition(" (")[0]  # the page has it once
_FILES = ("md", "csv", "tex", "png", "figure.png")
# Neither HTML nor links: what the writer escapes, and nothing that leads anywhere.
_MARKDOWN = MarkdownIt("zero").enable(["table", "list", "heading", "backticks", "emphasis", "escape"])


@dataclass(frozen=True)
class Section:
    heading: str  # empty for what comes first
    body: Markup
    folded: bool


@dataclass(frozen=True)
class Published:
    """One table, ready for the page."""

    name: str  # zen/table1.quick
    experiment: str  # zen/table1
    scale: str
    title: str
    further: str  # what was typed beyond the experiment and its scale, which tells two layouts of it apart
    runs: str  # "12 of 12"
    verdicts: Mapping[str, int]  # held, not held, undecided -> claims
    sections: tuple[Section, ...]
    figure: str | None  # data URI
    files: tuple[tuple[str, str], ...]  # suffix, address on the page
    behind: frozenset[str] | None  # signatures of its runs; None where the CSV does not say


def published_in(output_dir: Path, page: Path | None = None) -> list[Published]:
    """Every table that was laid out below ``output_dir``, the papers' first; ``page``: where else the page is."""
    found = []
    for folder in FOLDERS:
        paths = (output_dir / folder).rglob("*.md")
        for path in sorted(paths, key=lambda p: _natural(p.relative_to(output_dir).as_posix())):
            text = _text(path)
            if text is not None and (table := _published(path, text, output_dir, page or output_dir)) is not None:
                found.append(table)
    return found


def _published(path: Path, text: str, output_dir: Path, page: Path) -> Published | None:
    """None for a file that is no table, such as a README."""
    conditions = dict(re.findall(r"^- (\w[\w ]*): (.*)$", text.partition("\n## Conditions\n")[2], re.MULTILINE))
    try:
        words = shlex.split(conditions["command"])
        experiment = next(w for w in words if w.startswith("experiment=")).partition("=")[2]
        scale, runs = conditions["scale"], conditions["runs"].removesuffix(" complete")
    except (KeyError, ValueError, StopIteration):
        return None
    title, sections, verdicts = _sections(text)
    stem = path.name.removesuffix(".md")
    beside = [(suffix, path.with_name(f"{stem}.{suffix}")) for suffix in _FILES]
    return Published(
        name=path.relative_to(output_dir).with_name(stem).as_posix().partition("/")[2],
        experiment=printable(experiment),
        scale=printable(scale),
        title=title,
        further=printable(" ".join(w for w in _overrides(words) if not w.startswith(("experiment=", "scale=")))),
        runs=printable(runs),
        verdicts=verdicts,
        sections=sections,
        figure=figure(path.with_name(f"{stem}.figure.png")),
        files=tuple((s, quote(os.path.relpath(p, page))) for s, p in beside if p.is_file()),
        behind=_behind(path.with_name(f"{stem}.csv")),
    )


def _overrides(words: Sequence[str]) -> Sequence[str]:
    """Those of a table's command."""
    return words[3:] if words[1:2] == ["--config-dir"] else words[1:]


def _sections(text: str) -> tuple[str, tuple[Section, ...], Mapping[str, int]]:
    """Title, the parts under their headings, and how many claims held."""
    title, parts, verdicts = "", [("", list[Token]())], Counter[str]()
    tokens = _MARKDOWN.parse("\n".join(printable_line(line) for line in text.split("\n")))
    for i, token in enumerate(tokens):
        within = tokens[i - 1] if i else token
        if token.type == "inline" and within.tag == "h1":
            title = title or _plain(token)
        elif token.type == "inline" and within.tag == "h2":
            parts.append((_plain(token), []))
        elif token.tag not in ("h1", "h2") and not (token.type == "inline" and token.content.startswith(_LEGEND)):
            _classes(token, tokens[i + 2] if token.type == "tr_open" else None)
            verdicts.update(_verdict(token))
            parts[-1][1].append(token)
    sections = tuple(
        Section(heading, Markup(_MARKDOWN.renderer.render(body, _MARKDOWN.options, {})), heading in _FOLDED)
        for heading, body in parts
    )
    return title, sections, verdicts


def _classes(token: Token, first: Token | None) -> None:
    """What the page's style goes by; the alignment of columns is the page's, which allows no style in a tag."""
    token.attrs.pop("style", None)
    if first is not None and first.content in ("– printed", "– difference"):
        token.attrSet("class", first.content[2:])
    if token.type == "table_open":
        token.attrSet("class", "paper")


def _verdict(token: Token) -> list[str]:
    """The word of a claim, which gets its colour here and loses the box before it."""
    children = token.children or []
    bold = [i for i, child in enumerate(children) if child.type == "strong_open"][:1]
    ours = {*bold, *(i + 2 for i in bold)} if bold and bold[0] < 2 else set()
    for i, child in enumerate(children):
        if child.nesting and i not in ours:  # stars of a text, not of the writer
            child.type, child.tag, child.content, child.nesting = "text", "", child.markup, 0
    if 1 not in ours or (word := children[2].content) not in VERDICTS.values():
        return []
    children[1].attrSet("class", word.split()[0])
    children[0].content = ""
    return [word]


def _plain(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def printable_line(line: str) -> str:
    """Printable, with the indentation that lists need."""
    return line[: len(line) - len(line.lstrip(" "))] + printable(line)


def _behind(path: Path) -> frozenset[str] | None:
    text = _text(path)
    rows = csv.DictReader(text.splitlines()) if text is not None else None
    if rows is None or "run" not in (rows.fieldnames or ()):
        return None
    try:
        return frozenset(str(row["run"]) for row in rows if row["run"])
    except csv.Error:
        return None


def _text(path: Path) -> str | None:
    """A file of the folder's own; None for what is none, or is too large to be one of ours."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    return path.read_text(encoding="utf-8", errors="backslashreplace")


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """table10 after table9."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text)]
