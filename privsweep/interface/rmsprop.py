"""RMSProp as Optax, JAX's library of optimisers, defines it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_DECAY, _EPSILON = 0.9, 1e-8  # of the running mean; added to it, under the root


class RMSProp(torch.optim.Optimizer):
    """Steps of ``lr`` times the gradient over the root of its running mean square, elementwise; no momentum.

    The small number is added under the root, where PyTorch's own adds it to the root and a decay of 0.99 is usual. So a
    gradient far below 1e-4 makes a small step, not one of ``lr``. The mean starts at zero and is not corrected for it.
    ``weight_decay`` is the factor of a penalty in the gradient, as everywhere in PyTorch. ``lr`` may be a tensor, which
    no step waits for.

    Source: Hinton's lecture 6e (2012) and the documentation of ``optax.rmsprop``.
    """

    def __init__(self, parameters: list[Tensor], lr: float | Tensor, weight_decay: float):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """``closure`` is not called: nothing here looks at the loss."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                if group["weight_decay"]:
                    gradient = gradient.add(parameter, alpha=group["weight_decay"])
                if parameter not in self.state:
                    self.state[parameter]["square"] = torch.zeros_like(parameter)
                square = self.state[parameter]["square"]
                square.mul_(_DECAY).addcmul_(gradient, gradient, value=1 - _DECAY)
                parameter.addcdiv_(gradient * -group["lr"], square.add(_EPSILON).sqrt_())
