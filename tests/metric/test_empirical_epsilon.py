import time

import numpy as np
import pytest
from opacus.accountants.analysis.gdp import eps_from_mu
from scipy.optimize import brentq
from scipy.stats import norm

from privsweep.metric.empirical_epsilon import (
    of_gaussian_trainings,
    of_one_gaussian_training,
    of_one_training,
    of_trainings,
)


@pytest.mark.parametrize("epsilon", [0.25, 1.0])
def test_the_leakiest_private_training_is_hardly_ever_taken_for_a_leakier_one(epsilon: float) -> None:
    """Randomised response tells which record of a pair it has as often as two blanked records allow, and no more."""
    draw = np.random.default_rng(0)
    shown = []
    for _ in range(200):
        right = draw.random(400) < 1 / (1 + np.exp(-2 * epsilon))
        apart = draw.random(400) * np.where(right, 1, -1)
        shown.append(of_one_training(apart, np.zeros(400), delta=0.0))
    assert np.mean(np.array(shown) > epsilon) <= 0.05
    assert np.mean(shown) > 0.5 * epsilon


def test_an_attack_that_always_errs_or_guesses_shows_nothing() -> None:
    draw = np.random.default_rng(0)
    assert of_one_training(np.zeros(500), np.ones(500), 0.0) == 0
    assert of_one_training(np.ones(500), np.ones(500), 0.0) == 0
    guessing = [of_one_training(draw.random(500), draw.random(500), 0.0) for _ in range(100)]
    assert np.mean(np.array(guessing) > 0) <= 0.05
    assert of_one_training(np.ones(3), np.zeros(3), 0.0) == 0


def test_what_is_always_right_shows_all_that_so_many_pairs_can() -> None:
    """The sixteen guesses of two choices, all and half, are all right with a probability of 0.025 at this epsilon."""
    shown = of_one_training(np.ones(16), np.zeros(16), 0.0)
    assert (1 / (1 + np.exp(-2 * shown))) ** 16 == pytest.approx(0.025, rel=1e-4)
    assert of_one_training(np.ones(1000), np.zeros(1000), 0.0) > shown


def test_a_few_sure_guesses_are_told_among_many_unsure_ones() -> None:
    draw = np.random.default_rng(0)
    members, others = draw.random(1000), draw.random(1000)
    members[:60] = 100
    assert of_one_training(members, others, 0.0) > 1


def test_a_larger_delta_explains_more_of_the_successes() -> None:
    draw = np.random.default_rng(0)
    members, others = draw.normal(1.5, 1, 500), draw.normal(0, 1, 500)
    shown = [of_one_training(members, others, delta) for delta in (0.0, 1e-5, 1e-3, 0.1)]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > 0.5
    assert shown[-1] == 0


def test_scores_of_a_diverged_model_and_the_largest_numbers() -> None:
    most = np.finfo(float).max
    assert of_one_training(np.full(100, most), np.full(100, -most), 0.0) > 1
    assert of_one_training(np.full(100, -most), np.full(100, -most), 0.0) == 0


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_models_trained_one_by_one_are_hardly_ever_taken_for_leakier_ones(epsilon: float) -> None:
    draw, right = np.random.default_rng(0), 1 / (1 + np.exp(-epsilon))
    found, false = draw.binomial(200, right, 300), draw.binomial(200, 1 - right, 300)
    shown = np.array([of_trainings((int(f), 200), (int(g), 200), 0.0) for f, g in zip(found, false, strict=True)])
    assert np.mean(shown > epsilon) <= 0.05
    assert shown.mean() > 0.3 * epsilon


def test_rare_but_certain_alarms_and_rare_misses_show_the_same() -> None:
    """What tells few members and hardly any other record; and what takes all but a few others for members."""
    assert of_trainings((30, 200), (0, 200), 0.0) == pytest.approx(of_trainings((200, 200), (170, 200), 0.0))
    assert of_trainings((30, 200), (0, 200), 0.0) > 1
    assert of_trainings((30, 200), (0, 200), 0.2) < of_trainings((30, 200), (0, 200), 0.0)
    assert of_trainings((5, 10), (5, 10), 0.0) == of_trainings((0, 10), (10, 10), 0.0) == 0
    assert of_trainings((0, 0), (1, 10), 0.0) == 0


def test_of_gaussian_noise_nearly_all_is_shown() -> None:
    """Released is one number with noise: a mean of 0 or 1.5 deviations, told apart at the middle."""
    draw, delta = np.random.default_rng(0), 1e-5
    right = norm.cdf(0.75)
    found, false = draw.binomial(1000, right, 200), draw.binomial(1000, 1 - right, 200)
    pairs = [((int(f), 1000), (int(g), 1000)) for f, g in zip(found, false, strict=True)]
    shown = np.array([of_gaussian_trainings(*pair, delta) for pair in pairs])
    true = eps_from_mu(mu=1.5, delta=delta)
    assert np.mean(shown > true) <= 0.05
    assert 0.8 * true < shown.mean() < true
    assert max(of_trainings(*pair, delta) for pair in pairs) < 0.3 * true


def test_gaussian_noise_of_which_nothing_is_shown() -> None:
    assert of_gaussian_trainings((50, 100), (50, 100), 1e-5) == 0
    assert of_gaussian_trainings((0, 0), (0, 5), 1e-5) == of_gaussian_trainings((5, 5), (0, 0), 1e-5) == 0
    assert of_gaussian_trainings((99, 100), (1, 100), 0.0) == 0, "no noise is private at no delta"
    assert of_gaussian_trainings((60, 100), (40, 100), 0.5) == 0
    assert 20 < of_gaussian_trainings((10_000, 10_000), (0, 10_000), 1e-5) < 100


@pytest.mark.parametrize(("pairs", "shift"), [(100, 0.5), (100, 2.0), (500, 0.15), (1000, 0.5), (2000, 1.5)])
def test_one_gaussian_training_is_hardly_ever_taken_for_a_leakier_one(pairs: int, shift: float) -> None:
    """Released is a number for each pair, with noise: at most ``shift`` deviations above zero, or below."""
    draw, delta = np.random.default_rng(0), 1e-5
    apart = draw.normal(shift, 1, (200, pairs))
    shown = np.array([of_one_gaussian_training(scores, np.zeros(pairs), delta) for scores in apart])
    assert np.mean(shown > eps_from_mu(mu=shift, delta=delta)) <= 0.05


@pytest.mark.parametrize("shift", [0.25, 0.5])
def test_a_gaussian_training_that_tells_all_pairs_at_once_if_rarely_has_all_that_it_leaks_shown(shift: float) -> None:
    """It tells nothing but in one of 140 runs, a seventh of the error, for there are seven choices of guesses.

    Then every pair is told, and wrongly as often as makes it the leakiest that replacing a record allows.
    """
    draw, delta, rarely, pairs = np.random.default_rng(0), 1e-5, 0.05 / 7, 1000

    def excess(error: float) -> float:
        return rarely * (1 - error) - float(norm.cdf(norm.ppf(rarely * error) + 2 * shift))

    error = brentq(excess, 1e-9, 0.5)
    told = np.where(draw.random((30, pairs)) < error, -1.0, 1.0)
    shown = [of_one_gaussian_training(apart, np.zeros(pairs), delta) for apart in told]
    assert np.mean(shown) == pytest.approx(eps_from_mu(mu=shift, delta=delta), rel=0.1)


@pytest.mark.parametrize(("shift", "more"), [(0.5023, 1.25), (1.6658, 1.7)])
def test_of_one_gaussian_training_more_is_shown_than_of_any(shift: float, more: float) -> None:
    """Of an epsilon of 2 and of 8."""
    draw, delta = np.random.default_rng(0), 1e-5
    apart = draw.normal(shift, 1, (30, 1000))
    shown = np.mean([of_one_gaussian_training(scores, np.zeros(1000), delta) for scores in apart])
    assert more * np.mean([of_one_training(scores, np.zeros(1000), delta) for scores in apart]) < shown
    assert shown > 0.4 * eps_from_mu(mu=shift, delta=delta)


def test_one_gaussian_training_of_which_nothing_is_shown() -> None:
    draw, delta = np.random.default_rng(0), 1e-5
    guessing = [of_one_gaussian_training(draw.random(500), draw.random(500), delta) for _ in range(100)]
    assert np.mean(np.array(guessing) > 0) <= 0.05
    assert of_one_gaussian_training(np.zeros(500), np.ones(500), delta) == 0
    assert of_one_gaussian_training(np.ones(500), np.ones(500), delta) == 0
    assert of_one_gaussian_training(np.ones(0), np.zeros(5), delta) == 0
    assert of_one_gaussian_training(np.ones(7), np.zeros(7), delta) == 0, "seven guesses are too few"
    assert of_one_gaussian_training(np.ones(500), np.zeros(500), 0.0) == 0, "no noise is private at no delta"
    assert of_one_gaussian_training(np.ones(500), np.zeros(500), 0.9) == 0


def test_of_many_pairs_that_are_all_told_much_is_shown_and_soon() -> None:
    most, start = np.finfo(float).max, time.process_time()
    shown = [of_one_gaussian_training(np.full(n, most), np.full(n, -most), 1e-5) for n in (10, 100, 1000, 10_000)]
    assert shown == sorted(shown)
    assert 5 < shown[-1] < 6
    draw = np.random.default_rng(0)
    for shift in (0.0, 0.05, 0.5, 2.0):
        of_one_gaussian_training(draw.normal(shift, 1, 10_000), np.zeros(10_000), 1e-5)
    assert time.process_time() - start < 2
