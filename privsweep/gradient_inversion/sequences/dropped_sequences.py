"""The sequences behind a gradient of several whose inputs have lost entries to dropout.

What is lost differs from input to input, so that they are independent, also of the same word at the same place.
Axes: ``L`` places, ``n`` inputs, ``D`` the width, ``H`` heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.gradient_inversion.sequences.dropped_inputs import Inputs, dropped_inputs
from privsweep.gradient_inversion.sequences.first_attention import Side
from privsweep.gradient_inversion.sequences.group_sparse import fewest_atoms
from privsweep.gradient_inversion.sequences.search import Span
from privsweep.gradient_inversion.sequences.several_sequences import KEPT, explaining, shares
from privsweep.interface.translation import END, PADDING, START

_JOINS = 1e-3  # of the largest size


def dropped_sequences(gradient: Tensor, candidates: Tensor, side: Side, most: int, noise: float) -> list[Tensor]:
    """Sequences int64 ``[L]`` from a gradient ``[3 D, D]`` of queries, keys, values; none unless most inputs are found.

    Ours. Once there are as many inputs as rows (``dropped_inputs``), the gradients of each one's query and key follow,
    and from what they are made of which inputs belong together, as in ``several_sequences``; what stands at all places
    from a start on is a sequence. Where inputs are missing, what is known of their gradients is a part of the others':
    of the target, where no end has a gradient, sequences are told only if their gaps are as many as these.

    ``candidates``: the words in question, int64 ``[T]``. ``most``, ``noise``: as in ``noise_level``.
    """
    span = Span(gradient, most, noise)
    inputs = dropped_inputs(span, candidates, side, most) if span.tells else None
    if inputs is None:
        return []
    count, kept = len(inputs.word), KEPT * len(side.places)
    _, _, others = torch.linalg.svd(span.rows - span.rows @ torch.linalg.pinv(inputs.entries) @ inputs.entries)
    missing = others[: len(span.rows) - count]  # orthogonal to what was found
    own, noises = shares(gradient, torch.cat((torch.linalg.pinv(inputs.entries), missing.T), 1), side, span.noise)
    atoms = torch.cat((explaining(inputs.entries, side), own[count:].permute(1, 2, 0)), 2)
    sizes = fewest_atoms(own[:count, ..., None], atoms, noises[:count], 1 + len(missing), kept)
    groups = _together(sizes, inputs.place)
    gaps = sum(int(inputs.place[group].max()) + 1 - len(group) for group in groups)
    if side.causal and gaps != len(missing):
        return []  # any could go on
    found = [_sequence(inputs, group, side) for group in groups]
    return [sequence for sequence in found if sequence is not None]


def _together(sizes: Tensor, place: Tensor) -> list[list[int]]:
    """Inputs that are in each other's explanations ``[n, n]``, the surest first, none two at the same place."""
    groups = {n: {n} for n in range(len(sizes))}
    both = torch.maximum(sizes, sizes.T)
    pairs = (both.triu(1) > _JOINS).nonzero()
    for a, b in pairs[both[pairs[:, 0], pairs[:, 1]].argsort(descending=True)].tolist():
        one, other = groups[a], groups[b]
        if one is not other and not {int(place[n]) for n in one} & {int(place[n]) for n in other}:
            one |= other
            groups |= dict.fromkeys(other, one)
    return [sorted(group) for group in {id(group): group for group in groups.values()}.values()]


def _sequence(inputs: Inputs, members: list[int], side: Side) -> Tensor | None:
    """The words of some inputs in their places ``[L]``; None where they are no sequence from a start to an end."""
    tokens = torch.full((len(side.places),), PADDING)
    tokens[inputs.place[members]] = inputs.word[members]
    length = len(members)
    if side.causal:
        tokens[length : length + 1] = END
    whole = sorted(inputs.place[members].tolist()) == list(range(length)) and tokens[0] == START
    return tokens if whole and bool((tokens == END).any() or length == len(tokens)) else None
