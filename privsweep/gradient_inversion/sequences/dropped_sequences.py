"""The sequences behind a gradient of several whose inputs have lost entries to dropout.

What is lost differs from input to input, so that they are independent, also of the same word at the same place.
Axes: ``L`` places, ``n`` inputs, ``D`` the width, ``H`` heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from privsweep.gradient_inversion.sequences.first_attention import Side
from privsweep.gradient_inversion.sequences.group_sparse import fewest_atoms
from privsweep.gradient_inversion.sequences.hidden_entries import fewest_misfits
from privsweep.gradient_inversion.sequences.search import FITS, Span
from privsweep.gradient_inversion.sequences.several_sequences import KEPT, explaining, shares
from privsweep.interface.randomness import Rng
from privsweep.interface.translation import END, PADDING, START

_MOST = 0.7  # of an input's entries fit
_APART = 0.03  # of the entries: two that differ in fewer are one
_LIKELY = 2  # times as many words a place as there are sequences, and one, are asked more than once
_HOPE = 0.7  # of the inputs are found in the first try, or the others never are
_TRIES, _PATIENCE = 40, 16  # at most, and without another input
_SPREAD = 0.4, 0.4, 0.4, 1.0  # of the logarithms of what entries weigh by chance, by turns
_LOST = 1.0, 3.0, 10.0  # times as much weighs what an input of the same word has lost, by turns
_AT_ONCE = 64
_JOINS = 1e-3  # of the largest size


class _Inputs(NamedTuple):
    word: Tensor  # int64 [n]
    place: Tensor  # int64 [n]
    entries: Tensor  # [n, D]


def dropped_sequences(
    gradient: Tensor, candidates: Tensor, side: Side, most: int, noise: float, rng: Rng
) -> list[Tensor]:
    """Sequences int64 ``[L]`` from a gradient ``[3 D, D]`` of queries, keys, values; none unless all inputs are found.

    Ours. An input is a word at a place but for the entries that are zero, and among the rows of the gradient: what
    leaves the fewest entries is one. Others with the same word have lost other entries, so that these are weighed more.
    Once there are as many as rows, the gradients of each one's query and key follow, and from what they are made of
    which inputs belong together, as in ``several_sequences``; what stands at all places from a start on is a sequence.

    ``candidates``: the words in question, int64 ``[T]``. ``most``, ``noise``: as in ``noise_level``.
    """
    span = Span(gradient, most, noise)
    inputs = _inputs(span, candidates, side, most, rng) if span.tells else None
    if inputs is None:
        return []
    own, noises = shares(gradient, torch.linalg.pinv(inputs.entries), side, span.noise)
    sizes = fewest_atoms(own[..., None], explaining(inputs.entries, side), noises, 1, KEPT * len(side.places))
    found = [_sequence(inputs, members, side) for members in _together(sizes, inputs.place)]
    return [sequence for sequence in found if sequence is not None]


def _inputs(span: Span, candidates: Tensor, side: Side, most: int, rng: Rng) -> _Inputs | None:
    """As many inputs as there are rows; None where they are not found."""
    count = len(side.places)
    word, place = candidates.repeat_interleave(count), torch.arange(count).repeat(len(candidates))
    wanted = side.inputs(word, place)
    found: dict[int, list[Tensor]] = {}  # which entries are there
    lost = torch.zeros_like(wanted)  # by how many of the same word
    asked = torch.arange(len(wanted))
    have = last = 0
    for number in range(_TRIES):
        weighed = 1 + _LOST[number % len(_LOST)] * lost
        if number:
            drawn = rng.child("weighed", number).normal(*wanted.shape).to(wanted)
            weighed *= (drawn * _SPREAD[number % len(_SPREAD)]).exp()
        left = []
        for part in asked.split(_AT_ONCE):
            whole = wanted[part]
            off = fewest_misfits(span.rows, whole, weighed[part])
            left.append(off.abs().sum(1) / whole.abs().sum(1))
            there = off.abs() < (whole - off).abs()
            fits = (span.misfits(whole * there) < FITS) & (there.double().mean(1) > _MOST)
            for which, entries in zip(part[fits].tolist(), there[fits], strict=True):
                others = found.setdefault(which, [])
                if all((entries != other).double().mean() > _APART for other in others):
                    others.append(entries)
                    lost[word == word[which]] += ~entries
                    have, last = have + 1, number
        if have >= len(span.rows) or have < _HOPE * len(span.rows) or number - last >= _PATIENCE:
            break
        if number == 0:
            likely = min(len(candidates), _LIKELY * (most // count + 1))
            best = torch.cat(left).view(-1, count).topk(likely, 0, largest=False).indices
            asked = (best * count + torch.arange(count)).flatten()
    if have != len(span.rows):
        return None
    which = torch.tensor([at for at, others in found.items() for _ in others])
    there = torch.stack([entries for others in found.values() for entries in others])
    return _Inputs(word[which], place[which], wanted[which] * there)


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


def _sequence(inputs: _Inputs, members: list[int], side: Side) -> Tensor | None:
    """The words of some inputs in their places ``[L]``; None where they are no sequence from a start to an end."""
    tokens = torch.full((len(side.places),), PADDING)
    tokens[inputs.place[members]] = inputs.word[members]
    length = len(members)
    if side.causal:
        tokens[length : length + 1] = END
    whole = sorted(inputs.place[members].tolist()) == list(range(length)) and tokens[0] == START
    return tokens if whole and bool((tokens == END).any() or length == len(tokens)) else None
