"""The share of right answers of a trained model: two counts, whose ratio torchmetrics would give in float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from privsweep.compiled.narrow import narrow_convolutions
from privsweep.interface.data import Domain, ImageSet, Tensors, TextDomain, TokenSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.stochastic import draw

_NOISE = Rng(0, ("accuracy",))
_BATCH = 250  # more leave a CPU's caches: LeNet takes 0.94 ms an image with 1000, 0.83 with these


def accuracy(
    model: nn.Module, weights: Tensors, split: ImageSet | TokenSet, domain: Domain | TextDomain, batch: int = _BATCH
) -> float:
    """The share, from 0 to 1, of labels whose class has the largest logit; padding of a sequence does not count.

    ``weights``, ``batch`` and the mode are as ``outputs_of`` says. Outputs beyond the classes are ignored.

    Raises UserError for an empty split or several labels an answer.
    """
    device = split.labels.device
    right, judged = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
    for chosen, outputs in outputs_of(model, weights, split, domain, batch):
        labels, guessed = split.labels[chosen], outputs[:, : domain.classes].argmax(1)
        if guessed.shape != labels.shape:
            break
        counts = domain.judged(labels)
        right += ((guessed == labels) & counts).sum()
        judged += counts.sum()
    if not judged:
        raise UserError(
            f"dataset: labels of shape {list(split.labels.shape)} have no accuracy; "
            "choose a dataset with examples of one label each"
        )
    return right.item() / judged.item()


@torch.no_grad()
def outputs_of(
    model: nn.Module, weights: Tensors, split: ImageSet | TokenSet, domain: Domain | TextDomain, batch: int
) -> Iterator[tuple[slice, Tensor]]:
    """Which examples, and the model's outputs for them, ``batch`` examples at once, on the device of ``split``.

    ``weights`` (parameters and buffers) stand in for those of ``model``, which is left as it was, its mode too; the
    outputs are those of eval mode. Stochastic layers sample, always from the same stream, one for every batch.
    """
    device = split.labels.device
    weights = {name: value.to(device) for name, value in weights.items()}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for start in range(0, len(split), batch):
            chosen = slice(start, start + batch)
            x = domain.inputs_of(split, chosen)  # type: ignore[arg-type]
            noise = draw(model, len(x), _NOISE.child(start), device)
            with narrow_convolutions(device):
                outputs = functional_call(model, {**weights, **noise}, (x,))
            yield chosen, outputs
    finally:
        for module, mode in modes.items():
            module.training = mode
