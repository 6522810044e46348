"""The target sentences behind a gradient, place by place, by the gradient of the layer that scores words.

Axes: ``n`` sentences, ``Lt`` places, ``K`` words, ``D`` the layer's inputs with a bias's 1, ``B`` guesses, ``M`` places
of all sentences of a guess so far, ``P`` different beginnings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.gradient_inversion.sequences.last_layer import LastLayer, next_words
from privsweep.interface.randomness import Rng
from privsweep.interface.translation import END, PADDING, START

_GUESSES = 32  # that are kept from one word to the next
_NEAREST = 8  # guesses that are compared with every sentence weighed by its length, as a gradient has them
_LIKELY, _DRAWN = 30, 64  # words a sentence that sentences to come are made of, and how many are
_MOST = 1e4  # of what is to come over noise


def told_by_output(layer: LastLayer, sources: Tensor, known: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
    """Target sentences int64 ``[n, Lt]`` of as many ``sources`` ``[n, Ls]``, besides ``known`` sources and targets.

    Ours, after the beam search of Gupta et al. ("Recovering private text in federated learning of language models",
    NeurIPS 2022). The layer's gradient is a sum over all places of softmax minus one-hot, times what the layer is
    given, which follows from the words before: so a beginning foretells what the next word adds. Of beginnings of all
    sentences those are kept that explain the largest share of the gradient, whatever its scale. What words to come will
    add is like noise along what the layer is given at their places, and both are whitened. Every sentence is then told
    again by what all others leave, and taken so if more is explained.
    """
    found = _told(layer, sources, known, rng)
    whole = torch.cat((sources, known[0]))
    best = explained(layer, whole, torch.cat((found, known[1])))
    for number in range(len(found) if len(whole) > 1 else 0):
        others = torch.arange(len(found), device=found.device) != number
        rest = torch.cat((sources[others], known[0])), torch.cat((found[others], known[1]))
        again = found.clone()
        again[number] = _told(layer, sources[number : number + 1], rest, rng)[0]
        share = explained(layer, whole, torch.cat((again, known[1])))
        if share > best:
            found, best = again, share
    return found


def explained(layer: LastLayer, sources: Tensor, targets: Tensor) -> float:
    """The share of the gradient's square that sentences ``[n, Ls]`` and ``[n, Lt]`` make, at the scale that fits."""
    words = next_words(targets)
    there = words != PADDING
    given = layer.inputs(sources, targets)[there]
    error = (given @ layer.weight.T).softmax(1)
    error.scatter_add_(1, words[there][:, None], error.new_full((len(error), 1), -1.0))
    error /= there.sum(1, keepdim=True).expand_as(there)[there][:, None]
    made = error.T @ given
    square = (made * layer.gradient).sum().clamp_min(0).square()
    return float(square / (made.square().sum() * layer.gradient.square().sum()))


@dataclass(frozen=True)
class _Beginnings:
    """What is known of different beginnings, each with a place."""

    given: Tensor  # [P, D]
    odds: Tensor  # [P, K]

    def take(self, which: Tensor) -> _Beginnings:
        return _Beginnings(self.given[which], self.odds[which])

    def with_others(self, given: Tensor, layer: LastLayer) -> _Beginnings:
        odds = (given @ layer.weight.T).softmax(1)
        return _Beginnings(torch.cat((self.given, given)), torch.cat((self.odds, odds)))


@dataclass(frozen=True)
class _Guesses:
    tokens: Tensor  # [B, n, Lt]
    open: Tensor  # bool [B, n]: has no end yet
    at: Tensor  # [B, M]: the beginning before a word
    word: Tensor  # [B, M]
    weight: Tensor  # [B, M]

    def take(self, which: Tensor) -> _Guesses:
        return _Guesses(*(value[which] for value in vars(self).values()))


def _told(layer: LastLayer, sources: Tensor, known: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
    """As ``told_by_output``, all at once."""
    device, count, places = sources.device, len(sources), layer.places
    tokens = torch.full((1, count, places), PADDING, device=device)
    tokens[:, :, 0] = START
    begun = _Beginnings(layer.weight.new_zeros(0, layer.weight.shape[1]), layer.weight.new_zeros(0, len(layer.weight)))
    at = word = torch.zeros(1, 0, dtype=torch.int64, device=device)
    weight = layer.weight.new_zeros(1, 0)
    if len(known[1]):
        words = next_words(known[1])
        there = words != PADDING
        begun = begun.with_others(layer.inputs(*known)[there], layer)
        at, word = torch.arange(len(begun.odds), device=device)[None], words[there][None]
        lengths = there.sum(1, keepdim=True).to(weight)
        weight = (lengths.mean() / lengths).expand_as(there)[there][None]
    guesses = _Guesses(tokens, torch.ones(1, count, dtype=torch.bool, device=device), at, word, weight)
    coming, size = _coming(layer, sources, rng, count / (count + len(known[1])))
    for place in range(places):
        if not guesses.open.any():
            break
        used, at = guesses.at.unique(return_inverse=True)
        begun, guesses = begun.take(used), _Guesses(**{**vars(guesses), "at": at})
        beginnings = torch.cat((sources.expand(len(guesses.at), -1, -1), guesses.tokens[:, :, : place + 1]), 2)
        different, which = beginnings.flatten(0, 1).unique(dim=0, return_inverse=True)
        given = layer.inputs(different[:, : sources.shape[1]], different[:, sources.shape[1] :])[:, place]
        which = which.view(len(guesses.at), count) + len(begun.odds)
        begun = begun.with_others(given, layer)
        guesses = _next(layer, sources, guesses, begun, which, _Whitening.of(coming[place + 1 :], size), place)
    whole = torch.cat((sources, known[0]))
    shares = [explained(layer, whole, torch.cat((tokens, known[1]))) for tokens in guesses.tokens[:_NEAREST]]
    return guesses.tokens[max(range(len(shares)), key=shares.__getitem__)]


def _coming(layer: LastLayer, sources: Tensor, rng: Rng, share: float) -> tuple[Tensor, float]:
    """What the layer is given at every place on average, ``[Lt, D]``, and how much larger than noise a place is.

    ``share``: of the gradient, that of sentences which are searched for.
    """
    entries = layer.gradient
    likely = entries[:, -1].topk(min(_LIKELY * len(sources), len(entries)), largest=False).indices
    which = torch.randint(len(likely), (_DRAWN, layer.places), generator=rng.child("to come").generator())
    drawn = likely[which.to(likely.device)]
    drawn[:, 0] = START
    mean = layer.inputs(sources[torch.arange(_DRAWN, device=sources.device) % len(sources)], drawn).mean(0)
    noise = (1.4826 * (entries - entries.median()).abs().median()).square()  # most words occur nowhere
    made = (entries.square().sum() - entries.numel() * noise).clamp_min(0) * share
    scale = len(mean) * mean.square().sum(1).mean() * len(entries) * noise
    return mean, float((made / scale).clamp_max(_MOST).nan_to_num(_MOST))


@dataclass(frozen=True)
class _Whitening:
    """After it noise, and what is to come, are alike in all directions."""

    along: Tensor  # [l, D], orthonormal
    less: Tensor  # [l], the share of each that is taken away

    @staticmethod
    def of(coming: Tensor, size: float) -> _Whitening:
        """``coming``: inputs ``[l, D]``, each with ``size`` times the noise's variance."""
        _, sizes, along = torch.linalg.svd(coming, full_matrices=False)
        return _Whitening(along, 1 - (1 + size * sizes.square()).rsqrt())

    def __call__(self, rows: Tensor) -> Tensor:
        return rows - (rows @ self.along.T * self.less) @ self.along


def _next(
    layer: LastLayer,
    sources: Tensor,
    guesses: _Guesses,
    begun: _Beginnings,
    which: Tensor,
    whiten: _Whitening,
    place: int,
) -> _Guesses:
    """The guesses with a word more in every open sentence, whose beginnings are ``which`` ``[B, n]``, best first."""
    odds, given = begun.odds, whiten(begun.given)
    inner = given @ whiten(layer.gradient).T  # [P, K]
    whole = (odds * inner).sum(1)
    near, alike = given @ given.T, odds @ odds.T
    told = (guesses.weight * (whole[guesses.at] - inner[guesses.at, guesses.word])).sum(1)
    size = _size(guesses, odds, near, alike)
    row = torch.arange(len(told), device=told.device)
    for number in range(which.shape[1]):
        own = which[row, number]
        close = near[guesses.at, own[:, None]] * guesses.weight
        mixed = close.new_zeros(len(own), len(odds)).scatter_add(1, guesses.at, close)
        cross = (close * (alike[guesses.at, own[:, None]] - odds[own].gather(1, guesses.word))).sum(1, keepdim=True)
        cross = (cross - mixed @ odds).scatter_add(1, guesses.word, close)
        alone = (alike[own, own][:, None] - 2 * odds[own] + 1) * near[own, own][:, None]
        living = guesses.open[:, number].to(told)
        more = told[:, None] + living[:, None] * (whole[own][:, None] - inner[own])
        larger = size[:, None] + living[:, None] * (alone + 2 * cross)
        share = more.clamp_min(0).square() / larger.clamp_min(1e-30)
        share[~_allowed(guesses, sources, number, place, len(layer.weight))] = -1
        kept = share.flatten().topk(min(_GUESSES, int((share >= 0).sum()))).indices
        guess, word = kept // share.shape[1], kept % share.shape[1]
        row, told, size = row[guess], more[guess, word], larger[guess, word]
        guesses = _with_word(guesses.take(guess), number, place, own[guess], word)
    return guesses


def _size(guesses: _Guesses, odds: Tensor, near: Tensor, alike: Tensor) -> Tensor:
    """The square of what all words of a guess make, ``[B]``."""
    at, word, weight = guesses.at, guesses.word, guesses.weight
    foretold = odds[at].gather(2, word[:, None].expand(-1, at.shape[1], -1))
    pairs = alike[at[:, :, None], at[:, None]] - foretold - foretold.mT + (word[:, :, None] == word[:, None])
    return (pairs * near[at[:, :, None], at[:, None]] * weight[:, :, None] * weight[:, None]).sum((1, 2))


def _allowed(guesses: _Guesses, sources: Tensor, number: int, place: int, words: int) -> Tensor:
    """Which words may be next, bool ``[B, K]``: sentences that began alike are in the order of their words."""
    tokens, living = guesses.tokens, guesses.open[:, number]
    allowed = living[:, None].expand(-1, words).clone()
    allowed[:, START] = False
    if place + 1 == tokens.shape[2]:
        allowed[:] = False
        allowed[:, END] = living
    elif number and torch.equal(sources[number], sources[number - 1]):
        alike = (tokens[:, number, : place + 1] == tokens[:, number - 1, : place + 1]).all(1)
        order = torch.arange(words, device=tokens.device) >= tokens[:, number - 1, place + 1, None]
        allowed &= order | ~alike[:, None]
    allowed[:, PADDING] = ~living
    return allowed


def _with_word(guesses: _Guesses, number: int, place: int, at: Tensor, word: Tensor) -> _Guesses:
    tokens, living = guesses.tokens.clone(), guesses.open.clone()
    if place + 1 < tokens.shape[2]:
        tokens[:, number, place + 1] = word
    weight = living[:, number].to(guesses.weight)
    living[:, number] &= word != END
    added = (
        torch.cat((a, b[:, None]), 1) for a, b in ((guesses.at, at), (guesses.word, word), (guesses.weight, weight))
    )
    return _Guesses(tokens, living, *added)
