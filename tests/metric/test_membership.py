import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from privsweep.interface.guess import Scores
from privsweep.interface.truth import Membership
from privsweep.metric.membership import (
    area_ends,
    area_with_interval,
    delong,
    mean_share_ends,
    rate_ends,
    roc,
    score_membership,
)


def truth(members: int, others: int) -> Membership:
    member = torch.arange(members + others) < members
    return Membership(member=member, index=torch.arange(members + others))


def guess(scores: torch.Tensor, threshold: float = 0.0) -> Scores:
    return Scores(scores=scores, decisions=scores > threshold)


def test_the_area_is_that_of_scikit_learn_with_ties() -> None:
    scores = torch.randint(0, 5, (300,), generator=torch.Generator().manual_seed(0)).double()
    metrics, _ = score_membership(guess(scores), truth(100, 200))
    assert metrics["auc"] == pytest.approx(roc_auc_score(truth(100, 200).member.numpy(), scores.numpy()))


def test_torchmetrics_agrees_on_probabilities_and_not_on_likelihood_ratios() -> None:
    """Which is why it is not used: its sigmoid makes ties of scores far beyond [0, 1]."""
    from torchmetrics.functional.classification import binary_auroc

    draw = torch.Generator().manual_seed(0)
    member = torch.rand(2000, generator=draw) < 0.5
    ratios = 30 * (torch.randn(2000, generator=draw).double() + member / 2)
    area, _ = delong(ratios[member].numpy(), ratios[~member].numpy())
    ranks = ratios.argsort().argsort() / 2000.0
    assert binary_auroc(ranks, member.long()).item() == pytest.approx(area, abs=1e-6)
    assert abs(binary_auroc(ratios, member.long()).item() - area) > 5e-4


def test_a_perfect_attack_and_one_that_is_always_wrong() -> None:
    perfect = torch.cat([torch.ones(50), -torch.ones(50)])
    metrics, rows = score_membership(guess(perfect), truth(50, 50))
    for name in ("attack_accuracy", "balanced_accuracy", "auc", "tpr_at_1_fpr", "tpr_at_01_fpr"):
        assert metrics[name] == 1
    assert metrics["attack_accuracy_low"] < 1  # type: ignore[operator]
    assert rows["decision"].equals(rows["member"])
    metrics, _ = score_membership(guess(-perfect), truth(50, 50))
    assert metrics["attack_accuracy"] == metrics["auc"] == metrics["tpr_at_1_fpr"] == 0


def test_balanced_accuracy_sees_through_unequal_classes() -> None:
    metrics, _ = score_membership(guess(torch.ones(100)), truth(90, 10))  # everybody is a member
    assert metrics["attack_accuracy"] == 0.9
    assert metrics["balanced_accuracy"] == 0.5


def test_the_rate_of_hits_allows_no_more_false_alarms_than_it_says() -> None:
    others = torch.linspace(0, 1, 1000)
    members = torch.full((100,), 0.995)  # above all but 5 of 1000 others
    metrics, _ = score_membership(guess(torch.cat([members, others])), truth(100, 1000))
    assert metrics["tpr_at_1_fpr"] == 1
    assert metrics["tpr_at_01_fpr"] == 0
    false, true = roc(guess(torch.cat([members, others])), truth(100, 1000).member)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_the_interval_of_the_area_covers_chance_as_often_as_it_promises() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        area, error = delong(rng.normal(size=60), rng.normal(size=60))
        covered += abs(area - 0.5) <= 1.96 * error
    assert 0.92 <= covered / 400 <= 0.98


def test_infinite_scores_are_the_highest_and_the_lowest_and_nan_is_none() -> None:
    scores = torch.tensor([float("inf"), float("nan"), 0.0, float("-inf")])
    metrics, rows = score_membership(guess(scores), truth(2, 2))
    assert rows["score"].map(np.isfinite).all()
    assert metrics["auc"] == 0.625  # one above both, one below 0 and level with the lowest
    sure = torch.cat([torch.full((50,), float("inf")), torch.rand(50)])
    metrics, _ = score_membership(guess(sure), truth(50, 50))
    assert metrics["auc"] == metrics["tpr_at_1_fpr"] == 1


@pytest.mark.parametrize("records", [2, 5, 50, 1000])
def test_no_interval_collapses(records: int) -> None:
    """Two records on either side, told apart without fail, prove next to nothing."""
    perfect = torch.cat([torch.ones(records), -torch.ones(records)])
    for scores, right in ((perfect, 1.0), (-perfect, 0.0), (torch.zeros(2 * records), 0.5)):
        metrics, _ = score_membership(guess(scores), truth(records, records))
        for name in ("auc", "balanced_accuracy"):
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            assert low is not None
            assert high is not None
            assert low <= right <= high
            assert high - low > 0.5 / records
    metrics, _ = score_membership(guess(perfect), truth(records, records))
    assert (metrics["auc_low"] < 0.6) == (records == 2)  # type: ignore[operator]


def test_one_record_on_a_side_has_no_interval() -> None:
    metrics, _ = score_membership(guess(torch.tensor([1.0, 0.0, 0.0])), truth(1, 2))
    assert metrics["auc"] == 1
    ends = [f"{name}_{end}" for name in ("auc", "balanced_accuracy") for end in ("low", "high")]
    assert [metrics[end] for end in ends] == [None] * 4


def test_an_interval_at_the_end_covers_an_attack_that_is_nearly_perfect() -> None:
    """Fifteen records a side, of which an AUC of 0.98 often leaves none in the wrong order."""
    rng, true = np.random.default_rng(0), norm.cdf(2.9 / np.sqrt(2))
    covered, ends = [], 0
    for _ in range(400):
        area, error = delong(rng.normal(2.9, size=15), rng.normal(size=15))
        if error == 0:
            ends += 1
            low, high = area_ends(area, 15, 15)
            covered.append(low <= true <= high)
    assert ends > 20
    assert np.mean(covered) > 0.9


@pytest.mark.parametrize(("records", "apart"), [(20, 1.8), (50, 3.3), (200, 2.7)])
def test_the_interval_of_an_area_near_one_covers_it_as_often_as_it_promises(records: int, apart: float) -> None:
    """Where one that is symmetric about the estimate misses one in six."""
    rng, true = np.random.default_rng(0), norm.cdf(apart / np.sqrt(2))
    covered = []
    for _ in range(400):
        found = area_with_interval("auc", rng.normal(apart, size=records), rng.normal(size=records))
        low, high = found["auc_low"], found["auc_high"]
        assert low is not None
        assert high is not None
        assert low <= (found["auc"] or 0) <= high
        covered.append(low <= true <= high)
    assert 0.92 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(("records", "rate"), [(50, 0.01), (400, 0.01), (400, 0.001), (3000, 0.001)])
def test_the_interval_of_a_rate_covers_it_as_often_as_it_promises_though_few_others_set_the_threshold(
    records: int, rate: float
) -> None:
    rng, true = np.random.default_rng(0), norm.sf(norm.isf(rate) - 2)
    covered, inside = [], []
    for _ in range(200):
        members, others = rng.normal(2, size=records), rng.normal(size=records)
        low, high = rate_ends(members, others, rate)
        found = (members > np.sort(others)[::-1][int(rate * records)]).mean()
        covered.append(low <= true <= high)
        inside.append(low <= found <= high)
    assert np.mean(covered) >= 0.93
    assert all(inside)


def test_the_interval_of_a_balanced_accuracy_covers_it_as_often_as_it_promises() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        low, high = mean_share_ends((rng.binomial(30, 0.95), 30), (rng.binomial(60, 0.7), 60))
        covered.append(low <= (0.95 + 0.7) / 2 <= high)
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("among", ["one training", "trainings"])
def test_an_epsilon_of_gaussian_noise_is_told_beside_a_budget_that_such_noise_has(among: str) -> None:
    scores = torch.cat([torch.ones(500), -torch.ones(500)])
    asked = dataclasses.replace(truth(500, 500), among=among)
    metrics, _ = score_membership(guess(scores), asked, 1e-5)
    assert metrics["gaussian_epsilon"] > metrics["empirical_epsilon"] > 0  # type: ignore[operator]
    without, _ = score_membership(guess(scores), asked)
    assert without == {**metrics, "gaussian_epsilon": None}
    assert score_membership(guess(scores), asked, 0.0)[0]["gaussian_epsilon"] is None


def test_an_epsilon_goes_by_fair_pairs_alone() -> None:
    scores = torch.cat([torch.ones(500), -torch.ones(300), torch.full((200,), 2.0)])
    asked = truth(500, 500)
    fair = torch.ones(1000, dtype=torch.bool)
    fair[800:] = False
    some, _ = score_membership(guess(scores), dataclasses.replace(asked, fair=fair), 1e-5)
    whole = torch.cat([torch.ones(300), -torch.ones(300)])
    expected, _ = score_membership(guess(whole), truth(300, 300), 1e-5)
    for name in ("empirical_epsilon", "gaussian_epsilon"):
        assert some[name] == expected[name] > 0  # type: ignore[operator]
    unfair, _ = score_membership(guess(scores), dataclasses.replace(asked, fair=torch.zeros_like(fair)), 1e-5)
    assert unfair["empirical_epsilon"] is unfair["gaussian_epsilon"] is None
    assert unfair["auc"] == some["auc"]
