"""The command that makes a stored run again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from privsweep.run.again import Again
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

GIVEN = [
    ["scale=smoke", "seed=3", "precision=tf32", "attack.lr=0.25", "fl_setting.capture.batch_size=2",
     "defense=[gradient_pruning]"],
    ["scale=quick", "model=lenet", "model.fc=[32,16]", "attack=shadow_membership", "dataset.prior_size=500",
     "defense=[dp_sgd]", "defense.dp_sgd.epsilon=3.0", "defense.dp_sgd.noise_multiplier=null"],
]  # fmt: skip


def record_of(spec: Any) -> dict[str, Any]:
    return {"choices": dict(spec.choices), "config": dict(spec.config), "scale": spec.session.scale}


@pytest.mark.parametrize("given", GIVEN, ids=["gradients", "membership"])
def test_the_command_makes_the_same_run(given: list[str], tmp_path: Path) -> None:
    with searching(None):
        spec = build(compose([*given, f"output_dir={tmp_path}"]))
        again = Again(None).overrides(record_of(spec))
        assert build(compose([*again, f"output_dir={tmp_path}"])).signature == spec.signature
    assert len(again) < 16  # what the choices say already is not repeated


def test_values_come_back_as_they_were() -> None:
    odd = ["null", "true", "1e-3", "a b", "it's", "c:\\x\\", "\\'", "${oc.env:HOME}", "[x]", "", "a,b", "é", "x=y"]
    values = {f"k{i}": value for i, value in enumerate([*odd, 1, 1.0, True, None, 1e-7, [1, "a b"], {}])}
    overrides = Again(None).overrides({"choices": {"attack": "dlg"}, "config": {"attack": values}})
    words = shlex.split(shlex.join(overrides))
    for word, value in zip(words[1:], values.values(), strict=True):
        read = OverridesParser.create().parse_override(word).value()
        text = value.replace("${", "\\${") if isinstance(value, str) else value  # which OmegaConf reads as the text
        assert getattr(read, "text", read) == text
        assert type(getattr(read, "text", read)) is type(value)


def test_files_of_the_users_own_are_left_to_the_user() -> None:
    record = {"choices": {"dataset": "npz"}, "config": {"dataset": {"train_size": 5, "fingerprint": "x"}}}
    assert Again(None)(record) == "privsweep dataset=npz dataset.train_size=5 dataset.path=YOUR_FILE"


def test_choices_of_the_users_own_are_looked_for_in_the_users_folder(tmp_path: Path) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "mean.yaml").write_text("_target_: mine.Mean\nlr: 0.1\n")
    record = {"choices": {"attack": "mean"}, "config": {"attack": {"lr": 0.1}}}
    assert Again(str(tmp_path))(record) == f"privsweep --config-dir {tmp_path} attack=mean"
    assert Again(None)(record) == "privsweep --config-dir YOUR_FOLDER attack=mean ++attack.lr=0.1"
    defended = {"choices": {"attack": "dlg"}, "config": {"defense_order": ["mine"]}}
    assert Again(None)(defended) == "privsweep --config-dir YOUR_FOLDER attack=dlg 'defense=[mine]'"


def test_a_strangers_record_is_one_command() -> None:
    record = {"choices": {"attack": "../../etc/passwd; id"}, "config": {"attack": {"$(id)": "`id`"}}, "scale": "$(id)"}
    words = shlex.split(Again("my conf")(record))
    assert words[:3] == ["privsweep", "--config-dir", "my conf"]
    assert words[3] == "attack=../../etc/passwd; id"
    assert Again(None)({"config": 3, "choices": []}) == "privsweep"
