"""Signatures stay: a record that was stored is found again. A change here makes everybody's results run again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from privsweep.attack.gradient_matching import GradientMatching
from privsweep.defense.dp_sgd import DpSgd
from privsweep.fl_setting.fedsgd import FedSGD
from privsweep.interface.component import marked
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.superseded import Judge

# digits ship with scikit-learn, so these do not depend on a file
GOLDEN = {
    "attack=dlg": "8917cca8ca4e",
    "attack=idlg": "fea18b8d03f0",
    "attack=iga fl_setting=fedsgd fl_setting.labels_known=true defense=[precode] seed=1": "88183164232e",
    "attack=shadow_membership dataset.prior_size=300 model=smlp scale=quick": "5438d0b3a0d5",
    "attack=generative_decoder fl_setting=split model=lenet dataset.prior_size=300 defense=[dp_sgd]": "4e545fb3a3b6",
}


def signed(overrides: str, tmp_path: Path) -> str:
    with searching(None):
        return build(compose([*overrides.split(), "metrics.paper_scale=zen", f"output_dir={tmp_path}"])).signature


@pytest.mark.parametrize("overrides", GOLDEN)
def test_it_is_the_one_that_was_stored(overrides: str, tmp_path: Path) -> None:
    assert signed(overrides, tmp_path) == GOLDEN[overrides]


@pytest.mark.parametrize("labels", ["analytic", "known", "optimised"])
def test_a_version_counts_where_it_changes_results(
    labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"attack=iga attack.labels={labels} fl_setting.labels_known=true"
    now = signed(given, tmp_path)
    monkeypatch.setattr(GradientMatching, "version", 0)
    assert (signed(given, tmp_path) != now) == (labels == "analytic")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("fl_setting.lr=1", "fl_setting.lr=1.0"),
        ("fl_setting.momentum=0", "fl_setting.momentum=0.0"),
        ("fl_setting.rounds=2", "fl_setting.rounds=2.0"),
        ("fl_setting.capture.client=1", "fl_setting.capture.client=1.0"),
        ("model.fc=[32]", "model.fc=[32.0]"),
        ("seed=1", "seed=1.0"),
        ("seed=1", 'seed="1"'),
        ("fl_setting.lr=0.5", 'fl_setting.lr="0.5"'),
        ("fl_setting.labels_known=true", "fl_setting.labels_known=on"),
        ("fl_setting.labels_known=true", "fl_setting.labels_known=1"),
        ("metrics.asr_threshold=1", "metrics.asr_threshold=1.0"),
        ("defense=[noisy_gradients] defense.noisy_gradients.sigma=1",
         "defense=[noisy_gradients] defense.noisy_gradients.sigma=1.0"),
    ],
)  # fmt: skip
def test_a_value_counts_however_it_is_written(one: str, other: str, tmp_path: Path) -> None:
    assert signed(f"attack=dlg {one}", tmp_path) == signed(f"attack=dlg {other}", tmp_path)


@pytest.mark.parametrize(
    "resource",
    [
        "attack.memory=0.5",
        "fl_setting.parallel=stacked",
        "threads=1",
        "device=cpu",
        "force=true",
        "verbose=true",
        "summary=[ssim]",
    ],
)
def test_resources_have_no_part_in_it(resource: str, tmp_path: Path) -> None:
    """Whoever ran out of memory and takes less runs nothing again that is stored."""
    assert signed(f"attack=dlg {resource}", tmp_path) == signed("attack=dlg", tmp_path)


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [((DpSgd, "version"), ["defense=[dp_sgd]"]), ((FedSGD, "version_with"), ["fl_setting=fedsgd", "model=resnet18"])],
)
def test_a_component_whose_results_have_changed_is_filed_anew(
    changed: tuple[type, str], chosen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that was trained by it as it was is not taken for one of today's, nor a run's record."""

    def made(version: int) -> tuple[str, dict[str, Any], str | None]:
        by_model = changed[1] == "version_with"
        monkeypatch.setattr(*changed, (lambda setting, model: version) if by_model else version)
        with searching(None):
            spec = build(compose(["attack=none", *chosen, f"output_dir={tmp_path}"]))
        told = Judge()({"signature": before, "config": spec.config})
        return spec.signature, spec.training_key(torch.device("cpu")), told

    before = ""
    before, key, _ = made(0)
    sign, trained, told = made(2)
    assert (sign != before, trained != key) == (True, True)
    assert told == "the code has changed: it files this configuration anew"
    assert made(0) == (before, key, None)


def test_a_record_older_than_a_key_that_counts_from_one_on_is_found(tmp_path: Path) -> None:
    """At zero it enters no hash, so that commands find what was stored before there was such a key."""
    with searching(None):
        spec = build(compose(["attack=iga", f"output_dir={tmp_path}"]))
    config = copy.deepcopy(dict(spec.config))
    lacking = {part: marked(spec.parts[part], "zero") for part in ("dataset", "fl_setting", "attack")}
    assert {"superclasses", "property_share", "unrolled"} <= frozenset().union(*lacking.values())
    for part, names in lacking.items():
        config[part] = {key: value for key, value in config[part].items() if key not in names}
    assert Judge()({"signature": spec.signature, "config": config}) is None
