"""What README.md and docs/ say is true of the code: what is published, links, the map, commands and examples."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Privsweep

from privsweep.cli import data as privsweep_data
from privsweep.cli.sweep import plan
from privsweep.run.compose import CONF
from privsweep.store.checksums import FILE
from privsweep.store.packed import DATA, SUFFIX
from privsweep.store.sealed import write_sealed
from privsweep.table.verdicts import RULE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md"))}
GUIDE = "\n".join([README, *DOCS.values()])
PAGES = [
    *(ROOT / name for name in ("README.md", "scripts/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("outputs/paper/*/README.md")),
]


def fenced(language: str, text: str = GUIDE) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def script() -> Any:
    path = ROOT / "scripts/status_table.py"
    spec = importlib.util.spec_from_file_location("status_table", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_status_table_and_the_page_of_everything_are_what_the_script_prints(script: Any) -> None:
    table = script.status_table()
    assert all(f"[{name}](" in table for name in script.PAPERS.values())
    assert script.with_table(README, table) == README, "run: python scripts/status_table.py --write"
    assert script.index() == (ROOT / script.INDEX).read_text(encoding="utf-8"), "run it, too"


@pytest.mark.parametrize(("rule", "mark"), [(RULE, ""), ("Claims are decided by their means.", "†")])
def test_a_page_whose_claims_another_rule_decided_is_marked(rule: str, mark: str, script: Any, tmp_path: Path) -> None:
    experiment, page = tmp_path / "conf/experiment/mine/t.yaml", tmp_path / "outputs/paper/mine/t.quick.md"
    for path in (experiment, page):
        path.parent.mkdir(parents=True)
    experiment.touch()
    claim = "- [x] **held** mine.f1: it is so.\n  (in print: held) `1 == 1`"
    about = "\n".join(f"- {name}" for name in ("command: privsweep experiment=mine/t", "scale: quick", "runs: 1 of 1"))
    page.write_text(f"# T\n\n{claim}\n\n- {rule}\n\n## Conditions\n\n{about}\n", encoding="utf-8")
    assert "| [mine](outputs/paper/mine/README.md) | 1 of 1 | 1 | 0 | 0 | 0 |" in script.status_table(tmp_path)
    assert f"| [T](mine/t.quick.md) | quick{mark} |" in script.index(tmp_path)


def test_claims_that_do_not_hold_are_counted_with_those_that_runs_explain(script: Any, tmp_path: Path) -> None:
    claims = [
        "- [x] **held** a.f1: it is so.\n  (in print: held) `1 == 1`",
        "- [ ] **not held** a.f2: it is.\n  (by 5.0 standard errors; in print: held) `1 == 2`\n"
        "  explained by runs here: it was `2 == 2`\n  a note",
        "- [ ] **not held** a.f3: it was.\n  (by 5.0 standard errors; in print: held) `1 == 2`\n  a note",
        "- [ ] **not held** a.f4: ours.\n  (in print: no number) `1 == 2`\n  explained by runs here: it was `2 == 2`",
    ]
    page = tmp_path / "outputs/paper/mine/t.md"
    page.parent.mkdir(parents=True)
    page.write_text(
        "# T\n\n" + "\n".join(claims) + "\n\n## Conditions\n\n- command: a b\n- scale: paper\n", encoding="utf-8"
    )
    index = script.index(tmp_path)
    assert "Of 3 claims that hold in print 1 hold here, 2 do not (1 of them explained by runs here)" in index
    assert "a.f2: it is. (by 5.0 standard errors); explained by runs here: it was [t]" in index


def test_a_claim_of_several_pages_counts_once_by_the_one_with_the_most_work_that_decides_it(
    script: Any, tmp_path: Path
) -> None:
    said = {  # by claim, at half and at quick
        "a.f1": ("undecided", "held"),
        "a.f2": ("not held", "held"),
        "a.f3": ("undecided", "undecided"),
    }
    folder = tmp_path / "outputs/paper/mine"
    folder.mkdir(parents=True)
    for n, scale in enumerate(("half", "quick")):
        lines = [f"- [ ] **{w[n]}** {claim}: so.\n  (by 3.0; in print: held) `1 == 1`" for claim, w in said.items()]
        about = f"- command: a b\n- scale: {scale}\n"
        page = folder / f"t.{scale}.md"
        page.write_text("# T\n\n" + "\n".join(lines) + f"\n\n## Conditions\n\n{about}", encoding="utf-8")
    index = script.index(tmp_path)
    assert "Of 3 claims that hold in print 1 hold here, 1 do not (0 of them explained by runs here), and 1" in index
    assert "- **not held** a.f2: so. (by 3.0) [t.half](mine/t.half.md)\n- **undecided** a.f3: so." in index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8").replace("]\n(", "]("))
    assert page.parent.name == "scripts" or links
    for link in links:
        path, _, heading = link.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


def test_a_page_of_the_guide_says_a_thing_once() -> None:
    """A section that stands twice, as a passage put back in part would, tells two things of the same subject."""
    for page, text in DOCS.items():
        titles = re.findall(r"^#+ .*$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
        assert len(titles) == len({*titles}), page


@pytest.mark.parametrize("name", [name for name, text in DOCS.items() if text.split("\n## ", 1)[0].count("](#")])
def test_the_contents_of_a_page_name_all_its_sections_in_their_order(name: str) -> None:
    head = DOCS[name].split("\n## ", 1)[0].replace("\n", " ")
    text = re.sub(r"^```.*?^```", "", DOCS[name], flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\[([^]]*)\]\(#", head) == re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_every_page_of_the_guide_is_named_in_the_readme() -> None:
    assert len(DOCS) > 5
    assert all(f"(docs/{name}.md)" in README for name in DOCS)


def test_the_map_of_the_code_names_what_is_there() -> None:
    lines = [line for line in DOCS["map"].splitlines() if line.startswith("|")][2:]
    assert len(lines) > 12
    for line in lines:
        paths = re.findall(r"`([\w./]+/[\w./]*)`", line)
        assert paths, line
        for path in paths:
            assert (ROOT / path).exists(), path


def commands() -> list[str]:
    """Every ``privsweep`` command that needs no component of the reader's own, once."""
    lines = [line.partition("  #")[0].strip() for block in fenced("bash") for line in block.splitlines()]
    return [*dict.fromkeys(line for line in lines if line.startswith("privsweep "))]


def test_commands_are_found() -> None:
    assert len(commands()) > 14


@pytest.mark.parametrize("command", commands())
def test_commands_compose(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is composed, built and checked, at the smallest scale, with checksums in the place of absent data."""
    if "hydra/sweeper=search" in command:
        pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    own = [f"dataset={name}" for name in privsweep_data.NAMES] + ["dataset.path=mine.npz", "dataset.path=xrays"]
    own += ["dataset=multi30k", "fl_setting.path=update.safetensors", "model.weights=file.safetensors"]
    known = {"places": {}, "last": dict.fromkeys(own, "0" * 16) | {"dataset=cifar10": "1" * 16}}
    write_sealed(tmp_path / "outputs" / FILE, known)
    _, *arguments = shlex.split(command)
    overrides = [a for a in arguments if a != "-m" and not a.startswith("scale=")]
    planned = plan([*overrides, "scale=smoke"], None, "-m" in arguments, running=False)
    assert planned.runs
    assert not planned.absent


def test_reported_tables_exist() -> None:
    named = re.findall(r"`?(?:privsweep-report |experiment=)?((?:zen|precode|ensembler|informed)/[a-z]+\w*)\b", GUIDE)
    assert len(named) > 10
    for name in set(named):
        assert (CONF / "experiment" / f"{name}.yaml").exists() or (CONF / "experiment" / f"{name}a.yaml").exists(), name


def test_components_of_ones_own_are_two_files_each(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in fenced("python") + fenced("yaml"):
        named = re.search(r"^# (my_\S+)$", block, re.MULTILINE)
        if named:
            path = tmp_path / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PRIVSWEEP_TRUST", "my_attacks,my_defenses,my_models")
    brought = ["attack=mean", "defense=[clip]", "model=linear"]
    assert privsweep("--config-dir", str(tmp_path / "my_conf"), *brought, "scale=smoke", tiny=False) == 0
    [record] = tmp_path.glob("outputs/runs/*/record.json")
    choices = json.loads(record.read_text())["choices"]
    assert (choices["attack"], choices["defense"], choices["model"]) == ("mean", ["clip"], "linear")


def test_a_table_of_ones_own_and_its_figure_are_one_file(
    privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [block for block in fenced("yaml") if "# my_conf/experiment/noise.yaml" in block]
    path = tmp_path / "my_conf" / "experiment" / "noise.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(block)
    asked = ["--config-dir", str(path.parents[1]), "experiment=noise", "table.seeds=[0,1]", "scale=smoke"]
    assert privsweep(*asked, tiny=False) == 0
    assert "scale=smoke: amounts of work reduced\n" in capsys.readouterr().out.replace(". made with", "\n")
    assert len(list(tmp_path.glob("outputs/smoke/noise*.figure.png"))) == 1


def test_privsweep_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    [example] = [block for block in fenced("python") if block.startswith("import privsweep")]
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    records = list(tmp_path.glob("outputs/runs/*/record.json"))
    said = capsys.readouterr().out
    assert len(records) == 4
    assert all(path.parent.name in said for path in records)
    assert "gradient_quantization" in said


@pytest.mark.parametrize("group", ["dataset", "model", "fl_setting", "attack", "defense"])
def test_the_guide_names_every_choice_and_the_paper_of_every_attack_and_defence(group: str) -> None:
    choices = {path.stem for path in (CONF / group).glob("*.yaml")} - {"none"}
    tables, _, papers = DOCS["choices"].partition("## Which paper")
    for page in [tables] + [papers] * (group in ("attack", "defense")):
        rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
        assert choices - {*re.findall(r"\w+", rows)} == set()


def test_packed_runs_are_those_that_their_table_names() -> None:
    for packed in sorted((ROOT / "outputs/paper").rglob(f"*{SUFFIX}")):
        with tarfile.open(packed) as archive:
            inside = {name.partition("/")[0] for name in archive.getnames()} - {DATA}
        with packed.with_name(packed.name.replace(SUFFIX, ".csv")).open(newline="") as file:
            assert inside == {row["run"] for row in csv.DictReader(file)} - {""}, packed.name
