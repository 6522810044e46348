"""How much of token sequences was recovered, and how much of a reader's sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from privsweep.interface.data import TextDomain
from privsweep.interface.guess import Transcription
from privsweep.interface.translation import PADDING, TranslationDomain
from privsweep.interface.truth import Sentences
from privsweep.metric.translation import bleu

Scores = dict[str, float | None]
Text = Callable[[Tensor], str]


def score_sentences(guess: Transcription, truth: Sentences, domain: TextDomain) -> tuple[Scores, pd.DataFrame]:
    """Metrics of the whole run, and a table with one row a victim.

    ``token_accuracy``: the share of words that are right, in their place; ``token_accuracy_padded``: of all places,
    those of starts, ends and padding too; ``exact``: of sequences that read as the truth does; ``overlap``: the share
    of words that the guess has too, each as often as it is there, wherever it stands, in whatever case; ``bleu``: of
    all sequences together. The table has ``victim``, ``index`` (of its first sequence), these without ``bleu``, and
    every diagnostic.

    Of pairs of sentences ``token_accuracy_source``, ``token_accuracy_target``, ``exact_source`` and ``exact_target``
    are of each of the two. The same as above with ``_chance`` compare every guess with the next victim's truth: what
    frequent words are worth. Where the attack made a copy of the client, those with ``_shadow`` are of what it reads in
    the copy's features, and those with ``_translation`` of the copy's translations, against those that the system
    gives.

    Raises ValueError for shapes that differ.
    """
    columns, metrics = _scored(guess.tokens, truth.tokens, domain, domain.text)
    columns |= _of_each_side(guess.tokens, truth.tokens, domain)
    metrics |= _chance(guess.tokens, truth.tokens, domain)
    columns |= {name: values.detach().cpu().double() for name, values in guess.diagnostics.items()}
    if guess.imitation is not None:
        flat = truth.tokens.flatten(0, 1)
        read = guess.imitation.guesses(flat).view(truth.tokens.shape)
        compared = {"shadow": _scored(read, truth.tokens, domain, domain.text)}
        if truth.translations is not None and isinstance(domain, TranslationDomain):
            made = guess.imitation.translations(flat).view(truth.translations.shape)
            compared["translation"] = _scored(made, truth.translations, domain, domain.target.text)
        for what, (own, whole) in compared.items():
            columns |= {f"{name}_{what}": values for name, values in own.items()}
            metrics |= {f"{name}_{what}": value for name, value in whole.items()}
    rows = pd.DataFrame({"victim": range(len(truth.tokens)), "index": truth.index[:, 0].cpu().numpy()})
    for name, values in columns.items():
        rows[name] = values.numpy()
    return {**{name: float(values.mean()) for name, values in columns.items()}, **metrics}, rows


def in_order(guess: Transcription, truth: Sentences) -> Transcription:
    """The guess, its sequences in the order of the truth, victim by victim, where no message tells it.

    It is the one in which most tokens are right. This is scoring: no sequence is changed by it.
    """
    if truth.ordered or guess.tokens.shape != truth.tokens.shape:
        return guess
    rows = []
    for found, true in zip(guess.tokens, truth.tokens, strict=True):
        right = ((found == true[:, None]) & (true[:, None] != PADDING)).sum(2)
        _, order = linear_sum_assignment(right.cpu().numpy(), maximize=True)
        rows.append(found[torch.from_numpy(order).to(found.device)])
    return replace(guess, tokens=torch.stack(rows))


def overlap(guess: str, truth: str) -> float:
    """The share of the words of ``truth`` that ``guess`` has too; punctuation and case do not count."""
    theirs, ours = (Counter(re.findall(r"\w+", text.lower())) for text in (truth, guess))
    return (theirs & ours).total() / max(1, theirs.total())


def sentence_table(guess: Transcription, truth: Sentences, domain: TextDomain) -> pd.DataFrame:
    """For readers, one row a sequence: the truth, what it was sent for, what the attack's copy does, and the guess."""
    flat = truth.tokens.flatten(0, 1)
    columns: dict[str, list[str]] = {"truth": [domain.text(row) for row in flat]}
    target = domain.target if isinstance(domain, TranslationDomain) else None
    if truth.translations is not None and target is not None:
        columns["translation"] = [target.text(row) for row in truth.translations.flatten(0, 1)]
    if guess.imitation is not None:
        if target is not None:
            columns["shadow_translation"] = [target.text(row) for row in guess.imitation.translations(flat)]
        columns["guess_on_shadow"] = [domain.text(row) for row in guess.imitation.guesses(flat)]
    columns["guess"] = [domain.text(row) for row in guess.tokens.flatten(0, 1)]
    victims = [v for v in range(len(truth.tokens)) for _ in range(truth.tokens.shape[1])]
    return pd.DataFrame({"victim": victims, **columns})


def _scored(guess: Tensor, truth: Tensor, domain: TextDomain, text: Text) -> tuple[dict[str, Tensor], Scores]:
    """Of sequences ``[V, N, L]``: values ``[V]``, and what is only known of all together."""
    if guess.shape != truth.shape:
        raise ValueError(f"guessed {tuple(guess.shape)}, the truth is {tuple(truth.shape)}")
    guess, truth = guess.cpu(), truth.cpu()
    right, words = guess == truth, domain.words(truth)
    guessed, true = ([text(row) for row in tokens.flatten(0, 1)] for tokens in (guess, truth))

    def means(values: Iterable[float]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.float64).view(truth.shape[:2]).mean(1)

    columns = {
        "token_accuracy": (right & words).sum((1, 2)).double() / words.sum((1, 2)).clamp_min(1),
        "token_accuracy_padded": right.double().mean((1, 2)),
        "exact": means(a == b for a, b in zip(guessed, true, strict=True)),
        "overlap": means(map(overlap, guessed, true)),
    }
    return columns, {"bleu": bleu(guessed, true)}


def _of_each_side(guess: Tensor, truth: Tensor, domain: TextDomain) -> dict[str, Tensor]:
    """Values ``[V]`` of both sentences of pairs ``[V, N, Ls + Lt]``; none where there is one alone."""
    if not isinstance(domain, TranslationDomain) or truth.shape[2] <= domain.source_length:
        return {}
    columns: dict[str, Tensor] = {}
    for side, part, vocabulary in (
        ("source", slice(None, domain.source_length), domain.source),
        ("target", slice(domain.source_length, None), domain.target),
    ):
        own, _ = _scored(guess[..., part], truth[..., part], domain, vocabulary.text)
        columns |= {f"{name}_{side}": own[name] for name in ("token_accuracy", "exact")}
    return columns


def _chance(guess: Tensor, truth: Tensor, domain: TextDomain) -> Scores:
    """Scores against the sentences of other victims; None where there is one victim only."""
    columns, metrics = _scored(guess, truth.roll(-1, 0), domain, domain.text)
    found: Scores = {**{name: float(values.mean()) for name, values in columns.items()}, **metrics}
    return {f"{name}_chance": value if len(truth) > 1 else None for name, value in found.items()}
