"""The sum of clipped gradients of dense and convolutional layers, out of what passes through them.

An example's gradient of such a layer is a product: of what goes in at ``T`` places, ``a`` ``[F, T]``, and the loss's
derivative by what comes out there, ``d`` ``[O, T]``. Its length is told without forming it: |a| |d| where T is one, the
root of the sum of (a' a) * (d' d) where T is small (Goodfellow, "Efficient per-example gradient computations", 2015;
Bu et al., "Scalable and efficient training of large convolutional neural networks with differential privacy", 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from privsweep.compiled.convolution import VictimConvolution, compiled_for, pair
from privsweep.compiled.narrow import narrow_convolutions
from privsweep.differential_privacy.clipping import clip_factors
from privsweep.interface.data import Loss, Tensors
from privsweep.model.plain import is_plain
from privsweep.model.sequence import is_sequence
from privsweep.model.stochastic import forward

Layers = Mapping[str, nn.Linear | nn.Conv2d]
_KNOWN = ("torch.", "torchvision.", "privsweep.")  # whose layers mix examples where they normalise by the batch alone


def layers_with_parameters(net: nn.Module) -> Layers | None:
    """Those that hold them all; None where there are others, parameters are frozen or held twice, a layer stands in two
    places, one overwrites what another put out, or one is of somebody else's making and may mix examples."""
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    if len(list(net.named_modules())) < len(list(net.named_modules(remove_duplicate=False))):
        return None
    for name, layer in net.named_modules():
        known = is_sequence(layer) or type(layer).__module__.startswith(_KNOWN)
        if getattr(layer, "inplace", False) or not known:
            return None
        own = list(layer.parameters(recurse=False))
        if not own:
            continue
        if not all(p.requires_grad for p in own) or not isinstance(layer, nn.Linear | nn.Conv2d) or not _plain(layer):
            return None
        found[name] = layer
    held = sum(len(list(layer.parameters())) for layer in found.values())
    return found if held == len(list(net.parameters())) else None


def numbers_held(layers: Layers, net: nn.Module, x: Tensor) -> int:
    """Of one example ``[1, ...]``: patches, and what their gradients' lengths are told by."""
    _, seen = _watched(layers, net, {}, x)
    count = 0
    for name, (given, out) in seen.items():
        layer = layers[name]
        if _convolution(layer, given) is not None:
            count += layer.weight.numel()
            continue
        a, d = _fed(layer, given), _put_out(layer, out)
        formed = _is_formed(a.shape[1], *d.shape[1:])
        count += a.numel() + (a.shape[1] * d.shape[1] if formed else 2 * a.shape[2] ** 2)
    return count


def clipped_sum(
    layers: Layers, net: nn.Module, loss: Loss, x: Tensor, y: Tensor, noise: Tensors, bound: float
) -> tuple[dict[str, Tensor], Tensor]:
    """By parameter, of examples ``[B, ...]``, which no layer mixes; and their mean loss, a mean over examples.

    ``noise`` is what stochastic layers read.
    """
    outputs, seen = _watched(layers, net, noise, x)
    value = loss(outputs, y)
    derivatives = torch.autograd.grad(value * len(x), [out for _, out in seen.values()])
    squares = torch.zeros(len(x), dtype=outputs.dtype, device=x.device)
    own: dict[str, _Formed | _Told] = {}
    biases: dict[str, Tensor] = {}
    with torch.no_grad():
        for (name, (given, _)), derivative in zip(seen.items(), derivatives, strict=True):
            own[name] = _own(layers[name], given, derivative)
            squares += own[name].squares()
            if layers[name].bias is not None:
                biases[name] = _put_out(layers[name], derivative).sum(2)
                squares += biases[name].square().sum(1)
        factor = clip_factors(squares.sqrt(), bound)
        total = {f"{name}.weight": each.sum(factor).view(layers[name].weight.shape) for name, each in own.items()}
        total |= {f"{name}.bias": torch.mv(each.T, factor) for name, each in biases.items()}
    return total, value.detach()


@dataclass(frozen=True)
class _Formed:
    """The examples' gradients by a weight, ``[B, ...]``."""

    gradients: Tensor

    def squares(self) -> Tensor:
        """Of their lengths, ``[B]``."""
        return self.gradients.flatten(1).square().sum(1)

    def sum(self, factor: Tensor) -> Tensor:
        """Each times its factor, ``[B]``."""
        return torch.mv(self.gradients.flatten(1).T, factor)


@dataclass(frozen=True)
class _Told:
    """The same, not formed."""

    fed: Tensor
    out: Tensor

    def squares(self) -> Tensor:
        return torch.bmm(self.fed.mT, self.fed).mul_(torch.bmm(self.out.mT, self.out)).sum((1, 2))

    def sum(self, factor: Tensor) -> Tensor:
        return torch.einsum("bot,bft->of", self.out * factor[:, None, None], self.fed)


def _own(layer: nn.Linear | nn.Conv2d, given: Tensor, derivative: Tensor) -> _Formed | _Told:
    if (compiled := _convolution(layer, given)) is not None:
        return _Formed(compiled.by_own_weight(given, derivative))
    a, d = _fed(layer, given), _put_out(layer, derivative)
    return _Formed(torch.bmm(d, a.mT)) if _is_formed(a.shape[1], *d.shape[1:]) else _Told(a, d)


def _convolution(layer: nn.Linear | nn.Conv2d, given: Tensor) -> VictimConvolution | None:
    """The compiled code, where an example's gradient is formed."""
    if isinstance(layer, nn.Linear) or layer.dilation != (1, 1) or not compiled_for(given.device, given.dtype):
        return None
    assert not isinstance(layer.padding, str)
    sizes = (given.shape[1:], layer.weight.shape)
    convolution = VictimConvolution(len(given), 1, *sizes, pair(layer.stride), pair(layer.padding))
    _, out, *places = convolution.output
    return convolution if _is_formed(layer.weight[0].numel(), out, prod(places)) else None


def _plain(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether ``_fed`` tells what such a layer multiplies, its own parameters and no product of others."""
    if not is_plain(layer) or not {name for name, _ in layer.named_parameters(recurse=False)} <= {"weight", "bias"}:
        return False
    if isinstance(layer, nn.Linear):
        return type(layer) is nn.Linear
    numbers = not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
    return type(layer) is nn.Conv2d and numbers and layer.groups == 1


def _watched(
    layers: Layers, net: nn.Module, noise: Tensors, x: Tensor
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """The outputs, and what every layer was fed and put out, in the order of the computation."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str, layer: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        if name in seen:  # a bound on one of its gradients would not hold for their sum
            raise ValueError(f"layer {name} is passed more than once")
        seen[name] = given[0].detach(), out

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(note, name)))
        hooks.enter_context(narrow_convolutions(x.device, by_weights=False))
        return forward(net, noise, x), seen


def _fed(layer: nn.Linear | nn.Conv2d, given: Tensor) -> Tensor:
    """``[B, F, T]``: what the weights multiply at every place of the output."""
    if isinstance(layer, nn.Linear):
        return given.flatten(1, -2).mT if given.dim() > 2 else given[..., None]
    assert not isinstance(layer.padding, str)
    return unfold(given, layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def _put_out(layer: nn.Linear | nn.Conv2d, out: Tensor) -> Tensor:
    """``[B, O, T]``."""
    if isinstance(layer, nn.Linear):
        return out.flatten(1, -2).mT if out.dim() > 2 else out[..., None]
    return out.flatten(2)


def _is_formed(fed: int, out: int, places: int) -> bool:
    """Whether an example's gradient takes fewer products than what its length would be told by."""
    return fed * out < places * (fed + out)
