"""A client's local training, taken anew from dummy images and differentiated with respect to them.

Geiping et al., "Inverting gradients" (NeurIPS 2020), section 5, match several local steps so; Dimitrov et al., "Data
leakage in federated averaging" (TMLR 2022), section 4, simulate them as well. Both have SGD. Adam's first step moves
every weight by the learning rate, whatever the size of its gradient, so that its derivative is all but zero: here the
step is Adam's, and its derivative that of a smoother one (a straight-through estimate, as Bengio et al., 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GradientOf = Callable[[Mapping[str, Tensor], slice], Mapping[str, Tensor]]  # of the loss at weights, of some images
_BETAS, _EPS = (0.9, 0.999), 1e-8  # of Adam, as PyTorch has them
_SMOOTH = 0.3  # in place of eps, times the root mean square over a tensor, where Adam's step is differentiated
_TINY = 1e-30  # under a root, whose derivative at zero is infinite


@dataclass(frozen=True)
class LocalSteps:
    """How clients got from the weights before to those after, of which the mean is compared."""

    optimizer: Literal["sgd", "adam"]
    momentum: float  # of SGD
    lr: float
    steps: int  # of each
    batch_size: int  # images a step
    clients: int  # among whom the images are shared out, in their order
    scale: float  # times which differences are compared

    def scaled(self, difference: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.scale * d for name, d in difference.items()}

    def difference(self, gradient_of: GradientOf, start: Mapping[str, Tensor], examples: int) -> dict[str, Tensor]:
        """``scale`` times weights after less weights before, by name.

        In every epoch images come in their own order: nobody tells the adversary another.
        """
        own = examples // self.clients
        after = [self._trained(gradient_of, start, range(own * c, own * (c + 1))) for c in range(self.clients)]
        mean = {name: sum((w[name] for w in after[1:]), first) / self.clients for name, first in after[0].items()}
        return self.scaled({name: w - start[name] for name, w in mean.items()})

    def _trained(self, gradient_of: GradientOf, start: Mapping[str, Tensor], own: range) -> dict[str, Tensor]:
        """A client's weights after training on images of its ``own``."""
        now = dict(start)
        first = {name: torch.zeros_like(w) for name, w in start.items()}
        second = dict(first)
        batches = [own[i : i + self.batch_size] for i in range(0, len(own), self.batch_size)]
        for step in range(self.steps):
            batch = batches[step % len(batches)]
            grad = gradient_of(now, slice(batch.start, batch.stop))
            if self.optimizer == "sgd":
                first = {name: self.momentum * first[name] + g for name, g in grad.items()}
                now = {name: w - self.lr * first[name] for name, w in now.items()}
                continue
            one, two = _BETAS
            first = {name: one * first[name] + (1 - one) * g for name, g in grad.items()}
            second = {name: two * second[name] + (1 - two) * g.square() for name, g in grad.items()}
            rate, share = self.lr / (1 - one ** (step + 1)), 1 - two ** (step + 1)
            now = {name: w - rate * _adam(first[name], second[name] / share) for name, w in now.items()}
        return now


def _adam(mean: Tensor, square: Tensor) -> Tensor:
    """``mean`` over the root of ``square``, with a derivative that leads somewhere."""
    root = (square + _TINY).sqrt()
    smooth = mean / (root + _SMOOTH * square.detach().mean().sqrt() + _EPS)
    return smooth + (mean / (root + _EPS) - smooth).detach()
