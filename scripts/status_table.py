"""The README's status table: what is published of each paper, at which scale, and how many of its claims hold.

    python scripts/status_table.py            # prints it
    python scripts/status_table.py --write    # puts it into README.md

Everything in it is read from ``outputs/paper/<paper>/*.md``; experiments of ``conf/experiment/<paper>/`` without such
a file are listed as not published.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- status: written by scripts/status_table.py -->\n", "<!-- end of status -->"
HEAD = "| table or figure | scale | runs | held | not held | undecided |\n|---|---|--:|--:|--:|--:|\n"
KINDS = ("table", "fig")  # others, of the papers' text and our own, come after


def status_table(root: Path = ROOT) -> str:
    """Markdown, one line for every published file and every experiment without one."""
    lines: list[str] = []
    for experiment in sorted((root / "conf/experiment").glob("*/*.yaml"), key=_order):
        paper, name = experiment.parent.name, experiment.stem
        published = sorted((root / "outputs/paper" / paper).glob(f"{name}.*md"))
        lines += [_published(path, root) for path in published] or [_missing(experiment)]
    sums = [sum(int(line.split(" | ")[-3 + i].rstrip(" |")) for line in lines if "– |" not in line) for i in range(3)]
    return HEAD + "\n".join([*lines, f"| all | | | {sums[0]} | {sums[1]} | {sums[2]} |"]) + "\n"


def with_table(readme: str, table: str) -> str:
    """``readme`` with ``table`` between the two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _order(path: Path) -> tuple[str, int, list[int | str]]:
    kind = next((i for i, kind in enumerate(KINDS) if path.stem.startswith(kind)), len(KINDS))
    parts: Iterator[str] = (part for part in re.split(r"(\d+)", path.stem) if part)
    return path.parent.name, kind, [int(part) if part.isdigit() else part for part in parts]


def typed_besides(text: str) -> list[str]:
    """What a published table was typed with, besides its name and its scale."""
    return [word for word in shlex.split(_conditions(text)["command"])[2:] if not word.startswith("scale=")]


def _conditions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^- (scale|runs|command): (.*)$", text.partition("## Conditions")[2], re.MULTILINE))


def _published(path: Path, root: Path) -> str:
    text = path.read_text(encoding="utf-8")
    conditions = _conditions(text)
    extra = "\\*" if typed_besides(text) else ""
    words = re.findall(r"^- \[.\] \*\*(held|not held|undecided)\*\*", text, re.MULTILINE)
    counts = " | ".join(str(words.count(word)) for word in ("held", "not held", "undecided"))
    title = text.splitlines()[0].removeprefix("# ")
    link = f"[{title}]({path.relative_to(root).as_posix()})"
    return f"| {link} | {conditions['scale']}{extra} | {conditions['runs'].removesuffix(' complete')} | {counts} |"


def _missing(experiment: Path) -> str:
    title = yaml.safe_load(experiment.read_text(encoding="utf-8"))["table"]["title"]
    return f"| {title} | not published | – | – | – | – |"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(with_table(README.read_text(encoding="utf-8"), status_table()), encoding="utf-8")
    else:
        print(status_table(), end="")
