"""A table: its check and its jobs; and the tables that come with the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from table_world import JUDGED, config, record

from privsweep.interface.errors import UserError
from privsweep.run.compose import compose, searching
from privsweep.table.fill import fill_table
from privsweep.table.number_format import UNKNOWN, parse
from privsweep.table.spec import Table

EXPERIMENTS = Path(__file__).parents[2] / "conf" / "experiment"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (3, "a note is a text, or has one for the scales"),
        ({"quik": "a"}, "a note is a text"),
        ({"half": 3}, "is no text"),
    ],
)
def test_a_note_is_a_text_or_one_for_each_scale_that_it_speaks_of(note: object, said: str) -> None:
    made = Table.from_config(config(notes=["always", {"quick": "of little work", "paper": "of all"}]))
    assert made.notes_at("quick") == ["always", "of little work"]
    assert made.notes_at("paper") == ["always", "of all"]
    assert made.notes_at("smoke") == ["always"]
    with pytest.raises(UserError, match=rf"table\.notes\.0: {said}"):
        Table.from_config(config(notes=[note]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rowz": {}}, r"table\.rowz: no such key; did you mean rows\?"),
        ({"zzz": 1}, r"table\.zzz: no such key; there are title, place, rows"),
        ({"figure": {}}, r"table\.figure: no such key; move it one level up, beside table"),
        ({"findings": [{"id": "a", "clam": "b"}]}, r"table\.findings\.0\.clam: no such key; did you mean claim\?"),
        ({"findings": [{"claim": "b"}]}, r"table\.findings\.0\.id: has no value; set it: a short name of the claim"),
        ({"rows": {"a": {"metric": "mse"}}}, r"table\.rows\.a\.label: has no value; set it: what stands"),
        ({"rows": {}}, "table.rows"),
        ({"seeds": []}, "table.seeds"),
        ({"seeds": [0, 0]}, "seed 0 is given twice"),
        ({"seeds": [-1]}, "table.seeds.0"),
        ({"rows": {"A b": {"label": "x", "metric": "mse"}}}, "A b"),
        ({"rows": {"a": {"label": "x"}}}, "must read one number"),
        ({"rows": {"a": {"label": "x", "metric": "mse", "colour": "red"}}}, "colour"),
        ({"rows": {"a": {"label": "x", "metric": "mse", "aggregate": "best"}}}, "aggregate"),
        ({"rows": {"a": {"label": "x", "metric": "mse", "format": "99999f"}}}, "format"),
        ({"rows": {"a": {"label": "x", "metric": "mse; rm"}}}, "metric"),
        ({"printed": {"iterations": {"vgg": "3"}}}, r"printed\.iterations\.vgg names no cell"),
        ({"printed": {"nothing": {"lenet": "3"}}}, r"printed\.nothing\.lenet names no cell"),
        ({"printed": {"iterations": {"lenet": 31}}}, r"printed\.iterations\.lenet"),
        ({"columns": {"a": {"label": "a", "overrides": ["model"]}}}, "overrides"),
        ({"columns": {"a": {"label": "a", "overrides": ["seed=1"]}}}, "sets seed twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        Table.from_config(config(**{"printed": {}, "findings": [], **changes}), "my/table")
    assert str(refusal.value).startswith("experiment=my/table: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (
            {"kind": "pictures", "victim": 3},
            r"figure\.victim: no such key; did you mean victims\?; .*figure\.row: has no value",
        ),
        ({"kind": "bars", "row": "time", "panels": [{"titel": "A"}]}, r"figure\.panels\.0\.titel: .* mean title\?"),
    ],
)
def test_unknown_keys_of_a_figure_are_told(figure: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Table.from_config(config(), "my/table", figure)


@pytest.mark.parametrize("name", ["../table1", "/elsewhere/table1", "zen/.."])
def test_a_name_that_leads_out_of_the_output_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"^experiment={name}: leads out of the output folder"):
        Table.from_config(config(), name)


def test_findings_are_checked_when_the_table_is_read() -> None:
    finding = config()["findings"][0]
    with pytest.raises(UserError, match="finding f1 is given twice"):
        Table.from_config(config(findings=[finding, finding]))
    with pytest.raises(UserError, match=r"experiment=table: table\.findings\.f1: .*__import__"):
        Table.from_config(config(findings=[{**finding, "check": "__import__('os')"}]))
    with pytest.raises(UserError, match="the printed numbers give True"):
        Table.from_config(config(findings=[{**finding, "holds_in_print": False}]))


# --- jobs -----------------------------------------------------------------------------------------------


def test_rows_of_metrics_share_a_run() -> None:
    jobs = Table.from_config(config()).jobs()
    assert [job.id for job in jobs] == [f"{c}-s{s}" for s in range(3) for c in ("lenet", "alexnet")]
    assert jobs[1].overrides == ("model=alexnet", "model.init=uniform", "seed=0")
    assert jobs[1].cells == (("iterations", "alexnet", 0), ("time", "alexnet", 0))


def test_overrides_for_every_cell_come_first() -> None:
    jobs = Table.from_config(config()).jobs(["fl_setting.clients=2"])
    assert jobs[0].overrides == ("fl_setting.clients=2", "model=lenet_dlg", "seed=0")


def test_rows_with_overrides_multiply_and_equal_cells_share() -> None:
    rows = {
        "plain": {"label": "SSIM", "metric": "ssim"},
        "noisy": {"label": "SSIM, noisy", "metric": "ssim", "overrides": ["defense=[noisy_gradients]"]},
    }
    columns = {
        "lenet": {"label": "LeNet", "overrides": ["model=lenet"]},
        "same": {"label": "LeNet again", "overrides": ["model=lenet"]},
        "default": {"label": "as it is"},
    }
    table = Table.from_config(config(rows=rows, columns=columns, seeds=[7], printed={}, findings=[]))
    jobs = {job.id: job for job in table.jobs()}
    assert list(jobs) == ["lenet-s7", "noisy.lenet-s7", "default-s7", "noisy-s7"]
    assert len({job.overrides for job in jobs.values()}) == 4
    assert [cell for job in jobs.values() for cell in job.cells].count(("plain", "same", 7)) == 1
    assert jobs["lenet-s7"].cells == (("plain", "lenet", 7), ("plain", "same", 7))
    assert table.keys() == {"model", "defense", "seed"}


def test_a_row_of_utility_leaves_out_the_attack_of_its_column() -> None:
    rows = {
        "ssim": {"label": "SSIM", "metric": "ssim"},
        "accuracy": {"label": "Accuracy", "metric": "utility.test_accuracy", "overrides": ["attack=none"]},
    }
    columns = {
        "plain": {"label": "Plain", "overrides": ["model=smlp"]},
        "aware": {"label": "Aware", "overrides": ["model=smlp", "attack.match=deterministic_layers"]},
        "exact": {"label": "Exact", "overrides": ["model=smlp", "attack=analytic"]},
    }
    table = Table.from_config(config(rows=rows, columns=columns, seeds=[0], printed={}, findings=[]))
    jobs = {job.id: job for job in table.jobs()}
    assert list(jobs) == ["plain-s0", "accuracy.plain-s0", "aware-s0", "exact-s0"]
    assert jobs["accuracy.plain-s0"].cells == tuple(("accuracy", c, 0) for c in columns)


def test_columns_may_name_the_metric() -> None:
    rows = {"none": {"label": "no defence", "overrides": ["defense=[]"]}}
    columns = {"ssim": {"label": "SSIM", "metric": "ssim"}, "mse": {"label": "MSE", "metric": "mse"}}
    table = Table.from_config(config(rows=rows, columns=columns, seeds=[0], printed={}, findings=[]))
    (job,) = table.jobs()
    filled = fill_table(table, {job.id: record(1.0, metrics={"ssim": 0.5, "mse": 2.0})}, "paper")
    assert [filled.cells["none", c].value for c in ("ssim", "mse")] == [0.5, 2.0]


def test_cells_that_set_nothing_of_their_own_share_their_run() -> None:
    jobs = Table.from_config(config(**JUDGED)).jobs()
    assert len(jobs) == 6
    assert {len(job.cells) for job in jobs if job.id.startswith("base")} == {2}


# --- the tables that come with the program ---------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_experiment_holds_in_print_what_it_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n# privsweep experiment=")
    name = f"{path.parent.name}/{path.stem}"
    with searching(None):
        config = compose([f"experiment={name}"]).config
    table = Table.from_config(config["table"], name, config.get("figure"))
    assert table.printed or table.findings  # of a figure the paper prints no numbers
    for finding in table.findings:
        assert table.in_print(finding) is finding.holds_in_print
    for cells in table.printed.values():
        assert UNKNOWN not in [parse(printed) for printed in cells.values()]


def test_the_tables_of_zen_are_there() -> None:
    assert {p.stem for p in (EXPERIMENTS / "zen").glob("*.yaml")} >= {"table1", "table2", "table3"}
