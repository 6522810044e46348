"""What the command line sets besides reaches the cells that it concerns."""

from pathlib import Path

import pytest
from conftest import Privsweep
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

import privsweep as library
from privsweep.cli import sweep
from privsweep.cli.combinations import expand
from privsweep.interface.errors import UserError
from privsweep.run.compose import parse, searching

EXPERIMENT = """\
# @package _global_
defaults:
  - override /attack: dlg
table:
  title: A small table
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
    accuracy: {label: Accuracy, metric: utility.test_accuracy, overrides: [attack=none]}
  columns:
    plain: {label: Plain, overrides: ["defense=[]"]}
    noisy: {label: Noisy, overrides: ["defense=[noisy_gradients]"]}
    weak: {label: Weak, overrides: ["defense=[noisy_gradients]", defense.noisy_gradients.sigma=0.5]}
    exact: {label: Exact, overrides: ["defense=[noisy_gradients]", attack=analytic, attack.agreement=0.5]}
  seeds: "${at_scale:[0,1,2],[0,1],[0]}"
figure:
  {kind: bars, row: mse, xlabel: x, ylabel: y, x: [a], panels: [{title: "", series: [{label: a, columns: [plain]}]}]}
"""


@pytest.fixture
def planned(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "small.yaml").write_text(EXPERIMENT)

    def plan(*overrides: str) -> sweep.SweepPlan:
        return sweep.stored("small", [f"output_dir={tmp_path}/out", *overrides], str(tmp_path))

    return plan


def test_an_attacks_parameter_reaches_the_cells_that_attack(planned) -> None:  # type: ignore[no-untyped-def]
    runs = planned("scale=smoke", "attack.iterations=7").runs
    assert len(runs) == 7  # the accuracy of an attack's column is that of its network
    given = {run.spec.choices["attack"]: run.spec.config["attack"].get("iterations") for run in runs}
    assert given == {"dlg": 7, "none": None, "analytic": None}
    with pytest.raises(UserError, match=r"attack\.iteration: no such key"):
        planned("scale=smoke", "attack.iteration=7")


def test_a_defences_parameter_reaches_the_cells_that_have_it(planned) -> None:  # type: ignore[no-untyped-def]
    runs = {run.name: run.spec.config["defense"] for run in planned("scale=smoke").runs}
    sigma = {name: node.get("noisy_gradients", {}).get("sigma") for name, node in runs.items()}
    assert sigma["weak-s0"] == 0.5
    assert sigma["plain-s0"] is None
    assert sigma["noisy-s0"] == 0.01
    with pytest.raises(UserError, match=r"noisy_gradient\.sigma=1: no cell .* has noisy_gradient; .* noisy_gradients,"):
        planned("scale=smoke", "defense.noisy_gradient.sigma=1")


def test_seeds_may_depend_on_the_scale_and_the_figure_comes_along(planned) -> None:  # type: ignore[no-untyped-def]
    made = planned("scale=quick")
    assert made.table is not None
    assert made.table.seeds == [0, 1]
    assert made.table.figure is not None
    with pytest.raises(UserError, match=r"figure\.row=nothing: the table has no such row"):
        planned("figure.row=nothing")


def test_only_some_columns_run_and_the_others_are_shown_as_far_as_they_are_stored(planned) -> None:  # type: ignore[no-untyped-def]
    made = planned("scale=smoke", "only=[plain]")
    assert {run.name for run in made.runs} == {"plain-s0", "accuracy.plain-s0"}
    with pytest.raises(
        UserError, match=r"only=plane: give a list of columns or rows, of plain, noisy, weak, exact and "
    ):
        planned("scale=smoke", "only=[plane]")


def test_rows_are_run_as_columns_are_and_both_leave_what_they_share(planned) -> None:  # type: ignore[no-untyped-def]
    of_a_row = {run.name for run in planned("scale=smoke", "only=[accuracy]").runs}
    assert "accuracy.plain-s0" in of_a_row
    assert all(name.startswith("accuracy.") for name in of_a_row)
    assert {run.name for run in planned("scale=smoke", "only=[accuracy,plain]").runs} == {"accuracy.plain-s0"}


def test_a_table_is_laid_out_without_the_columns_whose_dataset_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = EXPERIMENT.replace('overrides: ["defense=[]"]', 'overrides: ["defense=[]", dataset=medical_mnist]')
    (tmp_path / "experiment" / "small.yaml").write_text(text)
    given = [f"output_dir={tmp_path}/out", f"data_dir={tmp_path}/data", "scale=smoke"]
    names = [run.name for run in sweep.stored("small", given, str(tmp_path)).runs]
    assert "noisy-s0" in names
    assert "plain-s0" not in names
    with pytest.raises(UserError, match="medical_mnist"):
        sweep.plan(["experiment=small", *given], str(tmp_path), multirun=False)


def test_a_reference_that_is_typed_is_to_what_each_run_has(
    privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["attack.iterations=2", "fl_setting.rounds=0", "attack.lr=${fl_setting.lr}"]
    assert privsweep("-m", *typed, "fl_setting.lr=0.25,0.5") == 0
    stored = library.records(config=["attack.lr", "fl_setting.lr"])
    assert sorted(stored["attack.lr"]) == sorted(stored["fl_setting.lr"]) == [0.25, 0.5]
    capsys.readouterr()
    assert privsweep(*typed[:2], "attack.lr=0.5", "fl_setting.lr=0.5") == 0
    assert "stored on" in capsys.readouterr().out  # it is the run with that value
    assert privsweep("attack.lr=${nosuch}") == 2
    assert "attack.lr: Interpolation key 'nosuch' not found" in capsys.readouterr().err


def test_results_go_where_the_shell_says_whatever_its_name(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    typed = ["attack=blind", "fl_setting.rounds=0", "output_dir=~/größe=1"]
    assert privsweep("-m", *typed, "seed=0,1") == 0
    assert privsweep(*typed, "seed=2") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["größe=1"]
    assert len(library.records(tmp_path / "größe=1")) == 3


@pytest.mark.parametrize(
    "swept", ["output_dir=a,b", "data_dir=a,b", "device=cpu,auto", "force=true,false", "tracker=mlflow,wandb"]
)
def test_what_holds_for_a_whole_command_is_not_swept(
    swept: str, privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["-m", swept], [swept]):
        assert privsweep(*arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert f"{swept}: {swept.partition('=')[0]} holds for all runs of a command; give it one value" in line
        assert ("in quotes: '" in line) == ("_dir" in swept)
    assert not list(tmp_path.iterdir())


def test_runs_are_numbered_as_hydra_numbers_them_where_a_key_is_typed_again() -> None:
    """By number a launcher leaves out what is stored: of another order it would leave out what is missing."""
    for typed in (["scale=smoke", "seed=0,1", "scale=smoke,quick"], ["seed=0,1", "attack.lr=1,2", "attack.lr=3"]):
        with searching(None):
            overrides = parse(typed)
        [theirs] = BasicSweeper.split_arguments(overrides, None)
        assert [list(ours) for ours in expand(overrides)] == theirs


@pytest.mark.parametrize(
    ("typed", "twice"),
    [
        ("seed=0,0.0", "seed=0 and seed=0.0 is given 2"),
        ("seed=1,2,2.0,2", "seed=2 and seed=2.0 is given 3"),
        ("attack.lr=1,10,1e1", "attack.lr=10 and attack.lr=10.0 is given 2"),
        ("attack=dlg,idlg,dlg", "attack=dlg is given 2"),
    ],
)
def test_a_value_that_is_given_again_is_refused_however_it_is_written(typed: str, twice: str) -> None:
    """Of a seed, it would count as two, with a deviation of 0."""
    with searching(None), pytest.raises(UserError, match=f"^{typed}: {twice} times, for one run; keep one$"):
        expand(parse([typed]))


def test_a_value_counts_where_its_choice_is_made_and_nothing_runs_twice(
    privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = ["defense=[],[noisy_gradients]", "defense.noisy_gradients.sigma=0.01,0.1"]
    assert privsweep("-m", "attack=blind", "fl_setting.rounds=0", *noise) == 0
    shown = capsys.readouterr().out
    assert "defense.noisy_gradients.sigma=0.01: not set where defense=[]" in shown
    assert "3 of 3 runs done" in shown
    assert len(library.records(tmp_path / "outputs")) == 3
    planned = sweep.plan(["attack=dlg,prior_mean", "attack.iterations=5,6", "scale=smoke"], None, multirun=True)
    assert [run.name for run in planned.runs] == ["0", "1", "2"]
    assert planned.unset == [f"attack.iterations={n}: not set where attack=prior_mean" for n in (5, 6)]
    again = ["attack=dlg,prior_mean", "attack.iterations=5", "scale=smoke", "attack=prior_mean"]
    for typed, told in (
        (["attack=dlg,prior_mean", "attack.lrr=5"], "lrr: no such key"),
        (again, "iterations: no such"),
    ):
        with pytest.raises(UserError, match=told):
            sweep.plan(typed, None, multirun=True)
