"""What is published of each paper, and how many of its claims hold: the README's table, a line a paper, and the page of
everything in outputs/paper/.

    python scripts/status_table.py            # prints the table
    python scripts/status_table.py --write    # puts it into README.md, and writes outputs/paper/README.md

Everything in them is read from ``outputs/paper/<paper>/*.md``; experiments of ``conf/experiment/<paper>/`` without such
a file are listed as not published.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from privsweep.report.table_text import EXPLAINED
from privsweep.store.packed import SUFFIX
from privsweep.table.verdicts import RULE

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- status: written by scripts/status_table.py -->\n", "<!-- end of status -->"
INDEX = "outputs/paper/README.md"
HEAD = "| paper | tables and figures | held | not held | of these explained | undecided |\n|---|--:|--:|--:|--:|--:|\n"
PAPERS = {"zen": "Zen", "precode": "PRECODE", "ensembler": "Ensembler", "informed": "The informed adversary"}
WORDS = ("held", "not held", "undecided")
# Of the page's columns, the conditions that they show.
ABOUT = {"scale": "scale", "seeds": "seeds", "victims": "fl_setting.victims", "runs": "runs", "commit": "commit",
         "date": "date"}  # fmt: skip
# What an undecided claim waits for, by the words that its page has for it.
WAITS = {
    "for runs on data that we have not": ("waits for",),
    "for more work than their scale does": ("needs more work",),
    "for more seeds or victims": ("would decide", "would tell"),
    "since some seeds got there and some did not": ("some of its seeds",),
    "for what not even the paper's amount of work shows": ("amount of work does not",),
}
CLAIM = re.compile(
    r"^- \[.\] \*\*(.+?)\*\* (\S+): (.*)\n  \((.*?)in print: (.*?)\) `.*"
    rf"(?:\n  ((?:{'|'.join(EXPLAINED.values())}): .*))?",
    re.MULTILINE,
)
KINDS = ("table", "fig")  # others, of the papers' text and our own, come after
SCALES = ("paper", "half", "quick")  # the most work first


class Claim(NamedTuple):
    """What a page says of one claim; ``about``: its margin, or what it waits for."""

    name: str
    word: str
    text: str
    about: str
    in_print: str
    explained: str
    page: Path
    scale: str

    @property
    def rank(self) -> tuple[bool, int]:
        """A claim stands on several pages where several amounts of work are published: decided, with most work."""
        return self.word == "undecided", SCALES.index(self.scale) if self.scale in SCALES else len(SCALES)

    def line(self) -> str:
        margin = f" ({self.about})" if self.about else ""
        why = f"; {self.explained}" if self.explained else ""
        return f"- **{self.word}** {self.name}: {self.text}{margin}{why} [{self.page.stem}]({_of_paper(self.page)})"


def status_table(root: Path = ROOT) -> str:
    """Markdown, a line a paper: what is published of it, and what became of each of its claims."""
    lines, total = [], [0, 0, 0, 0]
    for paper in sorted((root / "conf/experiment").iterdir(), key=lambda path: [*PAPERS, path.name].index(path.name)):
        claims = _claims(root / "outputs/paper" / paper.name)
        held, failed, undecided = (sum(claim.word == word for claim in claims) for word in WORDS)
        counts = [held, failed, sum(claim.explained.startswith(EXPLAINED[True]) for claim in claims), undecided]
        total = [so_far + count for so_far, count in zip(total, counts, strict=True)]
        every = len([*paper.glob("*.yaml")])
        link = f"[{PAPERS.get(paper.name, paper.name)}](outputs/paper/{paper.name}/README.md)"
        published = f"{every - len(_unpublished(root, paper.name))} of {every}"
        lines.append(f"| {' | '.join([link, published, *map(str, counts)])} |")
    return HEAD + "\n".join([*lines, f"| all | | {' | '.join(map(str, total))} |"]) + "\n"


def index(root: Path = ROOT) -> str:
    """Markdown: of everything published its conditions in a line, then the claims that hold in print and not here."""
    folder = root / "outputs/paper"
    lines = [
        "# Everything that is published",
        "",
        "Written by `scripts/status_table.py`. Victims are attacked runs' or released models' targets; where columns "
        "differ, and for all else, see the page. \\*: with further settings. †: laid out when claims were decided by "
        "another rule than now. Runs with a link are there: `privsweep-store unpack FILE` stores them. [Every attack "
        "on a GPU, beside the CPU](gpu_check.md).",
        "",
    ]
    claims: list[Claim] = []
    for paper in sorted(path for path in folder.iterdir() if path.is_dir()):
        lines += [f"## [{paper.name}]({paper.name}/README.md)", "", *_rule("table or figure", *ABOUT, *WORDS)]
        for path in _pages(paper):
            text = path.read_text(encoding="utf-8")
            found = _conditions(text)
            link = f"[{text.splitlines()[0].removeprefix('# ')}]({_of_paper(path)})"
            found["scale"] += _marks(text)
            about = [_short(name, found.get(name, "–")) for name in ABOUT.values()]
            if (packed := path.with_name(path.stem + SUFFIX)).is_file():
                place = [*ABOUT].index("runs")
                about[place] = f"[{about[place]}]({_of_paper(packed)})"
            lines.append(f"| {' | '.join([link, *about, *map(str, _counts(text))])} |")
        if missing := _unpublished(root, paper.name):
            lines += ["", f"Not published: {'; '.join(missing)}."]
        lines.append("")
        claims += [claim for claim in _claims(paper) if claim.in_print == "held"]
    lines += ["## Claims that hold in print, and not or undecided here", "", _sums(claims), ""]
    return "\n".join([*lines, *(claim.line() for claim in claims if claim.word != "held")]) + "\n"


def _sums(claims: Sequence[Claim]) -> str:
    """What became of all claims that hold in print, and what the open ones wait for."""
    held, failed, undecided = ([claim for claim in claims if claim.word == word] for word in WORDS)
    waits = {why: sum(any(w in claim.about for w in words) for claim in undecided) for why, words in WAITS.items()}
    waits["for what their page does not say"] = len(undecided) - sum(waits.values())
    why = sum(claim.explained.startswith(EXPLAINED[True]) for claim in failed)
    return (
        f"Of {len(claims)} claims that hold in print {len(held)} hold here, {len(failed)} do not ({why} of them "
        f"{EXPLAINED[True]}), and {len(undecided)} are undecided"
        f"{': ' if undecided else ''}{', '.join(f'{count} {why}' for why, count in waits.items() if count)}. "
        "A claim of several pages is counted once: by the one with the most work that decides it."
    )


def _short(name: str, value: str) -> str:
    """Of a date the last day; of several commits all."""
    return value[value.rfind(" ") + 1 :].partition("T")[0] if name == "date" else value.removesuffix(" complete")


def write(root: Path = ROOT) -> None:
    """The README's table, and the page of everything."""
    readme = root / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), status_table(root)), encoding="utf-8")
    (root / INDEX).write_text(index(root), encoding="utf-8")


def _rule(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def _counts(text: str) -> list[int]:
    """Claims by what became of them, as ``WORDS`` has them."""
    words = re.findall(rf"^- \[.\] \*\*({'|'.join(WORDS)})\*\*", text, re.MULTILINE)
    return [words.count(word) for word in WORDS]


def _claims(folder: Path) -> list[Claim]:
    """A paper's claims, each as the page that decides it has it."""
    found: dict[str, Claim] = {}
    for page in _pages(folder):
        text = page.read_text(encoding="utf-8")
        scale = _conditions(text)["scale"]
        for word, name, claim, about, in_print, why in CLAIM.findall(text):
            one = Claim(name, word, claim, about.removesuffix("; "), in_print, why.split(" `")[0], page, scale)
            found[name] = min(found.get(name, one), one, key=lambda claim: claim.rank)
    return [*found.values()]


def _of_paper(page: Path) -> str:
    return f"{page.parent.name}/{page.name}"


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


def _marks(text: str) -> str:
    """Beside its scale: whether more was typed, and whether its claims were decided by another rule than now."""
    return ("\\*" if typed_besides(text) else "") + ("" if RULE in text or not sum(_counts(text)) else "†")


def _conditions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^- ([\w.]+): (.*)$", text.partition("## Conditions")[2], re.MULTILINE))


def _pages(folder: Path) -> list[Path]:
    """What is published of a paper, tables first."""
    return sorted((path for path in folder.glob("*.md") if path.name != "README.md"), key=_order)


def _unpublished(root: Path, paper: str) -> list[str]:
    """The titles of a paper's experiments that no page shows."""
    published = {path.name.partition(".")[0] for path in _pages(root / "outputs/paper" / paper)}
    experiments = sorted((root / "conf/experiment" / paper).glob("*.yaml"), key=_order)
    return [_title(experiment) for experiment in experiments if experiment.stem not in published]


def _title(experiment: Path) -> str:
    return str(yaml.safe_load(experiment.read_text(encoding="utf-8"))["table"]["title"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        print(status_table(), end="")
