"""An optimiser's state is stored, and taken up, as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from privsweep.interface.training import Optimizer
from privsweep.store.sealed_tensors import save_tensors, taken_tensors
from privsweep.training.stepper import Stepper

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("name", "momentum"), [("adam", 0.0), ("sgd", 0.9), ("rmsprop", 0.9)])
def test_whatever_the_layout_steps_go_on_to_the_same_weights(
    name: str, momentum: float, layout: torch.memory_format, tmp_path: Path
) -> None:
    rule = Optimizer(name=name, lr=0.1, momentum=momentum)
    rng = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 2, 4, 4, generator=rng).to(memory_format=layout) for _ in range(4)]

    def leaf(value: Tensor) -> Tensor:
        return value.clone().to(memory_format=layout).requires_grad_()

    through = Stepper(rule, [leaf(torch.zeros(3, 2, 4, 4))])
    for gradient in gradients[:2]:
        through.step([gradient])
    save_tensors(tmp_path / "state", through.state(), {})
    taken = taken_tensors(tmp_path / "state", CPU, {})
    assert taken is not None
    later = Stepper(rule, [leaf(through.leaves[0].detach())])
    later.remember(taken[0])
    for gradient in gradients[2:]:
        through.step([gradient])
        later.step([gradient])
    assert torch.equal(through.leaves[0], later.leaves[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rule",
    [
        Optimizer("adam", 0.1, 0.0, 0.01, "cosine"),
        Optimizer("sgd", 0.1, 0.9, 0.01, "one_cycle"),
        Optimizer("sgd", 0.1, 0.0),
        Optimizer("rmsprop", 0.1, 0.0),
    ],
)
def test_steps_are_those_of_the_optimiser_to_the_last_bit(rule: Optimizer, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=rng, dtype=dtype) for shape in ((5,), (3, 4))]
    ours, theirs = ([t.clone().requires_grad_() for t in start] for _ in range(2))
    stepper, optimizer = Stepper(rule, ours), rule.make(theirs)
    for count in range(5):
        gradients = [torch.randn(t.shape, generator=rng, dtype=dtype) for t in start]
        stepper.at(count / 5)
        stepper.step(gradients)
        for leaf, gradient in zip(theirs, gradients, strict=True):
            leaf.grad = gradient
        optimizer.param_groups[0]["lr"] = rule.rate(count / 5)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("rule", [Optimizer("adam", 0.1, 0.0), Optimizer("sgd", 0.1, 0.9)])
def test_what_was_forgotten_does_not_come_back(rule: Optimizer) -> None:
    def moved(stepper: Stepper) -> Tensor:
        with torch.no_grad():
            stepper.leaves[0].zero_()
        for value in (1.0, -2.0, 0.5):
            stepper.step([torch.full((3,), value)])
        return stepper.leaves[0].detach().clone()

    used = Stepper(rule, [torch.zeros(3).requires_grad_()])
    moved(used)
    used.forget()
    assert torch.equal(moved(used), moved(Stepper(rule, [torch.zeros(3).requires_grad_()])))
