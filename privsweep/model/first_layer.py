"""The layer that sees the input itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from privsweep.model.plain import is_plain


def first_linear(model: nn.Module, inputs: int) -> str | None:
    """The name of the first layer with weights, if it is linear with a bias, of all ``inputs`` numbers of an image."""
    for name, layer in model.named_modules():
        if any(True for _ in layer.parameters(recurse=False)):
            linear = isinstance(layer, nn.Linear) and layer.bias is not None and is_plain(layer)
            return name if linear and layer.weight.shape[1] == inputs else None
    return None


def following(model: nn.Module, layer: str, count: int) -> list[tuple[str, nn.Module]]:
    """The layers after that one, as many as there are up to ``count``, in the order in which the model names them."""
    leaves = [(name, module) for name, module in model.named_modules() if not any(True for _ in module.children())]
    place = next((at for at, (name, _) in enumerate(leaves) if name == layer), len(leaves))
    return leaves[place + 1 : place + 1 + count]


@dataclass(frozen=True)
class Patches:
    """What embeds the patches of an image one by one: a convolution, to whose outputs a parameter is added."""

    layer: str  # the convolution's name
    side: int  # pixels of a patch's side
    position: str  # the parameter's name
    before: int  # its rows that belong to no patch, such as the class token's, come first


def patches(model: nn.Module, shape: tuple[int, int, int]) -> Patches | None:
    """What a vision transformer begins with, for images of that shape; None where it is not told for certain.

    Its first layer with weights is a convolution of patches side by side, which cover the image, and one parameter has
    a row for each of them and at most two more. Whether it is added to them is not looked at.
    """
    layers = ((name, layer) for name, layer in model.named_modules() if not any(True for _ in layer.children()))
    name, first = next(((n, layer) for n, layer in layers if any(True for _ in layer.parameters())), ("", None))
    if not isinstance(first, nn.Conv2d) or first.bias is None or first.groups > 1 or any(map(int, first.padding)):
        return None
    side, sides = first.kernel_size[0], shape[1:]
    if {*first.kernel_size, *first.stride} != {side} or any(pixels % side for pixels in sides):
        return None
    count, found = sides[0] // side * (sides[1] // side), []
    for owner, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            rows, width = parameter.shape[-2:] if parameter.dim() >= 2 else (0, 0)
            whole = width == first.out_channels and rows * width == parameter.numel()
            if whole and 0 <= rows - count <= 2 and any(True for _ in module.children()):
                found.append(Patches(name, side, f"{owner}.{own}".lstrip("."), rows - count))
    return found[0] if len(found) == 1 else None
