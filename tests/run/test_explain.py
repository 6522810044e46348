"""What cannot be composed is told with what there is instead: in the choices that the command made."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from privsweep.interface.errors import UserError
from privsweep.run.compose import compose, searching


def refusal(*typed: str, config_dir: str | None = None) -> str:
    with searching(config_dir), pytest.raises(UserError) as caught:
        compose(typed)
    [line] = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("attack=generative_decoder attack.decodr=mirror", "did you mean attack.decoder?"),
        ("attack=blind attack.gues=grey", "did you mean attack.guess?"),
        ("attack=blind attack.zzz=1", "attack.zzz: no such key; attack has guess"),
        ("attack=iga attack.decoder=mirror", "attack=generative_decoder, shadow_inversion have it, attack=iga has not"),
        ("attack=blind attack.decay=1", "attack=cpl, dlg, "),
        ("hydra.launcher.partition=gpu", "hydra/launcher=slurm, "),
        ("hydra.job.env_set={A:b}", "has no such keys yet; to add them, put a + before it: +hydra.job.env_set=..."),
        ("fl_setting.captur.round=1", "did you mean fl_setting.capture.round?"),
        ("restarts=4", "did you mean attack.restarts?"),
        ("hydra.rn.dir=a", "did you mean hydra.run.dir?"),
        ("defense.noisy_gradients.sigma=1", "it goes with 'defense=[noisy_gradients]'"),
        ("defense=[noisy_gradients] defense.noisy_gradients.sgma=1", "did you mean defense.noisy_gradients.sigma?"),
    ],
)
def test_a_key_is_looked_for_in_the_choices_that_were_made(typed: str, hint: str) -> None:
    assert hint in refusal(*typed.split())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "experiment=zen/table99",
            "experiment=zen/table99: no such choice; did you mean zen/table9? choices: zen/audit, zen/differences, ",
        ),
        ("experiment=zne/table2", "did you mean zen/table2? see privsweep --help"),
        ("experiment=table2", "did you mean ensembler/table2 or precode/table2 or zen/table2?"),
        ("experiment=informed", "choose one of: informed/audit, informed/fig10, "),
        ("defense=[nosy]", "defense=nosy: no such choice; choose one of: central_dp, dp_sgd, "),
        ("defense=[precode,shreder]", "defense=shreder: no such choice; did you mean shredder? choices: "),
        ("dataset@prior=mnst", "dataset@prior=mnst: no such choice; did you mean mnist? choices: celeba_hq, "),
    ],
)
def test_a_choice_that_there_is_not_is_told_with_those_that_there_are(typed: str, said: str) -> None:
    line = refusal(typed)
    assert said in line
    assert line.endswith("; one of your own comes with --config-dir=FOLDER")
    assert ("precode/" in line) == (typed == "experiment=table2")  # of many, those of the same folder


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("dataset=npz", "dataset.path: has no value, and npz needs one; set dataset.path=... (the .npz)"),
        ("dataset@prior=folder", "prior.path: has no value, and folder needs one; set prior.path=... (the folder)"),
        ("dataset=unseen", "set dataset.shape=... (channels, height and width of an image: [3,32,32])"),
    ],
)
def test_a_value_that_is_missing_is_told_with_what_it_is(typed: str, said: str) -> None:
    assert said in refusal(typed)


def test_ones_own_choices_are_listed_too(tmp_path: Path) -> None:
    own = tmp_path / "experiment" / "mine" / "first.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\nseed: 1\n")
    said = refusal("experiment=mine/frist", config_dir=str(tmp_path))
    assert said.endswith("did you mean mine/first? choices: mine/first")


def test_a_preset_whose_plugin_is_not_installed_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Plugins.instance()  # has found by now what is installed
    groups = ConfigStore.instance().repo["hydra"]
    for group, plugin in [("launcher", "submitit_slurm.yaml"), ("sweeper", "optuna.yaml")]:
        monkeypatch.delitem(groups[group], plugin, raising=False)
    monkeypatch.setattr("privsweep.run.hydra_settings._installed", lambda package: False)
    own = tmp_path / "hydra" / "launcher" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [submitit_slurm, _self_]\n")
    slurm = "the SLURM launcher is not installed; run: pip install 'privsweep[slurm]'"
    optuna = "Optuna's sweeper is not installed; run: pip install 'privsweep[optuna]'"
    for typed, said in [
        ("hydra/sweeper=optuna", f"hydra/sweeper=optuna: {optuna}"),
        ("hydra/sweeper=search", f"hydra/sweeper=search: {optuna}"),
        ("hydra/launcher=mine", f"hydra/launcher=mine: {slurm}"),
        ("hydra/launcher=slurm", f"hydra/launcher: {slurm}"),
        ("hydra/launcher=slurm_gpu", f"hydra/launcher: {slurm}"),
    ]:
        assert refusal(typed, config_dir=str(tmp_path)) == said
