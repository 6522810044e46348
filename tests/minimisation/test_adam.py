"""Adam for many problems at once against torch.optim.Adam, one problem at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from privsweep.minimisation.adam import BatchedAdam, milestones, recorded_iterations
from privsweep.minimisation.median_filter import median_filter


class Bowl:
    """``sum(curvature * (x - centre)^2)``; value infinite from evaluation ``breaks[v]`` on."""

    def __init__(self, victims: int, breaks: dict[int, int] | None = None, floor: float = 0.0):
        generator = torch.Generator().manual_seed(0)
        self.curvature = torch.rand(victims, 5, generator=generator, dtype=torch.float64) + 0.5
        self.centre = torch.randn(victims, 5, generator=generator, dtype=torch.float64)
        self.floor, self.count = floor, 0
        self.breaks = torch.tensor([(breaks or {}).get(v, 10**9) for v in range(victims)])

    def take(self, rows: Tensor) -> Bowl:
        part = type(self)(0, floor=self.floor)
        part.count = self.count
        for name in ("curvature", "centre", "breaks"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def draw(self) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        off = x - self.centre
        value = (self.curvature * off.square()).sum(1).clamp(min=self.floor)
        value = torch.where(self.count >= self.breaks, torch.nan, value)
        self.count += 1
        return value, 2 * self.curvature * off


def rule(**changes) -> BatchedAdam:
    values = {"lr": 0.1, "decay": False, "signed_coordinates": 0, "bounds": None, "keep": "last", "patience": 0,
              "filtered": None}  # fmt: skip
    return BatchedAdam(**{**values, **changes})


def plain(bowl: Bowl, start: Tensor, iterations: int, lr: float, decay: bool, signed: int, box) -> Tensor:
    """One problem at a time, with PyTorch's Adam and step decay."""
    ends = []
    for v in range(len(start)):
        x = start[v].clone().requires_grad_(True)
        adam = torch.optim.Adam([x], lr=lr)
        at = [iterations // 2.667, iterations // 1.6, iterations // 1.142]
        shrink = torch.optim.lr_scheduler.MultiStepLR(adam, at if decay else [], 0.1)
        for _ in range(iterations):
            x.grad = 2 * bowl.curvature[v] * (x.detach() - bowl.centre[v])
            x.grad[:signed] = x.grad[:signed].sign()
            adam.step()
            shrink.step()
            if box is not None:
                x.data = x.data.clamp(*box)
        ends.append(x.detach())
    return torch.stack(ends)


BOX = (torch.full((5,), -0.3, dtype=torch.float64), torch.full((5,), 0.4, dtype=torch.float64))


@pytest.mark.parametrize("box", [None, BOX], ids=["free", "bounded"])
@pytest.mark.parametrize("signed", [0, 3, 5])
@pytest.mark.parametrize("decay", [False, True])
def test_every_iterate_is_that_of_pytorchs_adam(decay, signed, box):
    bowl, start = Bowl(3), torch.zeros(3, 5, dtype=torch.float64)
    for iterations in (1, 7, 60):
        end = rule(decay=decay, signed_coordinates=signed, bounds=box).minimise(bowl, start, iterations)
        torch.testing.assert_close(end.x, plain(bowl, start, iterations, 0.1, decay, signed, box))
        torch.testing.assert_close(end.value, bowl(end.x)[0])
        assert end.evaluations.tolist() == [iterations + 1] * 3


def test_the_step_shrinks_where_the_reference_shrinks_it():
    assert milestones(7000) == (2624, 4374, 6129)
    assert milestones(4800) == (1799, 2999, 4203)


def test_the_curve_holds_the_values_after_those_iterations():
    bowl, start = Bowl(2), torch.zeros(2, 5, dtype=torch.float64)
    end = rule().minimise(bowl, start, 40)
    assert recorded_iterations(40) == list(range(1, 41))
    assert len(recorded_iterations(7000)) <= 301
    assert recorded_iterations(7000)[-1] == 7000
    for column in (0, 17, 39):
        shorter = rule().minimise(bowl, start, column + 1)
        torch.testing.assert_close(end.curve[:, column], shorter.value)


def test_the_best_iterate_is_kept():
    bowl, start = Bowl(3), torch.zeros(3, 5, dtype=torch.float64)
    last, best = (rule(lr=2.0, keep=keep).minimise(bowl, start, 12) for keep in ("last", "best"))
    least = torch.minimum(last.curve.amin(1), bowl(start)[0])
    torch.testing.assert_close(best.value, least)
    torch.testing.assert_close(bowl(best.x)[0], least)
    assert (best.value < last.value).any()


def test_a_problem_that_no_longer_decreases_stops_alone():
    bowl, start = Bowl(3, floor=0.5), torch.zeros(3, 5, dtype=torch.float64)
    start[0] = bowl.centre[0]  # at the floor from the start
    end = rule(patience=70, lr=0.02).minimise(bowl, start, 300)
    assert end.evaluations[0] == 71
    assert (end.evaluations[1:] > 71).all()
    assert end.curve.isfinite().all()
    assert not end.diverged.any()
    alone = rule(patience=70, lr=0.02).minimise(bowl.take(torch.tensor([2])), start[2:], 300)
    torch.testing.assert_close(alone.x[0], end.x[2])


@pytest.mark.parametrize("breaks", [0, 4, 60])
def test_a_problem_that_breaks_off_keeps_its_last_finite_iterate(breaks):
    start = torch.zeros(3, 5, dtype=torch.float64)
    end = rule().minimise(Bowl(3, {1: breaks}), start, 120)
    assert end.diverged.tolist() == [False, True, False]
    assert end.evaluations.tolist() == [121, breaks + 1, 121]
    whole = rule().minimise(Bowl(3), start, 120)
    torch.testing.assert_close(end.x[[0, 2]], whole.x[[0, 2]])
    expected = rule().minimise(Bowl(3), start, max(breaks - 1, 1)).x[1] if breaks else start[1]
    torch.testing.assert_close(end.x[1], expected)
    assert end.curve[1, max(breaks - 1, 0) :].isnan().all()


def test_progress_is_told_now_and_then():
    told = []
    rule().minimise(
        Bowl(2), torch.zeros(2, 5, dtype=torch.float64), 120, lambda done, value: told.append((done, value))
    )
    assert [done for done, _ in told] == [50, 100]


def test_the_median_filter_smooths_the_images_alone_and_every_five_hundred_iterations():
    class Still(Bowl):
        def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.sum(1), torch.zeros_like(x)

    spot = torch.zeros(2, 2, 1, 3, 3, dtype=torch.float64)
    spot[:, :, 0, 1, 1] = 1.0
    start = torch.cat((spot.flatten(1), torch.ones(2, 4, dtype=torch.float64)), 1)
    for iterations, left in ((499, 4.0), (500, 0.0)):
        end = rule(filtered=(2, 1, 3, 3)).minimise(Still(2), start, iterations).x
        assert end[:, :18].sum() == left
        assert (end[:, 18:] == 1).all()


def test_the_median_is_that_of_nine_pixels_mirrored_at_the_border():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    smooth = median_filter(image)[0, 0]
    assert smooth[1, 1] == image[0, 0, 0:3, 0:3].median()
    assert smooth[0, 0] == torch.tensor([5.0, 4, 5, 1, 0, 1, 5, 4, 5]).median()
    row = torch.tensor([[[[3.0, 1, 2, 9]]]])
    assert median_filter(row).flatten().tolist() == [1, 2, 2, 2]


class Sharp(Bowl):
    """A bowl whose gradient is all sign, so that an iterate is as far from the bottom as its step is long."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = super().__call__(x)
        return value, gradient.sign()


def test_a_problem_that_stalls_goes_on_with_smaller_steps_and_ends_as_by_the_whole_schedule():
    bowl, start = Sharp(3), torch.zeros(3, 5, dtype=torch.float64)
    rules = {"stop": rule(decay=True, patience=50), "whole": rule(decay=True), "on": rule(decay="stalled", patience=50)}
    ends = {name: one.minimise(Sharp(3), start, 3000) for name, one in rules.items()}
    worst = {name: end.value.max() for name, end in ends.items()}
    assert worst["on"] < 1e-2 * worst["stop"]
    assert worst["on"] < 10 * worst["whole"]
    assert (ends["on"].evaluations < 0.5 * ends["whole"].evaluations).all()
    alone = rules["on"].minimise(bowl.take(torch.tensor([2])), start[2:], 3000)
    torch.testing.assert_close(alone.x[0], ends["on"].x[2])
    assert alone.evaluations[0] == ends["on"].evaluations[2]


def test_who_never_stalls_takes_the_steps_of_the_schedule():
    start = torch.zeros(3, 5, dtype=torch.float64)
    schedule, stalled = (rule(decay=decay, patience=301).minimise(Bowl(3), start, 300) for decay in (True, "stalled"))
    torch.testing.assert_close(stalled.x, schedule.x, rtol=0, atol=0)
