"""Numbers that no run can have are told before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Privsweep
from tiny import small_table
from translation_world import write_pairs

from privsweep.cli.combinations import expand
from privsweep.run.build import build
from privsweep.run.compose import compose, parse, searching
from privsweep.run.reported import can_report, nearest_number

TABLE = """\
# @package _global_
defaults:
  - override /attack: blind
table:
  title: A small table
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
    error: {label: Error, metric: METRIC}
  columns:
    grey: {label: Grey, overrides: [attack.guess=grey]}
  seeds: [0]
"""
OWN = """
import torch
from privsweep import AttackBase, Reconstruction, ThreatModel, Update, component

@component
class Own(AttackBase):
    observes = Update
    needs = frozenset({"domain"})
    threat = ThreatModel(frozenset({"train"}), frozenset({"server"}), "white-box")
    REPORTS

    def __call__(self, seen, known, prepared, bench, rng):
        images = torch.zeros(len(seen.victims), seen.examples, *known.domain.shape)
        none = torch.zeros(len(images), dtype=torch.bool)
        return Reconstruction(images, none, diagnostics={"surprise": torch.ones(len(images))})
"""


@pytest.mark.parametrize(
    ("typed", "summary", "says"),
    [
        ("attack=blind,none", "[ssmi]", "=[ssmi]: no run of this sweep can have such a number; did you mean ssim?"),
        ("attack=blind,none", "[ssim,auc]", "no run of this sweep can have such a number; there are asr, bleu, div"),
        ("attack=blind,dlg", "[bleu]", "=[bleu]: no run of this sweep can have such a number; "),
        ("attack=none fl_setting=central,fedavg", "[ssim]", "summary=[ssim]: no run of this sweep can have"),
        ("attack=blind,none", "[test_acuracy]", "did you mean test_accuracy?"),
        ("attack=blind,none", "[seconds.atack]", "did you mean seconds.attack?"),
        ("attack=blind,none", "[config.attack.guss]", "summary=[config.attack.guss]: no run"),
        ("attack=blind,none", "[privacy.dp_sgd.epsilon]", "summary=[privacy.dp_sgd.epsilon]: no run"),
        ("attack=blind,none", "[metrics.mse,whatever.mse]", "summary=[whatever.mse]: no run"),
        ("attack=blind,none", "[parameters]", "did you mean sizes.parameters?"),
    ],
)  # fmt: skip
def test_a_summary_of_what_no_run_can_have_is_refused(
    typed: str, summary: str, says: str, tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    for plan in (["plan=true"], []):
        assert privsweep("-m", *typed.split(), f"summary={summary}", *plan) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert says in line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("typed", "there", "others"),
    [
        ("attack=dlg,iga", {"ssim", "recovered", "test_accuracy"}, {"overlap", "bleu", "validation_loss", "auc"}),
        ("fl_setting=split", {"ssim", "test_accuracy"}, {"overlap", "bleu", "token_accuracy"}),
        ("dataset=multi30k attack=dager", {"overlap", "bleu", "validation_loss"}, {"ssim", "psnr", "auc"}),
        ("attack=none", {"test_accuracy", "bleu", "validation_loss"}, {"ssim", "overlap"}),
        ("dataset=multi30k attack=shadow_transcription", {"token_accuracy", "bleu"}, {"ssim", "recovered"}),
    ],
)
def test_names_are_offered_that_the_run_can_have(typed: str, there: set[str], others: set[str], tmp_path: Path) -> None:
    pairs = f"data_dir={write_pairs(tmp_path)}"
    with searching(None):
        specs = [build(compose([*o, pairs])) for o in expand(parse(typed.split()))]
    told = nearest_number("zzzzz", specs)
    offered = set(told.removeprefix("there are ").split(", "))
    assert there <= offered
    assert not others & offered
    assert all(any(can_report(spec, name) for spec in specs) for name in there)
    assert not any(can_report(spec, name) for spec in specs for name in others)


def test_what_some_run_may_have_is_taken(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    names = "ssim_median,asr_paper,final_test_accuracy,seconds.attack,sizes.parameters,config.attack.guess,update_norm"
    typed = ("-m", "attack=blind", "metrics.paper_scale=zen", "defense=[],[noisy_gradients]", "plan=true")
    assert privsweep(*typed, f"summary=[{names}]") == 0
    told = capsys.readouterr()
    assert not told.err
    assert "summary=" not in told.out, "a run's line says what the run is"


@pytest.mark.parametrize(("declared", "code"), [("", 0), ('reports = frozenset({"marvel"})', 2)])
def test_an_own_attack_may_report_anything_unless_it_declares_what(
    declared: str, code: int, tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"own_reports_{code}"
    (tmp_path / f"{package}.py").write_text(OWN.replace("REPORTS", declared))
    (tmp_path / "conf" / "attack").mkdir(parents=True)
    (tmp_path / "conf" / "attack" / "own.yaml").write_text(f"_target_: {package}.Own\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PRIVSWEEP_TRUST", package)
    own = ("--config-dir", str(tmp_path / "conf"), "-m", "attack=own", "seed=0,1")
    assert privsweep(*own, "summary=[surprise,ssim]") == code


def test_a_table_of_what_no_run_can_have_is_refused(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = small_table(tmp_path, TABLE.replace("METRIC", "pnsr"))
    assert privsweep(*typed) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "privsweep: table.rows.error.metric=pnsr: none of its runs can have such a number; did you mean psnr?"
    )
    assert not (tmp_path / "outputs").exists()
    (tmp_path / "conf" / "experiment" / "small.yaml").write_text(TABLE.replace("METRIC", "psnr_median"))
    assert privsweep(*typed) == 0


def test_a_number_that_runs_left_out_may_have_is_not_refused(tmp_path: Path, privsweep: Privsweep) -> None:
    """Those of a table that are stored, or that ``only`` leaves for later, count with those that are to do."""
    text = TABLE.replace("METRIC", "privacy.dp_sgd.epsilon").replace(
        "  seeds:", "    private: {label: Private, overrides: ['defense=[dp_sgd]']}\n  seeds:"
    )
    typed = small_table(tmp_path, text)
    assert privsweep(*typed, "only=[grey]", "plan=true") == 0
    assert privsweep(*typed, "only=[private]") == 0
    assert privsweep(*typed, "plan=true") == 0
