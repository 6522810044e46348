"""The likeliest image behind a whole gradient of a chain of convolutions, from one that is near it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from privsweep.gradient_inversion.likely_inputs import Picture, likely_picture
from privsweep.gradient_inversion.recursion import Behind
from privsweep.interface.data import Domain, Tensors
from privsweep.model.convolution_chain import ConvolutionChain

_EXPLAINED = 1e-3  # of a gradient's norm: what is left of it where nothing is to be gained
_ROUNDING = 1e-6  # of the largest entry
# Variance beside the noise's, as a share of residuals' mean square at the beginning: the first steps shall not follow
# the few equations that are surest, such as those of what was not pruned, to where none of the others holds.
_LENIENT = (1.0, 0.0)
_STEPS = 150  # with each of these
_HISTORY = 30
_TINY = 1e-30


def refined(chain: ConvolutionChain, weights: Tensors, gradient: Tensors, domain: Domain, near: Behind) -> Tensor:
    """Model inputs ``[V, C, H, W]`` behind gradients ``[V, ...]`` of one example each, from what is ``near``.

    Solving layer by layer (``recursion``) hands on what noise leaves of a layer's inputs and errors as if every number
    were independent, and takes the next layer's equations to be made of the true errors. Here the image and the dense
    layer's errors are changed together, so that all gradients are met as nearly as the noise allows and the picture
    stays likely: maximum a posteriori, by L-BFGS (Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.5).
    Nothing behind the dense layer matters here, either. What explains its gradient is left alone, and kept where
    nothing likelier is found. Each victim by itself, for its result must not depend on the others.
    """
    picture = likely_picture(domain, near.images.device).to(near.images.dtype)
    found = near.images.clone()
    errors, doubt, noise = (t.to(found) for t in (near.dense.errors, near.dense.doubt, near.dense.noise))
    zeroed = {name: bound.to(found) for name, bound in near.dense.zeroed.items()}
    for victim, start in enumerate(near.images):
        sent = {name: gradient[name][victim] for name in _parameters(chain) if name in gradient}
        variance = {name: _variance(g, noise[victim], zeroed[name][victim]) for name, g in sent.items()}
        posterior = _Posterior(chain, weights, sent, variance, picture, errors[victim], doubt[victim])
        found[victim] = posterior.likeliest(start)
    return found


def _parameters(chain: ConvolutionChain) -> list[str]:
    layers = [*(step.name for step in chain.convolutions), chain.dense]
    return [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]


def _variance(sent: Tensor, noise: Tensor, zeroed: Tensor) -> Tensor:
    """Of a gradient's entries, by noise, rounding and pruning."""
    exact = noise.square() + (_ROUNDING * sent.abs().amax()).square() + _TINY
    return exact + torch.where(sent == 0, zeroed.square() / 3, 0)


@dataclass(frozen=True)
class _Posterior:
    """Of one victim's image, and of the errors of the dense layer.

    Both are one vector: the image as independent normal numbers, then by how much the errors differ from ``errors``,
    in their deviations.
    """

    chain: ConvolutionChain
    weights: Tensors
    sent: Tensors  # the gradient
    variance: Tensors  # of its entries
    picture: Picture
    errors: Tensor  # [K], at the beginning
    doubt: Tensor  # [K], their deviations

    def likeliest(self, start: Tensor) -> Tensor:
        """From the image ``start`` ``[C, H, W]``."""
        point = first = torch.cat((self.picture.whitened(start).flatten(), torch.zeros_like(self.errors)))
        left = self._left(first)
        if all(bool(left[name].norm() <= _EXPLAINED * g.norm()) for name, g in self.sent.items()):
            return start
        for share in _LENIENT:
            lenient = {name: self.variance[name] + share * r.square().mean() for name, r in self._left(point).items()}
            point = self._descended(point, lenient)
        better = self._value(point, self.variance) < self._value(first, self.variance)
        return self.picture.coloured(self._white(point)) if better else start

    def _descended(self, start: Tensor, variance: Tensors) -> Tensor:
        """The least that was seen: at a kink, as of ReLU, a line search may end anywhere, and with no number."""
        point = start.clone().requires_grad_()
        rule = torch.optim.LBFGS(
            [point], max_iter=_STEPS, history_size=_HISTORY, line_search_fn="strong_wolfe", tolerance_grad=0,
            tolerance_change=0,
        )  # fmt: skip
        least, best = math.inf, start

        def value() -> Tensor:
            nonlocal least, best
            now = self._value(point, variance)
            [point.grad] = torch.autograd.grad(now, [point])
            if now.item() < least:
                least, best = now.item(), point.detach().clone()
            return now.detach()

        with torch.enable_grad():
            rule.step(value)  # type: ignore[arg-type]
        return best

    def _value(self, point: Tensor, variance: Tensors) -> Tensor:
        """Minus twice the posterior's logarithm, but for a constant."""
        fit = [(left.square() / variance[name]).sum() for name, left in self._left(point).items()]
        return torch.stack([*fit, self._white(point).square().sum()]).sum()

    def _left(self, point: Tensor) -> dict[str, Tensor]:
        """The gradient at ``point`` less the one that was sent."""
        leaves = {name: self.weights[name].detach().clone().requires_grad_() for name in self.sent}
        values = {**self.weights, **leaves}
        with torch.enable_grad():
            *_, (_, _, x) = self.chain.run(values, self.picture.coloured(self._white(point))[None])
            answers = linear(x.flatten(), values[f"{self.chain.dense}.weight"], values.get(f"{self.chain.dense}.bias"))
            errors = self.errors + self.doubt * point[-len(self.errors) :]
            made = torch.autograd.grad(answers @ errors, list(leaves.values()), create_graph=point.requires_grad)
        return {name: g - self.sent[name] for name, g in zip(leaves, made, strict=True)}

    def _white(self, point: Tensor) -> Tensor:
        return point[: -len(self.errors)].view(self.picture.mean.shape)
