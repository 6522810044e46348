"""Sequences found by what the layer behind their first attention is given, which the rows of its gradient span.

Axes: ``B`` sequences, ``T`` words in question, ``L`` places, ``D`` the width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.gradient_inversion.sequences.first_attention import Side
from privsweep.gradient_inversion.sequences.noise import noise_level
from privsweep.interface.translation import END, PADDING, START

_RANK = 1e-6  # of the largest singular value
_ROUNDING = 1e-5  # of an input: what single precision loses of it on the way, and of weak rows
_ABOVE = 2.0  # times noise: what is more than that
FITS = 10.0  # times the square that noise explains
_STANDS_OUT, _MAY = 8.0, 2.0  # times as well as any other fits what is taken for the next word; what may be it
_LEFT = 16  # one of so many dimensions must be left
_MOST = 4  # times as many sequences as there are, that are followed at once
_ROUNDS = 3  # of exchanges


class Span:
    """The rows of a layer's gradient ``[m, D]``, as far as they stand out of noise.

    It is of ``most`` inputs or fewer, and has noise of deviation ``noise`` or more.
    """

    def __init__(self, gradient: Tensor, most: int, noise: float):
        _, sizes, rows = torch.linalg.svd(gradient, full_matrices=False)
        self.noise = noise = noise_level(sizes, gradient.shape, most, noise)
        height, width = gradient.shape
        above = sizes > max(_ABOVE * noise * (height**0.5 + width**0.5), _RANK * float(sizes[0]))
        self.rows, self.full = rows[above], min(height, width) - 1  # a norm's outputs add up to zero
        # A direction is off by the noise in all that are left, over its own size.
        self.off = noise * (width - len(self.rows)) ** 0.5 / sizes[above]

    @property
    def tells(self) -> bool:
        """Whether they span all inputs, as rows of a layer of few outputs do not, and leave enough that they do not."""
        return len(self.rows) > 0 and enough_left(len(self.rows), self.full)

    def misfits(self, inputs: Tensor) -> Tensor:
        """How many times as far every input ``[..., D]`` is beyond them as noise explains, squared: ``[...]``."""
        inside = inputs @ self.rows.T
        left = inputs - inside @ self.rows
        explained = (inside * self.off).square().sum(-1) + _ROUNDING**2 * inputs.square().sum(-1)
        return left.square().sum(-1) / explained


def enough_left(rows: int, dimensions: int) -> bool:
    """Whether not every input is among so many rows, or as good as."""
    return rows <= dimensions - max(1, dimensions // _LEFT)


def searched(span: Span, candidates: Tensor, side: Side, examples: int) -> tuple[list[Tensor], list[Tensor]]:
    """Sequences int64 ``[L]`` of a causal attention, place by place: what fits, and then what fits behind it.

    And others, which end a word earlier or later: where the network is sure of what comes next, its place has next to
    no gradient, and what stands out of all that do not fit is taken for the next word.
    Petrov et al., "DAGER" (2024), section 4.2. ``candidates``: the words in question, int64 ``[T]``.
    """
    words = candidates[~torch.isin(candidates, torch.tensor([START, END, PADDING]))]
    begun = torch.full((1, 1), START)
    done: list[Tensor] = []
    others: list[Tensor] = []
    for place in range(1, len(side.places)):
        here = side.inputs(words, torch.tensor(place))
        own = side.looked_at(here[:, None])
        misfit = torch.stack(
            [
                span.misfits(side.attended(here[:, None], *_joined(side.looked_at(before), own))[:, 0])
                for before in side.inputs(begun, torch.arange(place))
            ]
        )
        best, nearest = misfit.min(1)
        apart = misfit.scatter(1, nearest[:, None], torch.inf).min(1).values / best
        fits, stands_out = misfit < FITS, (best >= FITS) & (apart > _STANDS_OUT)
        fits[stands_out, nearest[stands_out]] = True
        longer = torch.cat((begun, words[nearest, None]), 1)
        done += begun[~fits.any(1)].unbind()
        others += [*begun[stands_out].unbind(), *longer[~fits.any(1) & (apart > _MAY)].unbind()]
        rows, chosen = fits.nonzero(as_tuple=True)
        least = misfit[rows, chosen].argsort()[: _MOST * examples]
        begun = torch.cat((begun[rows[least]], words[chosen[least], None]), 1)
        if not len(begun):
            break
    found = sorted([*done, *begun], key=lambda row: -len(row))[:examples]
    return [_ended(row, len(side.places)) for row in found], [_ended(row, len(side.places)) for row in others]


def _ended(row: Tensor, places: int) -> Tensor:
    tokens = torch.full((places,), PADDING)
    tokens[: len(row)] = row
    tokens[len(row) : len(row) + 1] = END
    return tokens


def _joined(before: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values of the same places ``[H, n, D / H]`` and of a word each behind them ``[T, H, 1, D / H]``."""
    key, value = (torch.cat((b.expand(len(o), -1, -1, -1), o), 2) for b, o in zip(before, own, strict=True))
    return key, value


def improved(sequence: Tensor, span: Span, candidates: Tensor, side: Side) -> tuple[Tensor, float]:
    """The sequence ``[L]``, with one word after another exchanged, whichever makes it fit best; and its worst misfit.

    A wrong word spoils all places' inputs, as each attends to it, and the last one exchanged mends them all.
    """
    for _ in range(_ROUNDS):
        misfit = _misfits(sequence[None], span, side)[0]
        if misfit.max() < FITS:
            break
        best, least = sequence, float(misfit.clamp_min(FITS).log().sum())
        for place in range(1, len(misfit)):
            others = sequence.repeat(len(candidates), 1)
            others[:, place] = candidates
            worth = _misfits(others, span, side).clamp_min(FITS).log().sum(1)
            if worth.min() < least:
                best, least = others[worth.argmin()], float(worth.min())
        if best is sequence:
            break
        sequence = best
    return sequence, float(_misfits(sequence[None], span, side).max())


def _misfits(sequences: Tensor, span: Span, side: Side) -> Tensor:
    """Of every place before padding, ``[B, length]``; the sequences are of one length."""
    length = int((sequences[0] != PADDING).sum())
    inputs = side.inputs(sequences[:, :length], torch.arange(length))
    return span.misfits(side.attended(inputs, *side.looked_at(inputs)))
