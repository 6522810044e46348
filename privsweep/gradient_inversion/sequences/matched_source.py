"""The source sentence behind a gradient whose target is told, by the gradients that its words would have.

Axes: ``Ls, Lt`` places of a source and of a target.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from privsweep.gradient_inversion.sequences.last_layer import next_words
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge
from privsweep.interface.translation import END, PADDING, START

_ENTRIES = 1 << 25  # of gradients that are compared at once
_BETTER = 1e-6  # a cosine: more than rounding


def matched_source(
    source: Tensor, target: Tensor, words: Tensor, gradient: Tensors, known: Knowledge, weights: Tensors, rng: Rng
) -> Tensor:
    """The source ``[Ls]`` whose gradient points as the given one, of some parameters, does most.

    As in Balunović et al. ("LAMP: extracting text from gradients with language model priors", NeurIPS 2022) a guess
    gives way to the best of those with two words exchanged or one moved; where none is better, of those
    with one more, one less or another of the ``words`` that occur. Ours: beginning at ``source`` and at its words in
    another order, since a search may end before the best. ``target``: ``[Lt]``. The network must drop nothing: what
    dropout changes is more than what the order does.
    """
    places, device = len(source), target.device
    labels = next_words(target[None])
    given = {name: weight.detach() for name, weight in weights.items()}
    wanted = torch.cat([g.flatten() for g in gradient.values()])
    at_once = max(1, _ENTRIES // len(wanted))

    def made(parameters: Tensors, tokens: Tensor) -> Tensor:
        return known.loss(functional_call(known.model, {**given, **parameters}, tokens[None]), labels)

    of_each = vmap(grad(made), in_dims=(None, 0))

    def cosines(guesses: list[tuple[int, ...]]) -> Tensor:
        tokens = torch.stack([torch.cat((_sentence(guess, places).to(device), target)) for guess in guesses])
        found = []
        for part in tokens.split(at_once):
            rows = of_each({name: given[name] for name in gradient}, part)
            every = torch.cat([rows[name].flatten(1) for name in gradient], 1)
            found.append(every @ wanted / every.norm(dim=1).clamp_min(1e-30))
        return torch.cat(found)

    def best_from(guess: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
        level = float(cosines([guess]))
        while True:
            # A single word has no other order, and where noise hides all words there is none to put in.
            for guesses in filter(None, (_reordered(guess), _replaced(guess, occurring, places - 2))):
                each = cosines(guesses)
                if float(each.max()) > level + _BETTER:
                    guess, level = guesses[int(each.argmax())], float(each.max())
                    break
            else:
                return guess, level

    occurring = _words(words)
    first = _words(source)[: places - 2]
    another = [first[at] for at in rng.child("another order").permutation(len(first)).tolist()]
    ends = [best_from(tuple(start)) for start in (first, another)]
    return _sentence(max(ends, key=lambda end: end[1])[0], places).to(source)


def _words(tokens: Tensor) -> list[int]:
    return [token for token in tokens.tolist() if token not in (START, END, PADDING)]


def _sentence(words: tuple[int, ...], places: int) -> Tensor:
    return torch.tensor([START, *words, END] + [PADDING] * (places - len(words) - 2))


def _reordered(words: tuple[int, ...]) -> list[tuple[int, ...]]:
    """With two words exchanged, or one at another place; every sentence once."""
    found = []
    for a in range(len(words)):
        rest = words[:a] + words[a + 1 :]
        found += [rest[:b] + words[a : a + 1] + rest[b:] for b in range(len(words))]
        found += [
            words[:a] + words[b : b + 1] + words[a + 1 : b] + words[a : a + 1] + words[b + 1 :]
            for b in range(a + 2, len(words))
        ]
    return [guess for guess in dict.fromkeys(found) if guess != words]


def _replaced(words: tuple[int, ...], occurring: list[int], most: int) -> list[tuple[int, ...]]:
    """With a word more, less or another: some were taken for known by their noise, and some occur twice."""
    found = [words[:a] + words[a + 1 :] for a in range(len(words)) if len(words) > 1]
    found += [(*words[:a], word, *words[a + 1 :]) for a in range(len(words)) for word in occurring]
    if len(words) < most:
        found += [(*words[:a], word, *words[a:]) for a in range(len(words) + 1) for word in occurring]
    return [guess for guess in dict.fromkeys(found) if guess != words]
