"""What rgap solves for at once of a gradient, and what it fits.

Beside its equations as one would write them for one victim, as R-GAP's own code does it: of every convolution a matrix
of all equations, and least squares. Checked first: both find the images, of gradients in float64 that nobody has
defended. What noise leaves is fitted for all victims together, or for one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_weight

from benchmarks.contest import Case, Contest, DisagreementError, Setup
from benchmarks.matching_world import CLASSES, Problem, World, make_world
from privsweep.gradient_inversion.before_activation import Told
from privsweep.gradient_inversion.before_dense import BeforeDense
from privsweep.gradient_inversion.joint_refinement import refined
from privsweep.gradient_inversion.recursion import Behind, recursion
from privsweep.interface.data import Domain, Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.convolution_chain import ConvolutionChain, convolution_chain

_MODEL = ("model=lenet_dlg", "model.init=default", "model.activation=leaky_relu")
_SLOPE = 0.01  # of leaky ReLU
_NEAR = 1e-4  # of a pixel
_NOISE = 1e-3  # its deviation, of what is fitted


def rgap(setup: Setup) -> Contest:
    side = setup.sized(16, 32, 32)
    counts = setup.victims or (1, setup.sized(2, 8, 32))
    world = make_world(Problem(_MODEL, image=(1, side, side)), max(counts), setup.device, torch.float64)
    chain, domain = convolution_chain(world.model), Domain((1, side, side), CLASSES, (0.0,), (1.0,))
    assert chain is not None
    weights = {name: w.detach() for name, w in world.model.state_dict().items()}

    def together(victims: int) -> Tensor:
        target = {name: g[:victims] for name, g in world.target.items()}
        return recursion(chain, weights, target, domain, Rng(0)).images

    if (plain_rgap(world, chain, 0, domain) - together(max(counts))[0]).abs().max() > _NEAR:
        raise DisagreementError("images differ from those of plain least squares")
    ways: dict[str, Callable[[], float]] = {
        "1 victim" if n == 1 else f"{n} victims": partial(lambda n: len(together(n)), n) for n in counts
    }
    return Contest(lambda: len(plain_rgap(world, chain, 0, domain)), ways)


def rgap_fitted(setup: Setup) -> Contest:
    side, victims = setup.sized(16, 32, 32), max(setup.victims or (setup.sized(2, 8, 32),))
    world = make_world(Problem(_MODEL, image=(1, side, side)), victims, setup.device, torch.float64)
    chain, domain = convolution_chain(world.model), Domain((1, side, side), CLASSES, (0.0,), (1.0,))
    assert chain is not None
    weights, drawn = {name: w.detach() for name, w in world.model.state_dict().items()}, Rng(0)
    target = {n: g + _NOISE * drawn.child(n).normal(*g.shape).to(g) for n, g in world.target.items()}
    near = recursion(chain, weights, target, domain, drawn)
    parts = [(_part(target, own), _behind(near, own)) for own in (slice(v, v + 1) for v in range(victims))]

    def alone() -> Tensor:
        return torch.cat([refined(chain, weights, sent, domain, behind) for sent, behind in parts])

    def together() -> Tensor:
        return refined(chain, weights, target, domain, near)

    if (alone() - together()).abs().max() > _NEAR:
        raise DisagreementError("images differ from those that are fitted one by one")
    return Contest(lambda: len(alone()), {f"{victims} victims": lambda: len(together())})


def _part(of: Tensors, own: slice) -> dict[str, Tensor]:
    return {name: t[own] for name, t in of.items()}


def _behind(near: Behind, own: slice) -> Behind:
    dense = near.dense
    told = Told(dense.told.value[own], dense.told.variance[own], dense.told.error[own], dense.told.doubt[own])
    zeroed = _part(dense.zeroed, own)
    return Behind(near.images[own], BeforeDense(told, dense.errors[own], dense.doubt[own], dense.noise[own], zeroed))


def plain_rgap(world: World, chain: ConvolutionChain, victim: int, domain: Domain) -> Tensor:
    """The image ``[C, H, W]``."""
    sent = {name: g[victim] for name, g in world.target.items()}
    errors = sent[f"{chain.dense}.bias"]
    value = errors @ sent[f"{chain.dense}.weight"] / errors.square().sum()
    error = errors @ world.model.get_submodule(chain.dense).weight.detach()
    passed = [value.new_zeros(1, *domain.shape)]
    for step in chain.convolutions:
        passed.append(step.layer(passed[-1]))
    for step, before, after in reversed(list(zip(chain.convolutions, passed, passed[1:], strict=False))):
        error = torch.where(value < 0, _SLOPE, 1.0) * error
        value = torch.where(value < 0, value / _SLOPE, value)
        layer, (bias,) = step.layer, [b.detach() for name, b in step.layer.named_parameters() if name == "bias"]
        every = torch.eye(before.numel(), dtype=value.dtype, device=value.device).view(-1, *before.shape)
        weight, how = layer.weight.detach(), (layer.stride, step.padding)
        answers = conv2d(every[:, 0], weight, None, *how).flatten(1)
        sums = torch.stack([conv2d_weight(x, weight.shape, error.view_as(after), *how).flatten() for x in every])
        wanted = torch.cat((value - bias.repeat_interleave(after[0, 0].numel()), sent[f"{step.name}.weight"].flatten()))
        value = torch.linalg.lstsq(torch.cat((answers, sums), 1).mT, wanted[:, None]).solution[:, 0]
        error = answers @ error
    return value.view(domain.shape)


CASES = {
    "rgap": Case("rgap of LeNet, or plain least squares of each layer", "an image", rgap),
    "rgap_fitted": Case("rgap's fit to noisy gradients of LeNet, or a loop over victims", "an image", rgap_fitted),
}
