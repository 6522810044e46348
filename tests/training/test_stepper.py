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
