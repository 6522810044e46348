"""Every choice runs by its name: it brings what it needs, says so, and changes nothing that was typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Privsweep
from tiny import TINY
from translation_world import write_pairs

import privsweep as library
from privsweep.cli.go_on import go_on
from privsweep.interface.errors import UserError
from privsweep.run.compose import CONF, parse, searching
from privsweep.run.run_spec import RunSpec

ATTACKS = sorted(p.stem for p in (CONF / "attack").glob("*.yaml"))
SENT = ("dropout_ensemble", "dropout_single", "ensembler", "random_head", "shredder", "single_noise")
ONE_OF_A_KIND = ("iga", "generative_decoder", "shadow_inversion", "loss_threshold", "informed_reconstruction", "none")
A_CLIENT = "model=resnet18 model.width=8 fl_setting.epochs=30 fl_setting.augment=none"
Composed = Callable[..., RunSpec]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all, so that what attacks share is trained once."""
    folder = tmp_path_factory.mktemp("companions")
    (folder / "data").mkdir()
    write_pairs(folder / "data")
    return folder


@pytest.fixture(scope="module")
def composed(out: Path) -> Composed:
    return lambda *typed: library.compose(*typed, f"output_dir={out}", f"data_dir={out}/data")


def overrides(spec: RunSpec) -> list[str]:
    return [override for brought in spec.brought.values() for override in brought]


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_runs_by_its_name_as_if_all_had_been_typed(
    name: str, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for picture in ("reconstructions", "curves", "draw_roc"):  # slow, and others' to test
        monkeypatch.setattr(f"privsweep.run.outcome.{picture}", lambda *_: None)
    text = name in {"dager", "shadow_transcription"}
    small = [o for o in TINY if not text or o.startswith(("scale", "fl_setting"))]
    spec = composed(f"attack={name}", *small)
    typed = composed(f"attack={name}", *small, *overrides(spec))
    assert not typed.brought
    assert typed.signature == spec.signature
    record = library.execute(spec)
    assert bool(record["metrics"]) == (name != "none")
    assert library.execute(typed) == {**record, "reused": True}
    if name in ONE_OF_A_KIND:  # what the terminal says to type next is not refused
        with searching(None):
            given = parse([f"attack={name}", *small])
        worked = {"metrics": {"recovered": 1.0, "auc_low": 0.9}}
        command, _ = go_on(spec, worked, given, None)
        again = composed(*shlex.split(command)[1:])
        assert again.signature != spec.signature
        assert name == "none" or all(again.config[k] == v for k, v in spec.config.items() if "defense" not in k)


@pytest.mark.parametrize("setting", ["split", "collaborative_inference", "release"])
def test_a_setting_brings_an_attack(setting: str, composed: Composed) -> None:
    assert composed(f"fl_setting={setting}").choices["attack"] != "dlg"
    assert composed(f"fl_setting={setting}", "attack=none").choices["attack"] == "none"


@pytest.mark.parametrize("name", SENT)
def test_a_defence_of_collaborative_inference_brings_it(name: str, composed: Composed) -> None:
    assert composed(f"defense=[{name}]").choices["fl_setting"] == "collaborative_inference"


@pytest.mark.parametrize(
    ("typed", "brought"),
    [
        ("attack=dlg", ""),
        ("attack=iga fl_setting.labels_known=true", ""),
        ("attack=iga attack.labels=optimised", ""),
        ("attack=analytic model=dmlp", ""),
        ("attack=rmia dataset.prior_size=300", ""),
        ("fl_setting=collaborative_inference attack=shadow_inversion model=lenet", ""),
        ("defense=[single_noise] attack=none", f"fl_setting=collaborative_inference {A_CLIENT}"),
        (
            "defense=[single_noise] attack=none model=smlp",
            "fl_setting=collaborative_inference fl_setting.epochs=30 fl_setting.augment=none",
        ),
        ("attack=rmia fl_setting=split", "model=lenet dataset.prior_size=400 attack.shadows=16"),
        ("attack=generative_decoder model=alexnet fl_setting.cut=pool1", "fl_setting=split dataset.prior_size=400"),
        ("attack=prior_mean fl_setting=split model=lenet fl_setting.capture={mode:train}", "dataset.prior_size=400"),
        ("attack=generative_decoder fl_setting=collaborative_inference fl_setting.access=white_box model=smlp", ""),
        ("attack=informed_reconstruction dataset.prior_size=600 attack.shadows=600 model=smlp", "fl_setting=release"),
    ],
)
def test_what_is_named_wins(typed: str, brought: str, composed: Composed) -> None:
    assert overrides(composed(*typed.split())) == brought.split()


def test_what_does_not_fit_the_data_is_told_with_what_was_brought(
    privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model that clashes may be one that nobody typed."""
    assert privsweep("fl_setting=split", "dataset=digits", "fl_setting.cut=pool3", "plan=true", tiny=False) == 2
    assert re.search(
        "^privsweep: fl_setting.cut=pool3: .*; fl_setting=split brings: .*model=lenet", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("attack=iga fl_setting=split", "attack=iga: observes update"),
        (
            "attack=shadow_inversion fl_setting.clients=4",
            "attack=shadow_inversion brings: fl_setting=collaborative_inf",
        ),
        ("attack=iga attack.brings.model=lenet", "attack.brings.model: only the file of a choice"),
        ("attack=shadow_transcription data_dir=nowhere", "nowhere/multi30k.*attack=shadow_transcription brings: data"),
    ],
)
def test_what_clashes_is_refused_in_a_line(typed: str, reason: str, composed: Composed) -> None:
    with pytest.raises(UserError, match=reason) as error:
        library.compose(*typed.split())
    assert "\n" not in str(error.value)


OWN = "_target_: privsweep.attack.blind.Blind\nguess: grey\nbrings: {}\n"


@pytest.mark.parametrize(
    ("brings", "outcome"),
    [
        ("{model: smlp, fl_setting.victims: 3}", "model=smlp fl_setting.victims=3"),
        ("{defense: [gradient_pruning], fl_setting: fedsgd}", "defense=[gradient_pruning] fl_setting=fedsgd"),
        ("3", "its brings is no mapping"),
        ("{hydra.launcher.setup: x}", "only components"),
        ("{output_dir: elsewhere}", "only components"),
        ("{model: {width: 3}}", "write a plain value"),
        ("{model: '../../evil'}", r"model/\.\./\.\.=evil: no such choice"),
        ("{model: nonsense}", "no such choice.*attack=mine brings"),
    ],
)
def test_an_attack_of_ones_own_brings_components_and_nothing_else(brings: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "mine.yaml").write_text(OWN.format(brings))
    (tmp_path / "attack" / "based.yaml").write_text("defaults: [mine]\nguess: noise\n")
    if outcome.startswith(("model=", "defense=")):
        spec = library.compose("attack=mine", config_dir=str(tmp_path))
        assert spec.brought == {"attack=mine": outcome.split()}
        assert [*library.compose("attack=based", config_dir=str(tmp_path)).brought] == ["attack=based"]
    else:
        with pytest.raises(UserError, match=outcome):
            library.compose("attack=mine", config_dir=str(tmp_path))


def test_a_sweep_says_what_each_brings_and_its_jobs_are_the_planned_runs(
    privsweep: Privsweep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ("-m", "attack=blind_membership,loss_threshold", "fl_setting.candidates=20")
    assert privsweep(*command, "plan=true") == 0
    planned = capsys.readouterr().out
    assert privsweep(*command) == 0
    for shown in (planned, capsys.readouterr().out):
        assert shown.startswith("attack=loss_threshold brings: dataset.prior_size=400\n")
    ran = {folder.name for folder in (tmp_path / "outputs" / "runs").iterdir()}
    assert ran == {line.split()[0] for line in planned.splitlines() if "to run" in line}
