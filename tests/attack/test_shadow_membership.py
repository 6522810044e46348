"""Membership by shadow training and by the loss, and the control."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from membership_world import MODEL, SHADOWS, SMALL, guess, measured, reversed_order

from privsweep.attack.blind_membership import BlindMembership
from privsweep.attack.loss_threshold import LossThreshold
from privsweep.attack.shadow_membership import ShadowMembership
from privsweep.interface.data import ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Predictions
from privsweep.membership_inference.scores import confidence, stand_out


def shokri(**changes: Any) -> ShadowMembership:
    own = {"shadows": 3, "shadow_size": 150, "classifier": "mlp"}
    return ShadowMembership(**{**SHADOWS, **own, **changes})


ZEN = {"shadow": SMALL, "epochs": 60, "optimizer": "adam", "lr": 0.005, "batch_size": 16}
TRAINING = [shokri(), shokri(classifier="logistic"), shokri(**ZEN)]


@pytest.mark.parametrize("attack", [*TRAINING, LossThreshold()])
def test_a_model_that_remembers_is_attacked_and_an_untrained_one_is_not(
    attack: ShadowMembership, overfitted: Exposure, untrained: Exposure
) -> None:
    found = measured(attack, overfitted)
    assert found["attack_accuracy_low"] > 0.6
    assert found["auc"] > 0.7
    chance = measured(attack, untrained)
    assert chance["attack_accuracy_low"] <= 0.5 <= chance["attack_accuracy_high"]


def test_the_control_is_at_chance(overfitted: Exposure) -> None:
    found = measured(BlindMembership(), overfitted)
    assert found["attack_accuracy_low"] < 0.5 < found["attack_accuracy_high"]
    assert found["auc_low"] < 0.5 < found["auc_high"]


@pytest.mark.parametrize("attack", [shokri(epochs=2), LossThreshold()])
def test_scores_do_not_depend_on_the_order_of_candidates(attack: ShadowMembership, overfitted: Exposure) -> None:
    one, other = guess(attack, overfitted), guess(attack, reversed_order(overfitted))
    assert torch.allclose(one.scores, other.scores.flip(0))
    assert (one.decisions == other.decisions.flip(0)).double().mean() > 0.99


def test_shadows_need_the_targets_architecture_only_where_they_have_none() -> None:
    plain = {"shadows_defended": False}
    assert shokri(**plain).prepares_from == {"prior", "domain", "architecture", "recipe"}
    assert shokri(**ZEN, **plain).prepares_from == {"prior", "domain"}
    assert shokri(**ZEN).prepares_from == {"prior", "domain", "defense"}
    with pytest.raises(UserError, match=r"attack\.shadow=lenet: is no architecture"):
        shokri(shadow="lenet")


def test_data_that_cannot_serve_are_refused_with_a_remedy(overfitted: Exposure) -> None:
    prior, domain = overfitted.known.prior, overfitted.known.domain
    assert prior is not None
    assert domain is not None
    net = MODEL.build(domain, Rng(0))
    assert shokri(shadow_size=300).fits(net, domain, prior) is None
    few = shokri(shadow_size=301).fits(net, domain, prior)
    assert few is not None
    assert "attack.shadow_size=300 or dataset.prior_size=602" in few
    other = ImageSet(prior.images, prior.labels + 1)
    several = ImageSet(prior.images, torch.zeros(len(prior), domain.classes, dtype=torch.int64))
    for attack in (shokri(), LossThreshold()):
        for split, reason in ((other, "go up to 10, the target has 10"), (several, "several labels")):
            said = attack.fits(net, domain, split)
            assert said is not None
            assert reason in said
            assert "dataset.prior_size=" in said
        assert attack.fits(net, domain, None) is not None


def test_a_class_that_no_shadow_knows_both_ways_borrows_from_all(overfitted: Exposure) -> None:
    """Every public record is of class 3, the candidates of all."""
    prior = overfitted.known.prior
    assert prior is not None
    threes = ImageSet(prior.images, torch.full_like(prior.labels, 3))
    out = replace(overfitted, known=overfitted.known.having(prior=threes))
    assert guess(shokri(epochs=1), out).scores.isfinite().all()


@pytest.mark.parametrize("classifier", ["mlp", "logistic"])
def test_a_target_that_diverged_is_scored_at_chance(classifier: str, overfitted: Exposure) -> None:
    """And a shadow that diverged is no reason to stop."""
    assert isinstance(overfitted.seen, Predictions)
    nothing = torch.full_like(overfitted.seen.probabilities, float("nan"))
    seen = replace(overfitted.seen, probabilities=nothing)
    out, attack = replace(overfitted, seen=seen), shokri(epochs=1, classifier=classifier)
    found = measured(attack, out)
    assert found["auc_low"] <= 0.5 <= found["auc_high"]
    diverging = shokri(epochs=2, classifier=classifier, optimizer="sgd", lr=1e30)
    assert guess(diverging, overfitted).scores.isfinite().all()


def test_confidence_does_not_cancel_where_the_model_is_sure() -> None:
    p = torch.tensor([[1.0, 1e-20], [1e-20, 1.0], [0.5, 0.5], [1.0, 0.0]])
    found = confidence(p, torch.tensor([0, 0, 1, 0]))
    assert found[:3].tolist() == pytest.approx([46.05, -46.05, 0.0], abs=0.01)
    assert found[0] < found[3] < 100


def test_candidates_stand_out_where_their_scores_part_from_the_public_ones() -> None:
    prior = torch.arange(100.0)
    candidates = torch.cat([prior - 0.5, torch.linspace(150, 160, 25)])
    assert stand_out(candidates, prior).sum() == 25
    assert stand_out(torch.zeros(4), torch.zeros(4)).all()
