"""What an update tells of its batch beside the gradient: the statistics of batch normalisation.

Clients send their running statistics along with an update, and no defence of gradients changes them. One step moves
them from the server's by ``momentum`` towards the batch's own, so that these follow exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from privsweep.gradient_inversion.engine.statistics import Moments, Wanted
from privsweep.interface.records import Recipe, Update


def tracking_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """The layers of batch normalisation that keep running statistics, by name."""
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)}
    return {name: layer for name, layer in found.items() if layer.running_mean is not None}


def know_nothing(model: nn.Module) -> bool:
    """Whether the network normalises by running statistics, and these are of no data."""
    layers = [layer for layer in tracking_layers(model).values() if not layer.training]
    return bool(layers) and all(
        layer.running_mean is not None
        and layer.running_var is not None
        and bool((layer.running_mean == 0).all() and (layer.running_var == 1).all())
        for layer in layers
    )


def wanted_moments(
    model: nn.Module, seen: Update, recipe: Recipe, normalised: Mapping[str, int], weight: float, unrolled: bool = False
) -> dict[str, Wanted]:
    """The moments of the victims' batches, by layer: ``weight`` times the mean over layers is to be added.

    After several steps they are a weighted mean over the steps' batches, the last of which count most, to be compared
    with that of steps taken anew if these are ``unrolled``; of several clients a mean of theirs. Where clients
    normalise by running statistics, or send none, they are those of training.
    ``normalised``: numbers of a channel in all examples behind an update, for PyTorch's running variance is of a
    sample.
    """
    layers = tracking_layers(model)
    batch = seen.examples // seen.contributors
    if seen.kind == "difference":
        batch = min(batch, recipe.batch_size)
    wanted = {}
    for name, layer in layers.items():
        own = normalised[name] * batch // seen.examples
        mean, variance = (_behind(seen, name, part, layer.momentum, recipe.steps) for part in ("mean", "var"))
        moments = Moments(mean, variance.clamp(min=0) * (own - 1) / own)
        shares = _shares(layer.momentum, recipe.steps) if unrolled else (1.0,)
        wanted[name] = Wanted(moments, weight / len(layers), layer.eps, shares)
    return wanted


def _shares(momentum: float | None, steps: int) -> tuple[float, ...]:
    """How much each step's batch counts in what ``_behind`` tells; None as for a plain mean."""
    each = [(1 - (momentum or 0)) ** (steps - 1 - step) for step in range(steps)]
    return tuple(share / sum(each) for share in each)


def _behind(seen: Update, layer: str, part: str, momentum: float | None, steps: int) -> Tensor:
    """``[V, C]``: what ``steps`` batches moved the running statistic towards."""
    before = seen.weights[f"{layer}.running_{part}"]
    victims = len(seen.victims)
    after = seen.statistics.get(f"{layer}.running_{part}")
    if after is None or momentum == 0:
        return before.expand(victims, -1)
    counted = seen.statistics.get(f"{layer}.num_batches_tracked")
    if momentum is not None:
        kept = before.new_full((victims, 1), 1 - momentum).double() ** steps
    elif counted is not None:  # the plain mean over all batches so far
        kept = 1 - steps / counted.view(victims, 1).double().clamp(min=steps)
    else:
        return after
    return ((after.double() - kept * before.double()) / (1 - kept)).to(before.dtype)
