"""The input behind a dense layer's noisy gradient of one example, weighed against what images look like."""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.gradient_inversion.image_prior import ImagePrior
from privsweep.gradient_inversion.rank_one import Network, RankOne, goes_with_bias
from privsweep.interface.data import Tensors

_TIMES = 3  # that the network is asked what errors the image has that is the most probable so far
_BLURRED = 0.05  # of the errors' norm: more noise than that, and the network knows it better than the bias gradient
_LEAST = 1e-3  # cosine between a direction that is found and the input's: less counts as nothing seen


def likely_input(
    found: RankOne, inputs: Tensor, bias: Tensor, gradient: Tensors, network: Network, prior: ImagePrior
) -> Tensor:
    """The most probable inputs ``[V, D]``: of ``inputs``, which are found up to noise.

    How much of a singular vector is noise follows from its singular value (Benaych-Georges and Nadakuditi, "The
    singular values and vectors of low rank perturbations of large rectangular random matrices", 2012). The input's
    norm is that of the product over that of the errors, which the network tells of an image whose noise is filtered
    already, and better than of one that is full of it.
    """
    signal, along = _spike(found, bias.shape[1], inputs.shape[1])
    directions = torch.nn.functional.normalize(inputs, dim=1)
    measured = (found.errors * bias).sum(1).abs()
    errors = found.size / torch.linalg.vector_norm(inputs, dim=1).clamp_min(torch.finfo(inputs.dtype).tiny)

    def filtered() -> Tensor:
        norms = signal / errors.clamp_min(torch.finfo(errors.dtype).tiny) / along
        noise = norms.square() * (1 - along.square()) / inputs.shape[1]
        return prior.most_probable(directions * norms[:, None], noise)

    blurred = (found.noise > _BLURRED * measured).nonzero()[:, 0].tolist()
    for _ in range(_TIMES if blurred else 0):
        images = filtered()
        for victim in blurred:
            own = {name: g[victim : victim + 1] for name, g in gradient.items()}
            asked = network.errors(images[victim : victim + 1], network.label(images[victim], own))
            theirs = torch.linalg.vector_norm(asked)
            # Not what a defence made shorter, nor what has no bias gradient to compare it with.
            if bias[victim].any() and goes_with_bias(theirs, measured[victim], found.noise[victim]):
                errors[victim] = theirs
    return filtered()


def _spike(found: RankOne, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Of a product of rank one under noise: its norm, and the cosine of the angle that noise turns its input by."""
    top, noise = found.size.double().square(), found.noise.double().square()
    middle, ends = top - (rows + columns) * noise, rows * columns * noise.square()
    signal = (middle + (middle.square() - 4 * ends).clamp_min(0).sqrt()) / 2
    signal = torch.maximum(signal, ends.sqrt())  # where nothing stands out
    cosine = (signal.square() - ends) / (signal * (signal + columns * noise)).clamp_min(torch.finfo(signal.dtype).tiny)
    return signal.sqrt().to(found.size), cosine.clamp_min(0).sqrt().clamp_min(_LEAST).to(found.size)
