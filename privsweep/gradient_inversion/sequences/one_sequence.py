"""Which word stands at which place of the only sequence behind a gradient.

The gradient of a layer's weight is the sum over places of its error times its input, so that the inputs span its rows.
Axes: ``T`` words in question, ``L`` places, ``D`` the width.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from privsweep.gradient_inversion.sequences.first_attention import Side
from privsweep.gradient_inversion.sequences.hidden_entries import fewest_misfits
from privsweep.gradient_inversion.sequences.noise import ROUNDING
from privsweep.gradient_inversion.sequences.search import enough_left
from privsweep.interface.translation import END, PADDING, START

_NEAREST = 24  # words a place that are looked at more closely, where dropout hides some of their entries
_FITS, _HIDDEN = 1e-6, 1e-3  # the largest misfit of a word that is there; where dropout hides entries
_NONE = 1e-3  # of a wrong word's misfit: what counts for none
_APART = 0.5  # by how much more the logarithm of the misfit is where there are no words


def only_sequence(gradient: Tensor, candidates: Tensor, side: Side) -> tuple[Tensor, bool]:
    """Tokens int64 ``[L]``: at every place the word that the gradient ``[3 D, D]`` fits best, up to an end.

    And whether all of them fit, and not every word would.

    Petrov et al., "DAGER: exact gradient inversion for large language models" (NeurIPS 2024), section 4.1. Ours: how
    far a singular vector is trusted follows from the first that no input can explain, so that noise and pruning do not
    end it; and where dropout hides entries, that most of the others fit.
    ``candidates``: the words in question, int64 ``[T]``, a start and an end among them.
    """
    rows, trust = _span(gradient, len(side.places))
    misfit = _misfits(trust.sqrt()[:, None] * rows, candidates, side)
    if side.kept < 1:
        misfit = _hidden_misfits(rows[trust > 0.5], candidates, side, misfit)
    words = ~torch.isin(candidates, torch.tensor([START, END, PADDING]))
    tokens = torch.full((len(side.places),), PADDING)
    tokens[0], tokens[1] = START, END
    if not words.any():
        return tokens, False
    of_words, count = misfit[words][:, 1:], min(int(words.sum()), len(tokens) - 1)
    best, chosen = of_words.min(0)
    if not side.causal:
        ends = misfit[candidates == END][0, 1:]
        length = int(ends.argmin()) if ends.min() < best.max() else len(best)
    else:
        length = _length(best, misfit.median())
    length = max(length, count)
    once, there = linear_sum_assignment(of_words[:, :length].numpy())  # every word is somewhere
    chosen[there] = torch.from_numpy(once)
    tokens[1 : length + 1] = candidates[words][chosen[:length]]
    tokens[length + 1 : length + 2] = END
    # Rows make as many entries fit of any word. Where dropout hides entries, more than half have to.
    width = gradient.shape[1] if side.kept == 1 else gradient.shape[1] // 2
    fits = of_words[chosen[:length], torch.arange(length)].max() < (_FITS if side.kept == 1 else _HIDDEN)
    return tokens, bool(fits) and enough_left(int((trust > 0.5).sum()), width)


def _length(misfit: Tensor, typical: Tensor) -> int:
    """How many of the first places ``[L]`` hold words: behind them the least misfit is larger, of all."""
    level = (misfit + _NONE * typical).log()
    parts = [(level[:at], level[at:]) for at in range(1, len(level))]
    apart = torch.stack([sum(part.var(correction=0) * len(part) for part in pair) for pair in parts])  # type: ignore[misc]
    before, behind = parts[int(apart.argmin())]
    return len(before) if behind.mean() > before.mean() + _APART else len(level)


def _misfits(rows: Tensor, candidates: Tensor, side: Side) -> Tensor:
    """The share of every input's square, ``[T, L]``, that is not among the ``rows`` ``[r, D]``."""
    words, places = side.words[candidates], side.places
    inside = (words @ rows.T)[:, None] + places @ rows.T
    whole = words.square().sum(1)[:, None] + places.square().sum(1) + 2 * words @ places.T
    return 1 - inside.square().sum(2) / whole


def _span(gradient: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Unit rows ``[r, D]`` that span what ``most`` inputs can add, and how far each is trusted, from 0 to 1."""
    _, sizes, rows = torch.linalg.svd(gradient, full_matrices=False)
    beyond = sizes[most] if most < len(sizes) else ROUNDING * sizes[0]
    trust = (1 - (beyond / sizes[:most].clamp_min(1e-300)).square()).clamp_min(0)
    return rows[:most], trust


def _hidden_misfits(rows: Tensor, candidates: Tensor, side: Side, misfit: Tensor) -> Tensor:
    """The median entry's misfit, ``[T, L]``, by the combination of rows that fits most entries; of the nearest words.

    Dropout makes a tenth or so of an input's entries zero, nobody knows which.
    """
    near = misfit.topk(min(_NEAREST, len(candidates)), 0, largest=False).indices
    found = torch.full_like(misfit, torch.inf)
    for place in range(len(side.places)):
        wanted = side.inputs(candidates[near[:, place]], torch.tensor(place))
        off = fewest_misfits(rows, wanted, torch.ones_like(wanted))
        found[near[:, place], place] = off.abs().median(1).values / wanted.abs().mean()
    return found
