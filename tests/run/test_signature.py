"""Signatures stay: a record that was stored is found again. A change here makes everybody's results run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from privsweep.run.build import build
from privsweep.run.compose import compose, searching

# digits ship with scikit-learn, so these do not depend on a file
GOLDEN = {
    "attack=dlg": "8917cca8ca4e",
    "attack=iga fl_setting=fedsgd fl_setting.labels_known=true defense=[precode] seed=1": "88183164232e",
    "attack=shadow_membership dataset.prior_size=300 model=smlp scale=quick": "5438d0b3a0d5",
    "attack=generative_decoder fl_setting=split model=lenet dataset.prior_size=300 defense=[dp_sgd]": "8f14369e62fa",
}


def signed(overrides: str, tmp_path: Path) -> str:
    with searching(None):
        return build(compose([*overrides.split(), "metrics.paper_scale=zen", f"output_dir={tmp_path}"])).signature


@pytest.mark.parametrize("overrides", GOLDEN)
def test_it_is_the_one_that_was_stored(overrides: str, tmp_path: Path) -> None:
    assert signed(overrides, tmp_path) == GOLDEN[overrides]


@pytest.mark.parametrize(
    "resource",
    ["attack.memory=0.5", "fl_setting.parallel=stacked", "threads=1", "device=cpu", "force=true", "verbose=true"],
)
def test_resources_have_no_part_in_it(resource: str, tmp_path: Path) -> None:
    """Whoever ran out of memory and takes less runs nothing again that is stored."""
    assert signed(f"attack=dlg {resource}", tmp_path) == signed("attack=dlg", tmp_path)
