import pytest
import torch
from torch import Tensor

from privsweep.minimisation.lbfgs import BatchedLBFGS
from privsweep.minimisation.minimum import Minimum

DIM = 40


class Valleys:
    """Rosenbrock's valleys of several steepness; NaN where the first coordinate is above ``wall``."""

    def __init__(self, steep: Tensor, ripple: Tensor, wall: Tensor | None = None):
        self.steep, self.ripple = steep, ripple
        self.wall = torch.full_like(steep, torch.inf) if wall is None else wall
        self.sizes: list[int] = []

    def value(self, x: Tensor) -> Tensor:
        valley = (x[:, 1:] - x[:, :-1] ** 2).square().sum(1) * self.steep + (1 - x).square().sum(1)
        value = valley + self.ripple * torch.cos(3 * x).sum(1)
        return torch.where(x[:, 0] > self.wall, torch.nan, value)

    def draw(self) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(x))
        x = x.detach().requires_grad_(True)
        value = self.value(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    def take(self, rows: Tensor) -> "Valleys":
        part = Valleys(self.steep[rows], self.ripple[rows], self.wall[rows])
        part.sizes = self.sizes
        return part


def valleys(count: int = 6) -> tuple[Valleys, Tensor]:
    torch.manual_seed(0)
    steep = torch.logspace(-2, 1, count, dtype=torch.float64)
    ripple = torch.linspace(0, 0.1, count, dtype=torch.float64)
    start = torch.randn(count, DIM, dtype=torch.float64) * torch.linspace(0.1, 1.2, count)[:, None]
    return Valleys(steep, ripple), start


def rule(**changes) -> BatchedLBFGS:
    return BatchedLBFGS(
        **({"lr": 1.0, "inner": 20, "history": 100, "tolerance_grad": 1e-7, "tolerance_change": 1e-9} | changes)
    )


def single(problem: Valleys, start: Tensor, rule: BatchedLBFGS, outer: int) -> tuple[Tensor, list[float], int]:
    """torch.optim.LBFGS: the last iterate, the objective after every outer iteration, calls of the closure."""
    x = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [x],
        lr=rule.lr,
        max_iter=rule.inner,
        max_eval=10 * rule.inner,
        history_size=rule.history,
        tolerance_grad=rule.tolerance_grad,
        tolerance_change=rule.tolerance_change,
    )
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        value = problem.value(x[None]).sum()
        value.backward()
        return value

    curve = []
    for _ in range(outer):
        optimizer.step(closure)
        curve.append(problem.value(x.detach()[None]).item())
    return x.detach(), curve, calls


def agree(found: Minimum, problem: Valleys, start: Tensor, settings: BatchedLBFGS, outer: int) -> None:
    for v in range(len(start)):
        rows = torch.tensor([v])
        x, curve, _ = single(problem.take(rows), start[v], settings, outer)
        torch.testing.assert_close(
            found.curve[v], torch.tensor(curve, dtype=torch.float64), rtol=1e-8, atol=1e-9, equal_nan=True
        )
        if not found.diverged[v]:
            torch.testing.assert_close(found.x[v], x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "outer"),
    [
        (rule(), 2),
        (rule(history=4), 2),  # the oldest pairs are dropped
        (rule(history=1), 3),
        (rule(inner=3, history=5), 12),  # many outer iterations
        (rule(inner=1), 20),
        (rule(lr=0.3), 2),
        (rule(tolerance_change=1e-2), 12),  # ends outer iterations early
        (rule(tolerance_grad=1e-1), 6),  # finishes for good
    ],
)
def test_trajectories_are_those_of_torch(settings, outer):
    problem, start = valleys()
    found = settings.minimise(problem, start, outer)
    agree(found, problem, start, settings, outer)
    assert not found.diverged.any()


def test_pairs_of_negative_curvature_are_skipped():
    """Between the ripples the objective is concave: some pairs are not stored, and the victims' counts differ."""
    torch.manual_seed(1)
    problem = Valleys(torch.full((8,), 0.01).double(), torch.linspace(3, 9, 8).double())
    start = torch.randn(8, DIM, dtype=torch.float64)
    settings = rule(history=6, lr=0.2)
    agree(settings.minimise(problem, start, 2), problem, start, settings, 2)


def test_a_divergent_problem_keeps_its_last_finite_iterate():
    problem, start = valleys()
    start[:, 0] = -0.5
    problem.wall[torch.tensor([1, 4])] = 0.5  # on the way to the minimum, which is near 1
    found = rule().minimise(problem, start, 3)
    assert found.diverged.nonzero().flatten().tolist() == [1, 4]
    assert found.x.isfinite().all()
    assert (found.x[found.diverged][:, 0] <= 0.5).all()
    torch.testing.assert_close(problem.value(found.x), found.value)
    assert found.curve[found.diverged][:, -1].isnan().all()
    agree(found, problem, start, rule(), 3)


def test_evaluations_are_counted_without_repeating_the_start_of_an_outer_iteration():
    problem, start = valleys()
    settings = rule(tolerance_change=0.0, tolerance_grad=0.0, lr=0.3)
    found = settings.minimise(problem, start, 2)
    for v in range(len(start)):
        _, _, calls = single(problem.take(torch.tensor([v])), start[v], settings, 2)
        assert found.evaluations[v] == calls + 1 == 41  # and one more at the very end


def test_a_start_at_the_minimum_stays_there():
    problem = Valleys(torch.ones(1).double(), torch.zeros(1).double())
    found = rule().minimise(problem, torch.ones(1, DIM).double(), 4)
    assert found.evaluations.tolist() == [1]
    assert torch.equal(found.curve, torch.zeros(1, 4).double())


def test_problems_do_not_depend_on_their_company():
    problem, start = valleys()
    together = rule().minimise(problem, start, 2)
    rows = torch.tensor([4, 1])
    apart = rule().minimise(problem.take(rows), start[rows], 2)
    torch.testing.assert_close(together.curve[rows], apart.curve, rtol=1e-9, atol=1e-12)
    assert torch.equal(together.evaluations[rows], apart.evaluations)


def test_the_finished_leave_the_batch_and_progress_is_told():
    problem, start = valleys()
    start[:4] = 1.0
    problem.ripple[:4] = 0.0
    told: list[float] = []
    rule(tolerance_change=0.0, tolerance_grad=1e-9).minimise(problem, start, 5, lambda done, _: told.append(done))
    assert problem.sizes[0] == 6
    assert min(problem.sizes) <= 2
    assert told == sorted(told)
    assert told[-1] == 5
