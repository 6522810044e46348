import pytest
import torch
from torch import Tensor

from privsweep.membership_inference.update_ratio import Products, log_ratios, products


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(rows: Tensor, public: int, updates: Tensor, asked: Tensor, size: int = 1000) -> Products:
    return products(lambda part: rows[part], public, updates, asked, size)


def test_the_ratio_is_that_of_two_gaussians_by_dense_algebra() -> None:
    public, candidates, examples, numbers = 20, 6, 4, 50
    rows = drawn(public + candidates, numbers) * torch.linspace(0.1, 2, numbers) + 0.3
    updates, asked = drawn(2, numbers, seed=1) * 0.4 + 0.3, torch.tensor([0, 1, 1, 0, 1, 0])
    found = log_ratios(of(rows, public, updates, asked), asked, examples, numbers)
    known, mean = rows[:public], rows[:public].mean(0)
    span = torch.linalg.pinv(known - mean) @ (known - mean)
    for m, v in enumerate(asked.tolist()):
        away = updates[v] - mean
        noise = (away - span @ away).square().sum() / (numbers - public + 1)
        covariance = torch.cov(known.T) / examples + noise * torch.eye(numbers)
        out = torch.distributions.MultivariateNormal(mean, covariance)
        inside = torch.distributions.MultivariateNormal(mean + (rows[public + m] - mean) / examples, covariance)
        assert found[m] == pytest.approx((inside.log_prob(updates[v]) - out.log_prob(updates[v])).item(), rel=1e-6)


@pytest.mark.parametrize("size", [1, 3, 7, 26])
def test_products_are_the_same_however_many_gradients_are_held(size: int) -> None:
    rows, updates, asked = drawn(17, 30), drawn(3, 30, seed=1), torch.tensor([0, 2, 1, 2, 0])
    whole, parts = of(rows, 12, updates, asked), of(rows, 12, updates, asked, size)
    for name, value in vars(whole).items():
        assert torch.allclose(vars(parts)[name], value), name
    assert torch.allclose(whole.public, rows[:12] @ rows[:12].T)
    assert torch.allclose(whole.own, (rows[12:] * updates[asked]).sum(1))


def test_a_network_of_fewer_numbers_than_records_and_updates_that_are_none() -> None:
    rows, asked = drawn(60, 5), torch.arange(10)
    assert log_ratios(of(rows, 50, rows[50:], asked), asked, 2, 5).isfinite().all()
    for broken in (torch.zeros(10, 5, dtype=torch.float64), torch.full((10, 5), torch.nan, dtype=torch.float64)):
        assert log_ratios(of(rows, 50, broken, asked), asked, 2, 5).isfinite().all()
    diverged = of(rows * torch.inf, 50, rows[50:], asked)
    assert not log_ratios(diverged, asked, 2, 5).any(), "where the model is no number, nothing is told"


def test_it_sees_what_products_with_the_update_do_not() -> None:
    """Gradients share a few strong directions, in which batches differ by more than a single record."""
    public, numbers, examples, batches = 200, 300, 32, 60
    count = public + batches * examples + batches
    rows = drawn(count, 5, seed=3) @ (3 * drawn(5, numbers, seed=2)) + 0.5 * drawn(count, numbers)
    inside = rows[public : public + batches * examples].view(batches, examples, numbers)
    pool = torch.cat([rows[:public], inside[:, 0], rows[-batches:]])
    asked, member = torch.arange(batches).repeat(2), torch.arange(2 * batches) < batches
    found = of(pool, public, inside.mean(1), asked)
    ratios = log_ratios(found, asked, examples, numbers)

    def right(scores: Tensor) -> float:
        return (scores[member][:, None] > scores[~member]).double().mean().item()

    assert right(found.own / found.squares.sqrt()) < 0.75
    assert right(ratios) > 0.85
    assert (ratios[member] > 0).double().mean() > 0.65
    assert (ratios[~member] < 0).double().mean() > 0.65
