"""How much of token sequences was recovered, and how much of a reader's sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from privsweep.interface.data import TextDomain
from privsweep.interface.records import Sentences, Transcription
from privsweep.interface.translation import TranslationDomain
from privsweep.metric.translation import bleu

Scores = dict[str, float | None]


def score_sentences(guess: Transcription, truth: Sentences, domain: TextDomain) -> tuple[Scores, pd.DataFrame]:
    """Metrics of the whole run, and a table with one row a victim.

    ``token_accuracy``: the share of tokens, padding left out, that are right; ``token_accuracy_padded``: of all places;
    ``exact``: of sequences all of whose tokens are right; ``overlap``: the share of words that the guess has too, each
    as often as it is there, wherever it stands, in whatever case; ``bleu``: of all sequences together. The table has
    ``victim``, ``index`` (of its first sequence), these without ``bleu``, and every diagnostic.

    Where the attack made its copy of the client, what it makes of the copy's features is scored under the same names
    with ``_shadow``; and of a copy that translates, ``translation_overlap`` and ``translation_bleu`` compare its
    translations with the system's own.

    Raises ValueError for shapes that differ.
    """
    columns, metrics = _scored(guess.tokens, truth.tokens, domain)
    columns |= {name: values.detach().cpu().double() for name, values in guess.diagnostics.items()}
    flat = truth.tokens.flatten(0, 1)
    if guess.imitation is not None:
        copied, theirs = _scored(guess.imitation.guesses(flat).view(truth.tokens.shape), truth.tokens, domain)
        columns |= {f"{name}_shadow": values for name, values in copied.items()}
        metrics |= {f"{name}_shadow": value for name, value in theirs.items()}
        if truth.translations is not None and isinstance(domain, TranslationDomain):
            made = [domain.target.text(row) for row in guess.imitation.translations(flat)]
            own = [domain.target.text(row) for row in truth.translations.flatten(0, 1)]
            columns["translation_overlap"] = _means(map(overlap, made, own), truth.tokens)
            metrics["translation_bleu"] = bleu(made, own)
    rows = pd.DataFrame({"victim": range(len(flat) // truth.tokens.shape[1]), "index": truth.index[:, 0].cpu().numpy()})
    for name, values in columns.items():
        rows[name] = values.numpy()
    return {**{name: float(values.mean()) for name, values in columns.items()}, **metrics}, rows


def overlap(guess: str, truth: str) -> float:
    """The share of the words of ``truth`` that ``guess`` has too; punctuation and case do not count."""
    theirs, ours = (Counter(re.findall(r"\w+", text.lower())) for text in (truth, guess))
    return (theirs & ours).total() / max(1, theirs.total())


def sentence_table(guess: Transcription, truth: Sentences, domain: TextDomain) -> pd.DataFrame:
    """For readers, one row a sequence: the truth, what it was sent for, what the attack's copy does, and the guess."""
    flat = truth.tokens.flatten(0, 1)
    columns: dict[str, list[str]] = {"truth": _texts(flat, domain)}
    target = domain.target if isinstance(domain, TranslationDomain) else None
    if truth.translations is not None and target is not None:
        columns["translation"] = [target.text(row) for row in truth.translations.flatten(0, 1)]
    if guess.imitation is not None:
        if target is not None:
            columns["shadow_translation"] = [target.text(row) for row in guess.imitation.translations(flat)]
        columns["guess_on_shadow"] = _texts(guess.imitation.guesses(flat), domain)
    columns["guess"] = _texts(guess.tokens.flatten(0, 1), domain)
    victims = [v for v in range(len(truth.tokens)) for _ in range(truth.tokens.shape[1])]
    return pd.DataFrame({"victim": victims, **columns})


def _scored(guess: Tensor, truth: Tensor, domain: TextDomain) -> tuple[dict[str, Tensor], Scores]:
    """Of sequences ``[V, N, L]``: values ``[V]``, and what is only known of all together."""
    if guess.shape != truth.shape:
        raise ValueError(f"guessed {tuple(guess.shape)}, the truth is {tuple(truth.shape)}")
    guess, truth = guess.cpu(), truth.cpu()
    right = guess == truth
    words = right.new_ones(right.shape) if domain.padding is None else truth != domain.padding
    texts = _texts(guess.flatten(0, 1), domain), _texts(truth.flatten(0, 1), domain)
    columns = {
        "token_accuracy": (right & words).sum((1, 2)).double() / words.sum((1, 2)).clamp_min(1),
        "token_accuracy_padded": right.double().mean((1, 2)),
        "exact": (right | ~words).all(2).double().mean(1),
        "overlap": _means(map(overlap, *texts), truth),
    }
    return columns, {"bleu": bleu(*texts)}


def _texts(tokens: Tensor, domain: TextDomain) -> list[str]:
    return [domain.text(row) for row in tokens]


def _means(values: Iterable[float], like: Tensor) -> Tensor:
    """One number a victim ``[V]``, of one a sequence of ``like`` ``[V, N, L]``."""
    return torch.tensor(list(values), dtype=torch.float64).view(like.shape[:2]).mean(1)
