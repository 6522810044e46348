"""What an iteration of gradient matching costs at least."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.contest import Setup, Turn
from benchmarks.floor import products, reading, slower
from benchmarks.matching_world import World
from privsweep.gradient_inversion.engine.rule_dense import SMALL


def floor(world: World, noisy: bool, setup: Setup) -> Turn:
    """Iterations of one victim: matrix products at full speed, or the reading of noisy gradients if that is slower.

    Two sweeps and two tangent sweeps of products. The first layer sends nothing back and gets no tangent. Filters and
    small dense layers act a second time by the victim's own matrix in three of the sweeps. A large dense layer's noisy
    gradient is read for ``G a`` and for ``G^T d``; a clean one is of rank one and counts as nothing.
    """
    flop, read = 0.0, 0.0
    layers = [layer for layer in world.model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, positions in zip(layers, _positions(world.model, world.images[0], layers), strict=True):
        product = 2.0 * layer.weight.numel() * positions
        flop += product * (2 if layer is layers[0] else 4)
        if isinstance(layer, nn.Conv2d) or layer.weight.numel() <= SMALL:
            flop += 3 * product
        elif noisy:
            flop += 2 * product
            read += 2.0 * layer.weight.numel() * layer.weight.element_size()
    device = setup.device
    ways = [products(flop, device, 256 if setup.quick else 2048)]
    return slower([*ways, reading(read, device)], device) if read else ways[0]


def _positions(model: nn.Module, images: Tensor, layers: list[nn.Module]) -> list[int]:
    """How often each layer's weight is used in the images behind one gradient."""
    found: list[int] = []
    hooks = [a.register_forward_hook(lambda _, __, out: found.append(out[:, 0].numel())) for a in layers]
    model(images)
    for hook in hooks:
        hook.remove()
    return found
