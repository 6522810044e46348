"""L-BFGS that goes downhill only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from privsweep.minimisation.descent import BatchedDescent


class Bowls:
    """Quadratic from 1 up, with kinks where a coordinate is zero; NaN beyond ``wall``."""

    def __init__(self, steep: Tensor, kink: Tensor, wall: float = torch.inf):
        self.steep, self.kink, self.wall = steep, kink, wall
        self.sizes: list[int] = []

    def draw(self) -> tuple[Tensor, ...]:
        return ()

    def value(self, x: Tensor) -> Tensor:
        value = (self.steep * (x - 1).square()).sum(1) + self.kink * x.abs().sum(1) + 1
        return torch.where(x[:, 0] > self.wall, torch.nan, value)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(x))
        x = x.detach().requires_grad_()
        value = self.value(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    def take(self, rows: Tensor) -> Bowls:
        part = Bowls(self.steep[rows], self.kink[rows], self.wall)
        part.sizes = self.sizes
        return part


def bowls(wall: float = torch.inf) -> tuple[Bowls, Tensor]:
    torch.manual_seed(0)
    steep = torch.logspace(-1, 2, 5).double()[:, None] * torch.rand(5, 20, dtype=torch.float64).add(0.1)
    return Bowls(steep, torch.tensor([0.0, 0.0, 0.0, 0.05, 1.0]).double(), wall), torch.randn(5, 20).double() - 2


def test_the_least_is_found_whatever_the_scale_and_nothing_is_done_when_there() -> None:
    problem, start = bowls()
    found, value = BatchedDescent(300, 10).least(problem, start)
    assert torch.allclose(found[:3], torch.ones(3, 20).double(), atol=1e-6)
    assert torch.equal(value, problem.value(found))
    assert len(problem.sizes) < 300
    assert min(problem.sizes) < 5


def test_a_kink_stops_nothing_from_going_downhill() -> None:
    problem, start = bowls()
    least = (1 - problem.kink[:, None] / (2 * problem.steep)).clamp_min(0)
    _, value = BatchedDescent(300, 10).least(problem, start)
    below = problem.value(least)
    assert (value[3:] <= below[3:] + 0.1 * (problem.value(start) - below)[3:]).all()


@pytest.mark.parametrize("victim", [0, 4])
def test_a_problem_is_solved_alone_as_among_others(victim: int) -> None:
    problem, start = bowls()
    among, _ = BatchedDescent(40, 5).least(problem, start)
    rows = torch.tensor([victim])
    alone, _ = BatchedDescent(40, 5).least(problem.take(rows), start[rows])
    assert torch.allclose(among[rows], alone, rtol=1e-6, atol=1e-8)


def test_what_is_no_number_is_never_gone_to() -> None:
    problem, start = bowls(wall=0.5)
    start[0, 0] = 1.0
    found, value = BatchedDescent(100, 10).least(problem, start)
    assert torch.equal(found[0], start[0])
    assert value[0] == torch.inf
    assert (found[1:, 0] <= 0.5).all()
    assert (value[1:] < problem.value(start)[1:]).all()
