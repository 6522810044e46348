"""The utility of a trained model."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.stochastic import draw

_NOISE = Rng(0, ("accuracy",))


@torch.no_grad()
def accuracy(model: nn.Module, weights: Tensors, split: ImageSet, domain: Domain, batch: int = 1000) -> float:
    """The share of examples, from 0 to 1, whose largest logit is that of their class.

    ``weights`` (parameters and buffers) stand in for those of ``model``, which is left as it was, its mode
    too; the outputs are those of eval mode, on the device of ``split``, ``batch`` examples at once. Stochastic layers
    sample, always from the same stream, one for every batch. Outputs beyond the classes are ignored.

    Raises UserError for an empty split or several labels an example.
    """
    if len(split) == 0 or split.labels.ndim != 1:
        raise UserError(
            f"dataset: labels of shape {list(split.labels.shape)} have no accuracy; "
            "choose a dataset with examples of one label each"
        )
    device = split.labels.device
    weights = {name: value.to(device) for name, value in weights.items()}
    modes = {module: module.training for module in model.modules()}
    right = torch.zeros((), dtype=torch.int64, device=device)
    model.eval()
    try:
        for start in range(0, len(split), batch):
            chosen = slice(start, start + batch)
            x = domain.inputs_of(split, chosen)
            noise = draw(model, len(x), _NOISE.child(start), device)
            logits = functional_call(model, {**weights, **noise}, (x,))[:, : domain.classes]
            right += (logits.argmax(1) == split.labels[chosen]).sum()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return right.item() / len(split)
