"""A search for the best values, with the real Optuna."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import Privsweep
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tiny import TINY

from privsweep.cli import search, states, status
from privsweep.cli.search_space import drawn
from privsweep.cli.trials import Trial, Trials
from privsweep.interface.errors import UserError
from privsweep.run.build import build
from privsweep.run.compose import compose, parse, searching
from privsweep.run.hydra_settings import check_hydra
from privsweep.run.objective import objective_of
from privsweep.store.store import Store
from privsweep.store.sweeps import Cell

SEARCH = ("-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=3")
Optuna = Callable[..., int]


@pytest.fixture
def optuna(privsweep: Privsweep) -> Optuna:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install 'privsweep[optuna]'")
    return lambda *arguments: privsweep(*SEARCH, *arguments)


def test_a_search_without_m_is_told(optuna: Optuna, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    for chosen in ("search", "optuna"):
        assert privsweep(f"hydra/sweeper={chosen}", "plan=true") == 2
        told = f"hydra/sweeper={chosen}: searches with -m alone, and this is one run; write -m hydra/sweeper=search and"
        assert told in capsys.readouterr().err


def test_a_search_finds_the_best_and_says_how_to_see_it_again(
    optuna: Optuna, privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("objective=metrics.mse", "attack=blind", "attack.guess=noise,grey")
    assert optuna(*asked, "plan=true") == 0
    assert "a search of 3 trials" in capsys.readouterr().out
    assert optuna(*asked) == 0
    shown = capsys.readouterr().out
    assert "best of 3 trials (2 different): attack.guess=grey" in shown
    frame = pd.read_csv(next((tmp_path / "outputs" / "summaries").glob("*.csv")))
    assert list(frame["trial"]) == [0, 1, 2]
    assert frame["metrics.mse"].idxmin() == frame.index[frame["attack.guess"] == "grey"][0]
    [again] = [line.partition("privsweep ")[2] for line in shown.splitlines() if "to see it again" in line]
    stored = {path.name for path in (tmp_path / "outputs" / "runs").iterdir()}
    assert privsweep(*again.split(), tiny=False) == 0
    assert {path.name for path in (tmp_path / "outputs" / "runs").iterdir()} == stored
    with searching(None):
        stored_one, refused, to_do = (
            Trials(["attack.guess"], "metrics.mse", False, asked).settled([*TINY, *asked[:2], *own], 7)
            for own in (["attack.guess=grey"], ["attack.guess=pink"], ["attack.guess=grey", "seed=9"])
        )
    assert isinstance(stored_one, Trial)
    assert (stored_one.number, stored_one.words) == (7, "attack.guess=grey")
    assert stored_one.value == frame["metrics.mse"].min()
    assert isinstance(refused, Trial)
    assert "attack.guess=pink" in str(refused.error)
    assert isinstance(to_do, Cell)
    own = tmp_path / "my_conf"
    own.mkdir()
    assert optuna(*asked, "hydra.sweeper.direction=maximize", "--config-dir", str(own)) == 0
    shown = capsys.readouterr().out.split("best of")[1]
    assert "attack.guess=noise" in shown
    assert f"to see it again: privsweep --config-dir {own} " in shown
    assert optuna(*asked, "wait=false") == 2  # its ends are stored, and still its launcher is looked at
    assert "wait=false: only SLURM" in capsys.readouterr().err


def test_a_number_that_no_trial_has_ends_the_search_after_the_first_and_then_before_it(
    optuna: Optuna, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("objective=metrics.mse_mean", "attack=blind", "fl_setting.lr=tag(log,interval(0.001,0.1))")
    assert optuna(*asked) == 1
    shown, said = capsys.readouterr()
    assert shown.count("metrics.mse_mean failed") == 1  # of three trials
    assert "the run has no such number; did you mean metrics.mse_median? of metrics there are mse" in said
    assert "Traceback" not in shown + said
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 1
    known = ("objective=metrics.mse_mean", "attack=blind", "attack.guess=grey,noise", "hydra.sweeper.n_trials=2")
    assert optuna(*known) == 1
    assert capsys.readouterr().out.count("metrics.mse_mean failed") == 2  # other values could have had it
    assert optuna(*known) == 2  # of both there is a record now
    assert "did you mean metrics.mse_median?" in capsys.readouterr().err
    assert optuna("objective=metrics.mes", *asked[1:]) == 2, "no trial can have it"
    assert "no trial can have such a number; did you mean metrics.mse?" in capsys.readouterr().err


def test_a_trial_without_the_number_fails_alone(
    optuna: Optuna, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert optuna("objective=metrics.mse", "attack=none,blind", "fl_setting.rounds=0") == 1
    shown, said = capsys.readouterr()
    assert "best of" in shown
    assert "attack=blind  metrics.mse" in shown
    assert "attack=none: objective=metrics.mse: the run has no such number" in said
    assert optuna("objective=metrics.mse", "attack=none,blind", "fl_setting.rounds=0", "fail_fast=true") == 1
    assert "best of 1 trial: attack=blind" in capsys.readouterr().out  # none after the one that failed
    for objective in ("metrics.mse", "attack"):
        assert optuna(f"objective={objective}", "attack=none", "fl_setting.lr=interval(0.001,0.1)") == 2
        assert f"objective={objective}: attack=none attacks nothing; choose an attack" in capsys.readouterr().err


def test_the_ends_of_a_search_are_checked_before_it_starts(
    optuna: Optuna, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for swept, named in (
        ("fl_setting.victims=int(interval(1,50))", "fl_setting.victims=50"),
        ("fl_setting.rounds=tag(log,interval(1,4))", "type 'fl_setting.rounds=int(tag(log,interval(1,4)))'"),
        ("attack.guess=grey,pink", "attack.guess=pink"),
        ("defense=[],[noisy]", "noisy"),
        ("seed=0", "something to choose"),
        ("seed=0,1", "seed=0,1: a search would choose the luckiest seed; give it one value"),
        ("fl_setting.victim_seed=range(0,3)", "luckiest fl_setting.victim_seed"),
        ("experiment=zen/table1", "a table is a sweep already"),
        ("hydra.sweeper.direction=[minimize,maximize]", "hydra.sweeper.direction"),
        ("objective=ssim", "objective=ssim"),
        ("fl_setting.lr=interval(1,0.01)", "the smaller number first"),
        ("hydra.sweeper.max_failure_rate=0.5", "fail_fast=true ends a search"),
        ("hydra/sweeper=optuna", "choose hydra/sweeper=search"),
        ("hydra/sweeper/sampler=grid", "hydra/sweeper/sampler=grid: tries every value, as a sweep without"),
        ("hydra.sweeper.params={seed: 3}", "is not used here; type what is swept as key=a,b"),
    ):
        filler = ["fl_setting.lr=0.1,0.2"] if "seed" not in swept and "lr" not in swept else []
        assert optuna(swept, *(["attack=blind"] if "zen" not in swept else []), *filler) == 2
        assert named in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_the_end_of_a_range_is_not_tried(optuna: Optuna, tmp_path: Path) -> None:
    swept = ("fl_setting.rounds=range(1,-1,-1)", "fl_setting.lr=range(0.5,1,0.5)")
    assert optuna(*swept, "attack=blind", "objective=metrics.mse") == 0
    [file] = (tmp_path / "outputs" / "summaries").glob("*.csv")
    frame = pd.read_csv(file)
    assert set(frame["fl_setting.rounds"]) <= {0, 1}
    assert set(frame["fl_setting.lr"]) == {0.5}
    with searching(None):
        [shuffled] = parse(["seed=shuffle(range(1,3))"])
    assert drawn(shuffled) == shuffled.input_line


def test_an_interrupted_search_counts_its_trials(
    optuna: Optuna, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Trials.__call__

    def second(self: Trials, cfg: DictConfig) -> object:
        if HydraConfig.get().job.num == 1:
            raise KeyboardInterrupt
        return whole(self, cfg)

    monkeypatch.setattr(Trials, "__call__", second)
    assert optuna("objective=metrics.mse", "attack=blind", "attack.guess=noise,grey") == 130
    assert "(1 of 3 trials): the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(states, "process_lives", lambda pid, began: False)
    assert status.main([]) == 1
    told = capsys.readouterr().out
    assert "2 runs: 1 not run, 1 done; 1 trial to come" in told
    assert "go on with it: privsweep -m hydra/sweeper=search" in told


def test_an_interval_needs_a_search(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert privsweep("-m", "attack=blind", "fl_setting.lr=interval(0.1,1)") == 2
    assert "hydra/sweeper=search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sweeper", "named"),
    [
        ({"sampler": {"_target_": "evil.Sampler"}}, "hydra.sweeper.sampler._target_"),
        ({"sampler": {"_target_": "optuna.samplers.TPESampler", "gamma": {"_target_": "evil.f"}}}, "gamma._target_"),
        ({"sampler": {"_target_": "optuna.samplers.GridSampler", "_partial_": True}}, "_partial_"),
        ({"custom_search_space": "evil.f"}, "hydra.sweeper.custom_search_space"),
        ({"search_space": {"seed": {"type": "int"}}}, "hydra.sweeper.search_space"),
        ({"storage": "sqlite:////elsewhere/study.db"}, "hydra.sweeper.storage"),
        ({"study_name": "other"}, "hydra.sweeper.study_name"),
    ],
)
def test_a_strangers_sweeper_runs_no_code_and_writes_nowhere(sweeper: dict[str, object], named: str) -> None:
    with searching(None):
        own = compose([]).hydra
    with pytest.raises(UserError, match=named):
        check_hydra({**own, "sweeper": sweeper}, (), "outputs", "job")


def test_no_text_of_a_searchs_table_is_a_formula() -> None:
    trials = [
        Trial(0, {"model.weights": "=cmd()"}, None, None, "@error"),
        Trial(1, {"model.weights": "w"}, "a", -0.5, ""),
    ]
    written = search._texts(["model.weights"], "metrics.mse", trials)[".csv"]
    assert written.splitlines() == [
        "trial,model.weights,metrics.mse,run,error", "0,'=cmd(),,,'@error", "1,w,-0.5,a,",
    ]  # fmt: skip


def test_the_attacks_own_objective_is_the_end_of_its_curve(privsweep: Privsweep, tmp_path: Path) -> None:
    with searching(None):
        dlg, blind = (
            build(compose([*TINY, f"output_dir={tmp_path}/outputs", *own]))
            for own in (["attack=dlg", "attack.iterations=2"], ["attack=blind"])
        )
    assert privsweep("attack=dlg", "attack.iterations=2") == 0
    [path] = tmp_path.glob("outputs/runs/*/curve.csv")
    curve = pd.read_csv(path)
    last = curve[curve["iteration"] == curve["iteration"].max()]["gradient_distance"].mean()
    assert objective_of(dlg, Store(tmp_path / "outputs").records()[0]) == pytest.approx(last)
    path.write_text("iteration,victim,distance\n1,0,9\n2,0,4\n3,0,\n1,1,8\n2,1,inf\n3,1,inf\n1,2,3\n2,2,2\n3,2,0\n")
    assert objective_of(dlg, Store(tmp_path / "outputs").records()[0]) == 4.0  # who diverged counts as it was last
    with pytest.raises(UserError, match=r"choose a number of the record, such as objective=metrics\.mse"):
        objective_of(blind, {})
