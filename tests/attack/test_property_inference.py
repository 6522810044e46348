"""Are images of a class behind an update whose labels do not tell it? Digits, labelled as low or high."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny import Bench, capture, digits_of, fedavg

from privsweep.attack.property_inference import PropertyInference
from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.interface.beside import Kinds
from privsweep.interface.data import Architecture, Data
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, PropertyTrials
from privsweep.interface.truth import Properties
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP

MODEL = MLP(width=16, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5)
BATCHES = ConvNet(
    width=4, layers=[1], depth=1, kernel=3, pool_after=[], pooling="stride", norm="batch", fc=[], fc_width=None,
    padding="same", activation="relu", init="default", init_bound=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Data:
    return digits_of(
        train_size=1000, test_size=20, prior_size=250, superclasses=[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    ).load(Rng(0))


def exposed(data: Data, defense: Any = None, model: Architecture = MODEL, **changes: Any) -> Exposure:
    setting = fedavg(
        **{
            "clients": 1, "victims": 20, "rounds": 1, "capture": capture(batch_size=16), "property_class": 3,
            "property_share": 0.5, **changes,
        }
    )  # fmt: skip
    stack = Stack({"own": defense} if defense else {}).bind(setting.schedule(data, Rng(0)))
    system = setting.train(data, model, stack, Rng(0), Bench())
    [view] = [view for view in setting.views() if view.observation is PropertyTrials]
    out = view.expose(system, data, model, stack, Rng(0))
    return replace(out, known=out.known.having(prior=data.prior))


def found(out: Exposure, classifier: Any = "discriminant", share: float = 0.5) -> Scores:
    attack = PropertyInference(classifier=classifier, references=250, share=share, batches=60, memory=1.0)
    return attack(out.seen, out.known.only(attack.needs), {}, Bench(), Rng(0))


def area(out: Exposure, told: Scores) -> float:
    assert isinstance(out.truth, Properties)
    return float(roc_auc_score(out.truth.present, told.scores))


@pytest.mark.parametrize("round_", [0, "last"])
def test_updates_with_the_property_are_told_by_a_threshold_of_its_own(digits: Data, round_: Any) -> None:
    out = exposed(digits, capture=capture(batch_size=16, round=round_))
    assert isinstance(out.truth, Properties)
    for classifier in ("discriminant", "forest"):
        told = found(out, classifier)
        assert area(out, told) > 0.95
        assert float((told.decisions == out.truth.present).double().mean()) >= 0.8


def test_scores_are_standard_deviations_about_half_of_the_shift(digits: Data) -> None:
    out = exposed(digits, capture=capture(batch_size=8), victims=100, property_share=0.25)
    told = found(out, share=0.25)
    assert isinstance(out.truth, Properties)
    ours, others = told.scores[out.truth.present], told.scores[~out.truth.present]
    assert 0.6 < float(ours.std()) < 1.5
    assert 0.6 < float(others.std()) < 1.5
    assert abs(float(ours.mean() + others.mean())) < 0.8


def test_a_property_that_images_do_not_show_is_chance(digits: Data) -> None:
    """The control: which of the low digits have it is drawn."""
    assert digits.prior is not None
    drawn = [
        torch.where(of.labels == 0, torch.randint(5, of.labels.shape, generator=Rng(n).generator()), 5)
        for n, of in enumerate((digits.train, digits.prior))
    ]
    out = exposed(
        replace(digits, kinds=Kinds(*drawn, superclass=(0,) * 5 + (1,) * 5)), victims=40, capture=capture(batch_size=8)
    )
    for classifier in ("discriminant", "forest"):
        assert 0.3 < area(out, found(out, classifier)) < 0.7


@pytest.mark.parametrize(
    ("defense", "changes"),
    [
        (NoisyGradients(sigma=1e-3, distribution="gaussian"), {}),
        (GradientPruning(fraction=0.9, keep="rest", scope="global"), {}),
        (SecureAggregation(fraction_bits=16, bits=32, dropout=0.0, threshold=2), {"clients": 2, "victims": 10}),
        (None, {"optimizer": "sgd", "lr": 0.05, "capture": capture(batch_size=16, what="difference")}),
        (None, {"lr": 1e-3, "capture": capture(batch_size=16, what="difference")}),
    ],
)
def test_what_does_not_hide_it(digits: Data, defense: Any, changes: dict[str, Any]) -> None:
    out = exposed(digits, defense, **changes)
    assert area(out, found(out)) > 0.8


def test_an_updates_score_does_not_depend_on_the_others(digits: Data) -> None:
    out = exposed(digits, victims=6)
    assert isinstance(out.seen, PropertyTrials)
    few = PropertyTrials(out.seen.updates.take(slice(0, 2)))
    for classifier in ("discriminant", "forest"):
        both = found(out, classifier).scores[:2], found(replace(out, seen=few), classifier).scores
        assert torch.allclose(*both)


def test_weights_that_are_not_finite_tell_nothing(digits: Data) -> None:
    out = exposed(digits, victims=4)
    for parameter in out.known.model.parameters():
        parameter.data.fill_(torch.nan)
    assert not found(out).decisions.any()


def test_a_network_that_mixes_examples_is_refused(digits: Data) -> None:
    attack = PropertyInference(classifier="forest", references=250, share=0.5, batches=10, memory=1.0)
    reason = attack.fits(BATCHES.build(digits.domain, Rng(0)), digits.domain, digits.prior)
    assert reason is not None
    assert "take model.norm=group" in reason


def test_few_references_hold_some_of_all_that_are_compared(digits: Data) -> None:
    out = exposed(digits, victims=4)
    attack = PropertyInference(classifier="discriminant", references=40, share=0.5, batches=10, memory=1.0)
    scores = attack(out.seen, out.known.only(attack.needs), {}, Bench(), Rng(0)).scores
    assert scores.isfinite().all()
    assert len(set(scores.tolist())) == 4
