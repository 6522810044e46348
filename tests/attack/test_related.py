"""A record's confidences, weighed against those of all records."""

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from privsweep.interface.randomness import Rng
from privsweep.membership_inference.related import Assumed, Side, best, fit, side

MEAN = torch.tensor([1.0, 2.0], dtype=torch.float64)
SPREAD = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
ALL = Assumed(gaps=True, variances=True)
FREE, USUAL = 8.0, 0.5  # of the variances, out and in


def drawn(records: int, models: int) -> tuple[Tensor, Tensor, Tensor]:
    """Confidences ``[models, records]`` of models of which every second is in, which are, and a record's means and
    deviations ``[2, 2, records]``.
    """
    generator = Rng(0).generator()
    means = MEAN[:, None] + torch.linalg.cholesky(SPREAD) @ torch.randn(
        2, records, generator=generator, dtype=MEAN.dtype
    )
    squares = torch.randn(int(FREE), 2, records, generator=generator, dtype=MEAN.dtype).square().sum(0)
    deviations = (FREE * USUAL / squares).sqrt()
    inside = (torch.arange(models) % 2 == 1)[:, None].expand(models, records)
    own = torch.where(inside[:, None], torch.stack([means[1], deviations[1]]), torch.stack([means[0], deviations[0]]))
    noise = torch.randn(models, records, generator=generator, dtype=MEAN.dtype)
    return own[:, 0] + own[:, 1] * noise, inside, torch.stack([means, deviations])


@pytest.mark.parametrize("models", [8, 16])
def test_what_records_have_in_common_is_found(models: int) -> None:
    values, inside, _ = drawn(40_000, models)
    found = fit(side(values, ~inside), side(values, inside), ALL)
    assert torch.allclose(found.mean, MEAN, atol=0.05)
    assert torch.allclose(found.precision.inverse(), SPREAD, atol=0.1)
    for variance in found.variances:
        assert float(variance.free) == pytest.approx(FREE, rel=0.2)
        assert float(variance.usual) == pytest.approx(USUAL, rel=0.05)
        assert float(variance.mean) == pytest.approx(USUAL * FREE / (FREE - 2), rel=0.05)


@pytest.mark.parametrize(("models", "within"), [(2, 0.08), (4, 0.03), (8, 0.03)])
def test_ratios_are_as_likely_as_they_say(models: int, within: float) -> None:
    """Of records whose log ratio of in to out is about r, exp(r) times as many are in as out.

    With one model a side not quite: that training may add more to one record than to another cannot be told from noise.
    """
    values, inside, (means, deviations) = drawn(40_000, models)
    member = torch.arange(40_000) % 2
    own = [part.gather(0, member[None])[0] for part in (means, deviations)]
    target = own[0] + own[1] * torch.randn(40_000, generator=Rng(1).generator(), dtype=MEAN.dtype)
    out, into = side(values, ~inside), side(values, inside)
    ratio = fit(out, into, ALL).log_ratio(target, out, into)
    for low, high in ((-2, -1), (-1, 0), (0, 1), (1, 2)):
        near = (ratio > low) & (ratio <= high)
        share, said = member[near].double().mean(), torch.sigmoid(ratio[near]).mean()
        assert float(share) == pytest.approx(float(said), abs=within)


def test_with_very_many_models_a_record_stands_for_itself() -> None:
    values, inside, (means, deviations) = drawn(30, 20_000)
    target = means.mean(0)
    out, into = side(values, ~inside), side(values, inside)
    ratio = fit(out, into, ALL).log_ratio(target, out, into)
    expected = norm.logpdf(target, means[1], deviations[1]) - norm.logpdf(target, means[0], deviations[0])
    assert torch.allclose(ratio, torch.from_numpy(expected), atol=0.1)


def test_a_record_of_which_no_model_says_anything_is_like_all() -> None:
    values, inside, _ = drawn(1000, 4)
    out, into = side(values, ~inside), side(values, inside)
    found, target = fit(out, into, ALL), torch.tensor([0.0, 1.0, 2.0], dtype=MEAN.dtype)
    nothing = Side(*(torch.zeros(3, dtype=MEAN.dtype) for _ in range(3))).none()
    prior = found.precision.inverse()
    expected = [
        norm.logpdf(target, found.mean[k], math.sqrt(v.usual + prior[k, k])) for k, v in enumerate(found.variances)
    ]
    ratio = torch.from_numpy(expected[1] - expected[0])
    assert torch.allclose(found.log_ratio(target, nothing, nothing), ratio)


def test_a_variance_that_all_records_share_is_not_told_by_one_of_them() -> None:
    values = torch.randn(6, 20_000, generator=Rng(0).generator(), dtype=torch.float64)
    inside = (torch.arange(6) % 2 == 1)[:, None].expand_as(values)
    one = side(values, inside)
    for variance in fit(side(values, ~inside), one, ALL).variances:
        assert torch.allclose(variance.of(one), torch.ones_like(one.mean), atol=0.2)


@pytest.mark.parametrize("wide", [0, 1])
def test_the_more_confident_a_target_the_rather_a_member(wide: int) -> None:
    """Also far from where any model is: one that was trained longer than they were, or less, is as far off."""
    values = torch.randn(8, 200, generator=Rng(0).generator(), dtype=torch.float64)
    inside = (torch.arange(8) % 2 == 1)[:, None].expand_as(values)
    values = torch.where(inside == bool(wide), 3 * values, values) + inside
    out, into = side(values, ~inside), side(values, inside)
    targets = torch.linspace(-30, 30, 200, dtype=values.dtype)[:, None].expand(200, 200)
    found = fit(out, into, ALL)
    ratios = torch.stack([found.log_ratio(target, out, into) for target in targets])
    assert (ratios.diff(dim=0) > 0).all()
    assert ratios.isfinite().all()


@pytest.mark.parametrize("records", [1, 2, 3])
@pytest.mark.parametrize("models", [2, 4])
def test_few_records_and_models_that_agree_have_a_ratio_too(records: int, models: int) -> None:
    inside = (torch.arange(models) % 2 == 1)[:, None].expand(models, records)
    for values in (torch.zeros(models, records, dtype=torch.float64), drawn(records, models)[0]):
        out, into = side(values, ~inside), side(values, inside)
        assert fit(out, into, ALL).log_ratio(values[0], out, into).isfinite().all()


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("models", [8, 24])
@pytest.mark.parametrize(("gaps", "variances"), [(True, False), (False, True), (True, True)])
def test_what_records_differ_in_is_told_by_the_models_own_records(
    gaps: bool, variances: bool, models: int, online: bool
) -> None:
    """Where they do not, it is all one."""
    generator, records = Rng(0).generator(), 2000
    level, more, wider, noise = (
        torch.randn(n, records, generator=generator, dtype=torch.float64) for n in (1, 1, 1, models)
    )
    first = torch.rand(models // 2, records, generator=generator).argsort(1).argsort(1) < records // 2
    inside = torch.stack([first, ~first], 1).flatten(0, 1)
    gap = (1 + more).clamp_min(0) if gaps else torch.ones_like(more)
    deviation = wider.exp() if variances else torch.ones_like(wider)
    found = best(level + inside * gap + deviation * noise, inside, online)
    assert found.gaps >= gaps
    assert found.variances >= variances


def test_of_few_models_nothing_is_assumed() -> None:
    for models in (2, 3):
        values, inside, _ = drawn(20, models)
        assert best(values, inside, True) == Assumed(gaps=False, variances=False)


def test_models_that_diverged_judge_nothing() -> None:
    values, inside, _ = drawn(2000, 12)
    values[:2] = torch.nan
    assert best(values, inside, True) == best(values[2:], inside[2:], True)
