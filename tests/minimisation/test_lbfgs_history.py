import pytest
import torch
from torch import Tensor

from privsweep.minimisation.lbfgs_history import Curvature

LEAST = 1e-10


def two_loops(g: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Nocedal and Wright, algorithm 7.4, for one problem."""
    q, alphas = g.clone(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    q = q * (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - (y @ q) / (s @ y))
    return -q


@pytest.mark.parametrize("size", [1, 3, 50])
def test_directions_are_those_of_the_two_loop_recursion(size):
    """Problems skip different pairs, and are taken out of the batch on the way."""
    torch.manual_seed(0)
    problems = list(range(5))
    curvature = Curvature(torch.zeros(5, 30, dtype=torch.float64), size)
    pairs: list[list] = [[] for _ in problems]
    for turn in range(12):
        if turn == 7:
            problems = [3, 0, 4]
            curvature.take(torch.tensor(problems))
        step = torch.randn(len(problems), 30, dtype=torch.float64)
        change = step + 0.5 * torch.randn_like(step)
        if turn:
            skipped = torch.rand(len(problems)) < 0.4
            change[skipped] *= -1
        g = torch.randn_like(step)
        found = curvature.direction(g, step, change, LEAST)
        for row, problem in enumerate(problems):
            if step[row] @ change[row] > LEAST:
                pairs[problem] = [*pairs[problem], (step[row], change[row])][-size:]
            torch.testing.assert_close(found[row], two_loops(g[row], pairs[problem]), rtol=1e-9, atol=1e-9)
    assert len({len(p) for p in pairs}) > 1 or size < 12


def test_a_pair_without_curvature_is_not_stored():
    curvature = Curvature(torch.zeros(1, 2), 4)
    g, step = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    assert torch.equal(curvature.direction(g, step, -step, LEAST), -g)
    assert curvature.stored.tolist() == [0]
