"""The inputs of a layer that dropout has taken entries from, among the rows of its gradient.

Axes: ``L`` places, ``n`` inputs, ``D`` the width, ``m`` that are asked at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from privsweep.gradient_inversion.sequences.first_attention import Side
from privsweep.gradient_inversion.sequences.hidden_entries import fewest_misfits
from privsweep.gradient_inversion.sequences.search import FITS, Span
from privsweep.interface.translation import START

_MOST = 0.7  # of an input's entries fit
_APART = 0.03  # of the entries: two that differ in fewer are one
_LIKELY = 2  # times as many words a place as there are sequences, and one, are asked in every try
_AGAIN = 4  # times is asked, in a try, for each start that is missing, and each that a word at a place has beyond one
_HOPE = 0.5  # of the inputs are found in the first try, or the others never are
_TRIES, _PATIENCE = 160, 64  # at most, and without another input: each entry is lost by one input in ten
_MORE = 3  # entries are to be zero, too, where one was not enough
_GONE = 1e3  # times as much weighs an entry that is to be zero
_MISSING = 8  # one of so many inputs may be missing
_AT_ONCE = 64
_NEVER = 1 << 30


class Inputs(NamedTuple):
    """What was found."""

    word: Tensor  # int64 [n]
    place: Tensor  # int64 [n]
    entries: Tensor  # [n, D]


def dropped_inputs(span: Span, candidates: Tensor, side: Side, most: int) -> Inputs | None:
    """The inputs that ``span`` is made of, of ``most`` places in all; None where many are not found.

    Ours. An input is a word at a place but for the entries that are zero: of what the rows can be made into, what
    leaves the fewest entries of it. Where several inputs share a word and a place, what they have in common is found
    before each of them; one is found for itself where an entry is to be zero that it alone has lost. So every entry is
    tried, in turn: those that are large, and those that were left most of. Inputs of the same word have lost other
    entries, which weigh more. Sequences have no gaps: places that lack inputs for sure are asked for all words, and
    those that have one for every sequence no more.

    ``candidates``: the words in question, int64 ``[T]``.
    """
    search, count, rows = _Search(span, candidates, side), len(side.places), len(span.rows)
    off = search.ask(torch.arange(len(search.wanted)))
    rank = (off.abs().sum(1) / search.wanted.abs().sum(1)).view(-1, count).argsort(0).argsort(0).flatten()
    start = int(((search.word == START) & (search.place == 0)).nonzero()[0])
    sequences, last = most // count, 0
    for number in range(1, _TRIES):
        have = search.have
        if have >= rows or have < _HOPE * rows or number - last > _PATIENCE:
            break
        there = search.at_places(count)
        lacking = there.flip(0).cummax(0).values.flip(0) - there
        wanting = lacking > 0 if lacking.sum() == rows - have else there < sequences
        likely = rank < _LIKELY * (sequences + 1) + len(candidates) // number
        times = (likely | (lacking > 0)[search.place]).to(torch.int64)
        for at, others in search.found.items():
            times[at] += _AGAIN * (len(others) - 1)
        times[start] = _AGAIN * (sequences - there[0])
        times = times.clamp(0, search.wanted.shape[1]) * wanting[search.place]  # of as many entries one is zero in turn
        asked = torch.arange(len(times)).repeat_interleave(times)
        gone = search.next_gone(asked)
        off = search.ask(asked, gone)
        if search.have == have:
            also = off.abs().scatter(1, gone, 0).topk(_MORE, 1).indices
            search.ask(asked, torch.cat((gone, also), 1))
        last = number if search.have > have else last
    return search.inputs() if rows - rows // _MISSING <= search.have <= rows else None


class _Search:
    """All words at all places, and of each the inputs that were found: which entries they have, bool ``[D]``."""

    def __init__(self, span: Span, candidates: Tensor, side: Side):
        count = len(side.places)
        self.span = span
        self.word, self.place = candidates.repeat_interleave(count), torch.arange(count).repeat(len(candidates))
        self.wanted = side.inputs(self.word, self.place)
        self.found: dict[int, list[Tensor]] = {}  # by position in the former
        self._lost = torch.zeros_like(self.wanted)  # by how many of the same word
        self._turn = _rank(self.wanted)  # of an entry to be zero

    @property
    def have(self) -> int:
        return sum(map(len, self.found.values()))

    def _which(self) -> list[int]:
        """The position of every input that was found."""
        return [at for at, others in self.found.items() for _ in others]

    def inputs(self) -> Inputs:
        which = self._which()
        there = torch.stack([entries for others in self.found.values() for entries in others])
        return Inputs(self.word[which], self.place[which], self.wanted[which] * there)

    def at_places(self, count: int) -> Tensor:
        """How many were found at each place, ``[count]``."""
        return torch.bincount(self.place[self._which()], minlength=count)

    def next_gone(self, asked: Tensor) -> Tensor:
        """Of every one ``asked`` ``[m]``, in order, the entry whose turn it is to be zero, ``[m, 1]``.

        None that an input found there has lost.
        """
        nth = torch.arange(len(asked)) - torch.searchsorted(asked, asked)
        gone = self._turn[asked].argsort(1).gather(1, nth[:, None])
        self._turn[asked, gone[:, 0]] = _NEVER
        return gone

    def ask(self, asked: Tensor, gone: Tensor | None = None) -> Tensor:
        """Looks for inputs ``asked`` ``[m]``, whose entries ``gone`` ``[m, k]`` are zero; what is off, ``[m, D]``."""
        first = gone is None
        gone = asked.new_zeros(len(asked), 0) if gone is None else gone
        near, weighed = self.wanted[asked].scatter(1, gone, 0), (1 + self._lost[asked]).scatter(1, gone, _GONE)
        parts = zip(near.split(_AT_ONCE), weighed.split(_AT_ONCE), strict=True)
        given = torch.cat([part - fewest_misfits(self.span.rows, part, counts) for part, counts in parts])
        whole = self.wanted[asked]
        off = whole - given
        there = off.abs() < given.abs()
        fits = (self.span.misfits(whole * there) < FITS) & (there.double().mean(1) > _MOST)
        if first:
            self._turn[asked[~fits]] = torch.minimum(self._turn[asked[~fits]], _rank(off[~fits]))
        for which, entries in zip(asked[fits].tolist(), there[fits], strict=True):
            others = self.found.setdefault(which, [])
            if all((entries != other).double().mean() > _APART for other in others):
                others.append(entries)
                self._lost[self.word == self.word[which]] += ~entries
                self._turn[which, ~entries] = _NEVER
        return off


def _rank(entries: Tensor) -> Tensor:
    """How many are larger, of each row: ``[n, D]``."""
    return entries.abs().argsort(1, descending=True).argsort(1)
