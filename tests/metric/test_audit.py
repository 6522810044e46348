"""An audit of DP-SGD, end to end: what a membership attack shows is nearly what is stated, and no more."""

from pathlib import Path

import pytest

import privsweep

GIVEN = [
    "dataset=digits", "fl_setting=release", "attack=informed_membership", "model=smlp", "model.width=8",
    "model.depth=1",
    "dataset.train_size=30", "dataset.test_size=50", "fl_setting.victims=2", "fl_setting.models=250",
    "fl_setting.without=250", "fl_setting.epochs=1", "fl_setting.canaries=true", "attack.shadows=100",
    "defense=[dp_sgd]", "defense.dp_sgd.poisson=false", "defense.dp_sgd.delta=1e-5", "device=cpu",
]  # fmt: skip


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
def test_of_a_single_step_nearly_all_of_a_budget_is_shown_and_no_more(epsilon: float, tmp_path: Path) -> None:
    record = privsweep.execute(privsweep.compose(*GIVEN, f"defense.dp_sgd.epsilon={epsilon}", f"output_dir={tmp_path}"))
    stated = record["privacy"]["dp_sgd"]["epsilon"]
    assert stated == pytest.approx(epsilon, rel=0.01)
    assert 0.6 * stated < record["metrics"]["gaussian_epsilon"] < stated
    assert record["metrics"]["empirical_epsilon"] < record["metrics"]["gaussian_epsilon"]
