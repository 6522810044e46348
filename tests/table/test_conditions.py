"""Amounts of work are told by the records, and what else differs from the paper by comparison with its scale."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from privsweep.cli.tables import tables_in
from privsweep.report.table_text import table_text
from privsweep.run.compose import CONF
from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.spec import Table

CONFIG: dict[str, Any] = {
    "fl_setting": {"epochs": 8, "lr": 0.01, "victims": 16, "victim_choice": "random", "local_steps": None},
    "attack": {"iterations": 1500, "lr": 0.1, "memory": 4.0},
    "model": {"init": "uniform"},
    "seed": 0,
}


def changed(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    made = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
    for path, value in changes.items():
        part, name = path.split("__")
        made[part][name] = value
    return made


def filled(configs: dict[str, dict[str, Any]], paper: dict[str, dict[str, Any]] | None = None) -> FilledTable:
    """``configs``: of columns; the row of accuracies attacks nothing."""
    table = Table.from_config({
        "title": "t", "place": "p", "seeds": [0],
        "rows": {"accuracy": {"label": "Accuracy", "metric": "utility.test_accuracy", "overrides": ["attack=none"]},
                 "ssim": {"label": "SSIM", "metric": "ssim"}},
        "columns": {n: {"label": n.upper().replace("_", ", "), "overrides": [f"model={n}"]} for n in configs},
    })  # fmt: skip
    records = {}
    for job in table.jobs():
        [column] = {c for _, c, _ in job.cells}
        attack = "none" if job.id.startswith("accuracy.") else "dlg"
        config = changed(configs[column], fl_setting__epochs=300) if attack == "none" else configs[column]
        records[job.id] = {
            "signature": job.id, "status": "complete", "metrics": {"ssim": 0.5}, "utility": {"test_accuracy": 0.5},
            "sizes": {"train": 3000, "test": 1000, "prior": 0}, "config": config, "choices": {"attack": attack},
        }  # fmt: skip
    at_paper = {(r, c, 0): config for c, config in (paper or {}).items() for r in ("accuracy", "ssim")}
    return fill_table(table, records, "quick", paper=at_paper)


def test_amounts_are_said_once_or_of_what_they_are() -> None:
    told = dict(filled({"a": CONFIG, "b": changed(CONFIG, attack__iterations=7000), "c": CONFIG}).amounts)
    assert told["examples, train"] == "3,000"
    assert told["fl_setting.victims"] == "16"
    assert told["attack.iterations"] == "1,500; 7,000 (B)"
    assert told["fl_setting.epochs"] in ("8; 300 (Accuracy)", "300; 8 (SSIM)")
    assert told["model.init"] == "uniform"


def test_none_of_an_amount_is_told_beside_some_and_not_by_itself() -> None:
    told = dict(filled({"a": CONFIG, "b": changed(CONFIG, attack__iterations=0)}).amounts)
    assert told["attack.iterations"] == "1,500; 0 (B)"
    assert "attack.iterations" not in dict(filled({"a": changed(CONFIG, attack__iterations=0)}).amounts)
    assert not {"examples, prior", "fl_setting.local_steps", "attack.lr"} & told.keys()


def test_columns_are_told_by_what_their_names_share() -> None:
    names = [f"{m}_{b}_{e}" for m in "ab" for b in "12" for e in "xyz"]

    def told(*parts: str, only: tuple[str, ...] = ()) -> str:
        less = {n for n in names if set(parts) <= set(n.split("_")) and (not only or n in only)}
        every = {n: changed(CONFIG, attack__iterations=7) if n in less else CONFIG for n in names}
        return dict(filled(every).amounts)["attack.iterations"]

    assert told("2", "x") == "1,500; 7 (A, 2, X, B, 2, X)"
    assert told("a", "2") == "1,500; 7 (A, 2)"
    assert told("x") == "1,500; 7 (X)"
    assert told(only=("a_1_x", "a_1_y", "b_2_y")) == "1,500; 7 (A, 1, X, A, 1, Y, B, 2, Y)"


def test_models_that_are_seen_before_the_end_are_named() -> None:
    last, early = changed(CONFIG, fl_setting__released="last"), changed(CONFIG, fl_setting__released=3)
    assert dict(filled({"a": last, "b": early}).amounts)["fl_setting.released"] == "3 (B)"
    assert "fl_setting.released" not in dict(filled({"a": last, "b": last}).amounts)


def test_what_is_no_amount_and_not_the_papers_is_named() -> None:
    ours = {"a": CONFIG, "b": changed(CONFIG, fl_setting__lr=0.1), "c": CONFIG}
    paper = {"a": changed(CONFIG, fl_setting__epochs=300, fl_setting__lr=1e-4, attack__memory=8.0), "c": CONFIG}
    paper["b"] = changed(CONFIG, fl_setting__lr=1e-4, attack__iterations=7000)
    made = filled(ours, paper)
    assert dict(made.changes) == {"fl_setting.lr": "0.01 instead of 0.0001 (A); 0.1 instead of 0.0001 (B)"}
    text = table_text(made)
    assert ("not only an amount: fl_setting.lr", dict(made.changes)["fl_setting.lr"]) in text.conditions
    assert "amounts of work reduced, and fl_setting.lr changed; these are not" in str(text.warning)
    same = filled(ours, ours)
    assert not same.changes
    assert "changed" not in str(table_text(same).warning)


AMOUNT = re.compile(
    r"^\d[\d,]* (victims|images)|same runs|scale=\w+[^.]*?\b(\d[\d,]*|two|three|four|five|six|eight|ten|sixteen) "
    r"(victims|images|iterations|epochs|rounds|seeds|shadows|targets|pairs|filters|fixed records)\b"
)


@pytest.mark.parametrize("name", tables_in(CONF))
def test_a_note_states_no_amount_of_a_run(name: str) -> None:
    """They are computed below the table, so that a note cannot contradict them."""
    notes = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())["table"].get("notes", [])
    texts = [text for note in notes for text in ([note] if isinstance(note, str) else note.values())]
    assert [text for text in texts if AMOUNT.search(text)] == []


@pytest.mark.parametrize("name", tables_in(CONF))
def test_a_note_of_one_scale_is_not_shown_at_another(name: str) -> None:
    notes = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())["table"].get("notes", [])
    assert [note for note in notes if isinstance(note, str) and note.startswith("At scale=")] == []


def test_the_page_warns_of_a_subset_and_of_uncommitted_changes() -> None:
    table = Table.from_config({
        "title": "t", "place": "p", "seeds": [0], "rows": {"ssim": {"label": "SSIM", "metric": "ssim"}},
        "columns": {"a": {"label": "A", "overrides": ["model=a"]}, "b": {"label": "B", "overrides": ["model=b"]}},
    })  # fmt: skip

    def warned(commit: str, **sizes: int) -> str | None:
        of = {"a": {"train": 5, **sizes}, "b": {"train": 5}}
        records = {
            f"{c}-s0": {"signature": c, "status": "complete", "metrics": {"ssim": 0.5}, "sizes": of[c],
                        "environment": {"commit": commit}}
            for c in "ab"
        }  # fmt: skip
        return table_text(fill_table(table, records, "paper")).warning

    assert warned("abc") is None
    assert warned("abc+") == "made with uncommitted changes to abc+"
    assert warned("abc", file=2400, published=58954) == "dataset: a subset: 2,400 of 58,954 published examples (A)"
