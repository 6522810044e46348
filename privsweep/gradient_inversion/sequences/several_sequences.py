"""The sequences behind a gradient of several, told apart by what their words attend to.

Axes: ``T`` words of all sequences, ``L`` places, ``D`` the width, ``H`` heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.gradient_inversion.sequences.first_attention import Side
from privsweep.gradient_inversion.sequences.group_sparse import fewest_atoms
from privsweep.gradient_inversion.sequences.noise import noise_level
from privsweep.gradient_inversion.sequences.search import FITS, Span, improved
from privsweep.interface.translation import END, PADDING, START

_SURE, _MAYBE = 0.05, 1e-3  # of the largest size: of words that an explanation is known by, and that may be in it
_INSIDE = 0.98  # of the squares of an explanation's sizes: within another's words, it is of the same sequence
_RANK = 1e-6  # of the largest singular value
_AT_ONCE = 16  # words
_TOGETHER = 8  # words of a sequence that are explained together: more tell nothing new
KEPT = 3  # atoms for each place, beyond the first part of a search


def several_sequences(
    gradient: Tensor, span: Span, candidates: Tensor, side: Side, most: int, noise: float
) -> list[Tensor]:
    """Sequences int64 ``[L]``, those most words speak for first, from a gradient ``[3 D, D]`` of queries, keys, values.

    Ours. The layer is given words and places as sums, so that what of its gradient belongs to a word follows from a
    linear system: of a word that occurs once, the gradients of its query and of its key, in every head. A query's
    gradient is a combination of the keys of its own sequence, and a key's of the queries (Vaswani et al., 2017,
    equation 1), with the same words in all heads and other coefficients. The fewest words that explain them are the
    sequence's; then the fewest pairs of such a word and a place. A sequence counts if what follows it is in ``span``,
    after words that do not fit were exchanged; where that does not tell, if the explanation leaves no place open. Words
    that occur several times have the sequences of all their occurrences, and are passed over.

    ``candidates``: the words in question, int64 ``[T]``. ``most``, ``noise``: as in ``noise_level``. None are found
    where there are about as many words and places as the layer is wide. Of dropout: ``dropped_sequences``.
    """
    level = noise_level(torch.linalg.svdvals(gradient), gradient.shape, most, noise)
    told = _of_words(gradient, candidates, side, level)
    if told is None:
        return []
    own, noises = told
    sizes = _sizes(own, noises, candidates, side)
    found: dict[tuple[int, ...], int] = {}
    judged: dict[tuple[int, ...], tuple[Tensor, float]] = {}  # words of one sequence often lead to the same guess
    done = torch.zeros(len(candidates), dtype=torch.bool)
    for seed in (sizes > _SURE).sum(1).argsort(stable=True).tolist():
        within = sizes[:, sizes[seed] > _MAYBE].square().sum(1) > _INSIDE * sizes.square().sum(1)
        items = (within & (sizes[seed] > _SURE)).nonzero()[:, 0]
        if done[seed] or not len(items):
            continue
        items = items[sizes[seed, items].argsort(descending=True)]
        words = candidates[sizes[items].amax(0) > _MAYBE]
        sequence, certain = _placed(own[items[:_TOGETHER]], noises[items[:_TOGETHER]], words, side)
        if span.tells:
            guess = tuple(sequence.tolist())
            if guess not in judged:
                judged[guess] = improved(sequence, span, candidates, side)
            sequence, misfit = judged[guess]
            certain = misfit < FITS
        if certain:
            key = tuple(sequence.tolist())
            found[key] = found.get(key, 0) + len(items)
            done |= within & torch.isin(candidates, sequence)
    return [torch.tensor(sequence) for sequence in sorted(found, key=lambda s: -found[s])]


def _sizes(own: Tensor, noises: Tensor, candidates: Tensor, side: Side) -> Tensor:
    """How much of each of the ``candidates`` is in the explanation of each of them, the most 1: ``[T, T]``."""
    atoms = explaining(torch.cat((side.words[candidates], side.places)), side)
    parts = zip(own[..., None].split(_AT_ONCE), noises.split(_AT_ONCE), strict=True)
    kept = KEPT * len(side.places)
    sizes = torch.cat([fewest_atoms(part, atoms, each, 1, kept) for part, each in parts])[:, : len(candidates)]
    return sizes / sizes.amax(1, keepdim=True).clamp_min(1e-300)


def _of_words(gradient: Tensor, candidates: Tensor, side: Side, noise: float) -> tuple[Tensor, Tensor] | None:
    """The gradients of every word's queries and keys, ``[T, 2 H, D / H]``, each of norm 1.

    And what of their squares is noise, ``[T, 2 H]``. None where words and places cannot be told apart.
    """
    words = side.words[candidates]
    _, sizes, rows = torch.linalg.svd(side.places, full_matrices=False)
    rows = rows[sizes > _RANK * sizes[0]]
    free = words - words @ rows.T @ rows  # what no place can make
    if len(words) + len(rows) > words.shape[1]:
        return None
    return shares(gradient, torch.linalg.pinv(free, rcond=_RANK), side, noise)


def shares(gradient: Tensor, inverse: Tensor, side: Side, noise: float) -> tuple[Tensor, Tensor]:
    """What of a gradient ``[3 D, D]`` belongs to each column of ``inverse`` ``[D, n]``: ``[n, 2 H, D / H]``, of norm 1.

    And what of the squares is noise, ``[n, 2 H]``.
    """
    own = gradient.unflatten(0, (3, -1))[:2] @ inverse
    own = own.unflatten(1, (side.heads, -1)).flatten(0, 1).permute(2, 0, 1)
    square = own.square().sum(2).clamp_min(1e-300)
    noises = noise**2 * own.shape[2] * inverse.square().sum(0)[:, None] / square
    return own / square.sqrt()[..., None], noises.clamp_max(1)


def explaining(inputs: Tensor, side: Side) -> Tensor:
    """What explains them, ``[2 H, D / H, n + 1]``: keys of ``inputs`` ``[n, D]``, queries, and last the queries' bias.

    A query's coefficients add up to zero, so that the keys' bias falls out; a key's do not.
    """
    queries, keys = side.weight.unflatten(0, (3, -1))[:2]
    bias = side.bias[: len(queries)]
    made = torch.stack((keys @ inputs.T, queries @ inputs.T))
    made = torch.cat((made, torch.stack((torch.zeros_like(bias), bias))[..., None]), 2)
    return made.unflatten(1, (side.heads, -1)).flatten(0, 1)


def _placed(own: Tensor, noises: Tensor, words: Tensor, side: Side) -> tuple[Tensor, bool]:
    """The sequence ``[L]`` that explains ``own`` ``[n, 2 H, D / H]`` best, of some of its ``words``.

    And whether these stand at one place each, from a start to an end.
    """
    count = len(side.places)
    word, place = words.repeat_interleave(count), torch.arange(count).repeat(len(words))
    atoms, together = explaining(side.inputs(word, place), side), own.permute(1, 2, 0)[None]
    size = fewest_atoms(together, atoms, noises.mean(0)[None], 1, KEPT * count).view(len(words), -1)
    active = size > _MAYBE * size.max()
    if not side.causal and (words == END).any():
        length = int(size[words == END][0].argmax())
        taken = length + 1
    else:
        length = taken = int(active.any(0).long().cumprod(0).sum())
    tokens = torch.full((count,), PADDING)
    tokens[:length] = words[size.max(0).indices[:length]]
    tokens[0] = START
    tokens[length : length + 1] = END
    once = active.sum(0).tolist() == [1] * taken + [0] * (count - taken)
    return tokens, once and bool((words == START).any())
