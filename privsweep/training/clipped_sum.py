"""The sum of clipped gradients of dense and convolutional layers, out of what passes through them.

An example's gradient of such a layer is a product: of what goes in at ``T`` places, ``a`` ``[F, T]``, and the loss's
derivative by what comes out there, ``d`` ``[O, T]``. Its length is told without forming it: |a| |d| where T is one, the
root of the sum of (a' a) * (d' d) where T is small (Goodfellow, "Efficient per-example gradient computations", 2015;
Bu et al., "Scalable and efficient training of large convolutional neural networks with differential privacy", 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from privsweep.differential_privacy.clipping import clip_factors
from privsweep.interface.data import Loss, Tensors
from privsweep.model.stochastic import forward

Layers = Mapping[str, nn.Linear | nn.Conv2d]


def layers_with_parameters(net: nn.Module) -> Layers | None:
    """Those that hold them all; None where there are others, parameters are frozen or held twice, a layer stands in two
    places, or one overwrites what another put out."""
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    if len(list(net.named_modules())) < len(list(net.named_modules(remove_duplicate=False))):
        return None
    for name, layer in net.named_modules():
        if getattr(layer, "inplace", False):
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
        a, d = _fed(layers[name], given), _put_out(layers[name], out)
        count += a.numel() + (a.shape[1] * d.shape[1] if _is_formed(a, d) else 2 * a.shape[2] ** 2)
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
    passed: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}
    with torch.no_grad():
        for (name, (given, _)), derivative in zip(seen.items(), derivatives, strict=True):
            a, d = _fed(layers[name], given), _put_out(layers[name], derivative)
            formed = torch.bmm(d, a.mT) if _is_formed(a, d) else None
            lengths = torch.bmm(a.mT, a).mul_(torch.bmm(d.mT, d)) if formed is None else formed.square()
            squares += lengths.sum((1, 2))
            if layers[name].bias is not None:
                squares += d.sum(2).square().sum(1)
            passed[name] = a, d, formed
        factor = clip_factors(squares.sqrt(), bound)
        total = {}
        for name, (a, d, formed) in passed.items():
            if formed is None:
                weight = torch.einsum("bot,bft->of", d * factor[:, None, None], a)
            else:
                weight = torch.mv(formed.flatten(1).T, factor)
            total[f"{name}.weight"] = weight.view(layers[name].weight.shape)
            if layers[name].bias is not None:
                total[f"{name}.bias"] = torch.mv(d.sum(2).T, factor)
    return total, value.detach()


def _plain(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether ``_fed`` tells what such a layer multiplies."""
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


def _is_formed(a: Tensor, d: Tensor) -> bool:
    """Whether an example's gradient takes fewer products than what its length would be told by."""
    fed, out, places = a.shape[1], d.shape[1], a.shape[2]
    return fed * out < places * (fed + out)
