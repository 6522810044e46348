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
_ROUNDING = 1e-7
_ABOVE = 2.0  # times noise: what is more than that
FITS = 10.0  # times the square that noise explains
_LEFT = 16  # one of so many dimensions must be left
_MOST = 4  # times as many sequences as there are, that are followed at once
_ROUNDS = 4  # of improvements


class Span:
    """The rows of a layer's gradient ``[m, D]``, as far as they stand out of noise.

    It is of ``most`` inputs or fewer, and has noise of deviation ``noise`` or more.
    """

    def __init__(self, gradient: Tensor, most: int, noise: float):
        _, sizes, rows = torch.linalg.svd(gradient, full_matrices=False)
        noise = noise_level(sizes, gradient.shape, most, noise)
        height, width = gradient.shape
        above = sizes > max(_ABOVE * noise * (height**0.5 + width**0.5), _RANK * float(sizes[0]))
        self.rows, self.full = rows[above], min(height, width)
        # A direction is off by the noise in all that are left, over its own size.
        self.off = noise * (width - len(self.rows)) ** 0.5 / sizes[above]

    @property
    def tells(self) -> bool:
        """Whether they span all inputs, as rows of a layer of few outputs do not, and leave enough that they do not."""
        return 0 < len(self.rows) <= self.full - self.full // _LEFT

    def misfits(self, inputs: Tensor) -> Tensor:
        """How many times as far every input ``[..., D]`` is beyond them as noise explains, squared: ``[...]``."""
        inside = inputs @ self.rows.T
        left = inputs - inside @ self.rows
        explained = (inside * self.off).square().sum(-1) + _ROUNDING**2 * inputs.square().sum(-1)
        return left.square().sum(-1) / explained


def searched(span: Span, candidates: Tensor, side: Side, examples: int) -> list[Tensor]:
    """Sequences int64 ``[L]`` of a causal attention, place by place: what fits, and then what fits behind it.

    Petrov et al., "DAGER" (2024), section 4.2. ``candidates``: the words in question, int64 ``[T]``.
    """
    words = candidates[~torch.isin(candidates, torch.tensor([START, END, PADDING]))]
    open_, done = torch.full((1, 1), START), []
    for place in range(1, len(side.places)):
        here = side.inputs(words, torch.tensor(place))
        own = side.looked_at(here[:, None])
        misfit = torch.stack(
            [
                span.misfits(side.attended(here[:, None], *_joined(side.looked_at(before), own))[:, 0])
                for before in side.inputs(open_, torch.arange(place))
            ]
        )
        fits = misfit < FITS
        done += [row for row, goes_on in zip(open_, fits.any(1).tolist(), strict=True) if not goes_on]
        rows, chosen = fits.nonzero(as_tuple=True)
        best = misfit[rows, chosen].argsort()[: _MOST * examples]
        open_ = torch.cat((open_[rows[best]], words[chosen[best], None]), 1)
        if not len(open_):
            break
    found = []
    for row in [*done, *open_]:
        tokens = torch.full((len(side.places),), PADDING)
        tokens[: len(row)] = row
        tokens[len(row) : len(row) + 1] = END
        found.append(tokens)
    return sorted(found, key=lambda row: -int((row != PADDING).sum()))[:examples]


def _joined(before: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values of the same places ``[H, n, D / H]`` and of a word each behind them ``[T, H, 1, D / H]``."""
    key, value = (torch.cat((b.expand(len(o), -1, -1, -1), o), 2) for b, o in zip(before, own, strict=True))
    return key, value


def improved(sequence: Tensor, span: Span, candidates: Tensor, side: Side) -> tuple[Tensor, float]:
    """The sequence ``[L]``, with words exchanged while it fits better; and the misfit of the place that fits worst."""
    for _ in range(_ROUNDS):
        misfit = _misfits(sequence[None], span, side)[0]
        length = len(misfit)
        if misfit.max() < FITS:
            break
        at = misfit[1 : length - 1].argsort(descending=True)[:3] + 1
        before = sequence
        for place in at.tolist():
            others = sequence.repeat(len(candidates), 1)
            others[:, place] = candidates
            worth = _misfits(others, span, side).clamp_min(FITS).log().sum(1)
            sequence = others[worth.argmin()]
        if (sequence == before).all():
            break
    return sequence, float(_misfits(sequence[None], span, side).max())


def _misfits(sequences: Tensor, span: Span, side: Side) -> Tensor:
    """Of every place before padding, ``[B, length]``; the sequences are of one length."""
    length = int((sequences[0] != PADDING).sum())
    inputs = side.inputs(sequences[:, :length], torch.arange(length))
    return span.misfits(side.attended(inputs, *side.looked_at(inputs)))
