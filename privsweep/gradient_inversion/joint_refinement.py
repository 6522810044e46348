"""The likeliest images behind whole gradients of a chain of convolutions, from some that are near them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, unfold

from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.gradient_inversion.likely_inputs import Picture, likely_picture
from privsweep.gradient_inversion.recursion import Behind
from privsweep.interface.data import Domain, Tensors
from privsweep.minimisation.descent import BatchedDescent
from privsweep.model.convolution_chain import ConvolutionChain

_EXPLAINED = 1e-3  # of a gradient's norm: what is left of it where nothing is to be gained
_ROUNDING = 1e-6  # of the largest entry
# Variance beside the noise's, as a share of residuals' mean square at the beginning: the first steps shall not follow
# the few equations that are surest, such as those of what was not pruned, to where none of the others holds.
_LENIENT = (1.0, 0.0)
_STEPS = BatchedDescent(evaluations=187, history=30)  # with each of these
_BESIDE = 5  # copies of unknowns, gradients and patches: found by measuring peak memory on the CPU
_TINY = 1e-30


def refined(chain: ConvolutionChain, weights: Tensors, gradient: Tensors, domain: Domain, near: Behind) -> Tensor:
    """Model inputs ``[V, C, H, W]`` behind gradients ``[V, ...]`` of one example each, from what is ``near``.

    Solving layer by layer (``recursion``) hands on what noise leaves of a layer's inputs and errors as if every number
    were independent, and takes the next layer's equations to be made of the true errors. Here the image and the dense
    layer's errors are changed together, so that all gradients are met as nearly as the noise allows and the picture
    stays likely: maximum a posteriori, by L-BFGS. Nothing behind the dense layer matters here, either. What explains
    its gradient is left alone, and kept where nothing likelier is found. All victims at once, each by itself, in
    float64, so that rounding is too small for one to feel the others.
    """
    picture, start = likely_picture(domain, near.images.device), near.images.double()
    wide = {name: w.double() for name, w in weights.items()}
    sent = {name: gradient[name].double() for name in _parameters(chain) if name in gradient}
    behind = near.dense
    variance = {name: _variance(g, behind.noise, behind.zeroed[name]) for name, g in sent.items()}
    everyone = _Posterior(chain, wide, sent, variance, picture, behind.errors, behind.doubt)
    first = torch.cat((picture.whitened(start).flatten(1), torch.zeros_like(behind.errors)), 1)
    with torch.no_grad():
        left = everyone.left(first)
    apart = [left[name].flatten(1).norm(dim=1) > _EXPLAINED * g.flatten(1).norm(dim=1) for name, g in sent.items()]
    rows = torch.stack(apart).any(0).nonzero()[:, 0]
    found = near.images.clone()
    if len(rows):
        found[rows] = everyone.take(rows).likeliest(first[rows], start[rows]).to(found)
    return found


def numbers_of_one(model: nn.Module, chain: ConvolutionChain, domain: Domain) -> int:
    """In float64, that fitting one victim holds at its peak."""
    passing = batch_activations(model, (1, *domain.shape))
    weights = dict(model.named_parameters())
    filters = {step.name: weights[f"{step.name}.weight"] for step in chain.convolutions}
    patches = sum(passing.positions[name] * w[0].numel() for name, w in filters.items())
    dense = weights[f"{chain.dense}.weight"]
    unknowns, gradients = prod(domain.shape) + len(dense), sum(w.numel() for w in (*filters.values(), dense))
    return _BESIDE * (unknowns + gradients + patches) + 2 * _STEPS.history * unknowns + 2 * passing.elements


def _parameters(chain: ConvolutionChain) -> list[str]:
    layers = [*(step.name for step in chain.convolutions), chain.dense]
    return [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]


def _each(numbers: Tensor, like: Tensor) -> Tensor:
    """One ``[V]`` for each victim, to be broadcast to ``like`` ``[V, ...]``."""
    return numbers.view(-1, *[1] * (like.dim() - 1))


def _variance(sent: Tensor, noise: Tensor, zeroed: Tensor) -> Tensor:
    """Of gradients' entries ``[V, ...]``, by noise, rounding and pruning."""
    exact = noise.square() + (_ROUNDING * sent.flatten(1).abs().amax(1)).square() + _TINY
    return _each(exact, sent) + torch.where(sent == 0, _each(zeroed.square() / 3, sent), 0)


@dataclass(frozen=True)
class _Posterior:
    """Of every victim's image, and of the errors of the dense layer: an ``Objective``.

    Both are one vector: the image as independent normal numbers, then by how much the errors differ from ``errors``,
    in their deviations.
    """

    chain: ConvolutionChain
    weights: Tensors
    sent: Tensors  # the gradients [V, ...]
    variance: Tensors  # of their entries
    picture: Picture
    errors: Tensor  # [V, K], at the beginning
    doubt: Tensor  # [V, K], their deviations

    def take(self, rows: Tensor) -> _Posterior:
        sent, variance = ({name: t[rows] for name, t in of.items()} for of in (self.sent, self.variance))
        return replace(self, sent=sent, variance=variance, errors=self.errors[rows], doubt=self.doubt[rows])

    def likeliest(self, first: Tensor, start: Tensor) -> Tensor:
        """From the points ``first``, which stand for the images ``start`` ``[V, C, H, W]``."""
        point = first
        for share in _LENIENT:
            with torch.no_grad():
                left = self.left(point)
            more = {name: _each(share * r.square().flatten(1).mean(1), r) for name, r in left.items()}
            lenient = {name: self.variance[name] + more[name] for name in left}
            point, value = _STEPS.least(replace(self, variance=lenient), point)
        better = value < self(first)[0]
        return torch.where(_each(better, start), self.picture.coloured(self._white(point)), start)

    def draw(self) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, x: Tensor, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Minus twice the posterior's logarithm, but for a constant, and its gradient."""
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            fit = [(left.square() / self.variance[name]).flatten(1).sum(1) for name, left in self.left(point).items()]
            value = torch.stack([*fit, self._white(point).square().flatten(1).sum(1)]).sum(0)
            [gradient] = torch.autograd.grad(value.sum(), [point])
        return value.detach(), gradient

    def left(self, point: Tensor) -> dict[str, Tensor]:
        """The gradients at ``point`` less those that were sent."""
        dense, convolutions = self.chain.dense, self.chain.convolutions
        errors = self.errors + self.doubt * point[:, -self.errors.shape[1] :]
        with torch.enable_grad():
            image = self.picture.coloured(self._white(point)).requires_grad_()
            given, answers, after = zip(*self.chain.run(self.weights, image), strict=True)
            x = after[-1].flatten(1)
            told = (linear(x, self.weights[f"{dense}.weight"]) * errors).sum()
            own = torch.autograd.grad(told, answers, create_graph=point.requires_grad)
        made = {f"{dense}.weight": errors[:, :, None] * x[:, None], f"{dense}.bias": errors}
        for step, before, error in zip(convolutions, given, own, strict=True):
            layer = step.layer
            patches = unfold(before, layer.kernel_size, layer.dilation, step.padding, layer.stride)
            made[f"{step.name}.weight"] = (error.flatten(2) @ patches.mT).view(-1, *layer.weight.shape)
            made[f"{step.name}.bias"] = error.flatten(2).sum(2)
        return {name: made[name] - g for name, g in self.sent.items()}

    def _white(self, point: Tensor) -> Tensor:
        return point[:, : -self.errors.shape[1]].view(-1, *self.picture.mean.shape)
