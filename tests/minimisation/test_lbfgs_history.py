from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from privsweep.compiled.library import compiled
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


@pytest.fixture(params=[True, False], ids=["compiled", "by PyTorch"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with compiled(request.param):
        yield


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [1, 3, 50])
def test_directions_are_those_of_the_two_loop_recursion(size):
    """Problems skip different pairs, and are taken out of the batch on the way."""
    torch.manual_seed(0)
    problems = list(range(5))
    curvature = Curvature(torch.zeros(5, 30, dtype=torch.float64), size)
    pairs: list[list] = [[] for _ in problems]
    for turn in range(12):
        if turn == 7:
            problems = [0, 3, 4]
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


@pytest.mark.usefixtures("way")
def test_a_pair_without_curvature_is_not_stored():
    curvature = Curvature(torch.zeros(1, 2), 4)
    g, step = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    assert torch.equal(curvature.direction(g, step, -step, LEAST), -g)
    assert curvature.stored.tolist() == [0]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_problems_direction_depends_on_nobody_to_the_last_bit(threads: int) -> None:
    """Others have stored more pairs, and are done by other threads."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together, alone = Curvature(torch.zeros(5, 77), 4), Curvature(torch.zeros(1, 77), 4)
        for turn in range(9):
            step, g = torch.randn(5, 77), torch.randn(5, 77)
            change = step + 0.5 * torch.randn_like(step)
            change[2] *= -1 if turn % 3 else 1
            one = slice(2, 3)
            found = together.direction(g, step, change, LEAST)
            assert torch.equal(found[one], alone.direction(g[one], step[one], change[one], LEAST))
    finally:
        torch.set_num_threads(before)
