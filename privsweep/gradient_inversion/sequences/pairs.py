"""Which target sequence belongs to which source, by the gradients of all pairs.

Axes: ``A`` sources, ``B`` targets, ``Ls, Lt`` places of each.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment, nnls
from torch import Tensor
from torch.func import functional_call

from privsweep.gradient_inversion.sequences.last_layer import next_words
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge

_ENTRIES, _FOR_EACH = 1 << 13, 64  # of the gradient at most; or, where that is more, for each pair


def paired(
    sources: Tensor, targets: Tensor, gradient: Tensor, name: str, known: Knowledge, weights: Tensors, rng: Rng
) -> list[tuple[int, int]]:
    """Pairs of positions in ``sources`` ``[A, Ls]`` and in ``targets`` ``[B, Lt]``, as many as there are of the fewer.

    The gradient of a batch is a sum of its pairs', of which each has the same share, or one by which it was clipped: of
    all pairs those are taken whose shares are largest when ``gradient``, of the sources' words (the parameter
    ``name``), is made of all, no share negative. Dropout changes these less than what other layers are sent.
    """
    every = [(a, b) for a in range(len(sources)) for b in range(len(targets))]
    words = sources.unique().to(gradient.device)
    entries = rng.permutation(len(words) * gradient.shape[1])[: max(_ENTRIES, _FOR_EACH * len(every))]
    entries = entries.to(gradient.device)
    both = torch.stack([torch.cat((sources[a], targets[b])) for a, b in every]).to(gradient.device)
    given = {n: w.detach() for n, w in weights.items()}
    labels = next_words(targets)

    def loss(parameter: Tensor, tokens: Tensor, truth: Tensor) -> Tensor:
        return known.loss(functional_call(known.model, {**given, name: parameter}, tokens[None]), truth[None])

    rows = []
    for tokens, (_, b) in zip(both, every, strict=True):
        parameter = given[name].clone().requires_grad_()
        [row] = torch.autograd.grad(loss(parameter, tokens, labels[b].to(tokens.device)), parameter)
        rows.append(row[words].flatten()[entries])
    wanted = gradient[words].flatten()[entries].cpu().double()
    share, _ = nnls(torch.stack(rows, 1).cpu().double().numpy(), wanted.numpy(), maxiter=100 * len(every))
    first, second = linear_sum_assignment(-share.reshape(len(sources), -1))
    return list(zip(first.tolist(), second.tolist(), strict=True))
