import pytest
import torch

from privsweep.interface.guess import Scores
from privsweep.interface.truth import Properties
from privsweep.metric.properties import score_properties


def test_decisions_and_order_are_scored_and_every_victim_has_a_row() -> None:
    present = torch.tensor([True, False, True, False, True, False])
    scores = torch.tensor([3.0, -1.0, 2.0, 1.0, 0.5, -2.0])
    guess = Scores(scores, scores > 0, {"length": torch.arange(6.0)})
    metrics, rows = score_properties(guess, Properties(present, torch.zeros(6, 2, dtype=torch.int64)))
    assert metrics["property_accuracy"] == pytest.approx(5 / 6)
    assert metrics["property_auc"] == pytest.approx(8 / 9)
    for name in ("property_accuracy", "property_auc"):
        low, value, high = (metrics[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low is not None
        assert value is not None
        assert high is not None
        assert low < value < high
    assert list(rows.columns) == ["victim", "property", "score", "decision", "length"]
    assert rows["property"].tolist() == present.tolist()
