"""How much of a token sequence was recovered."""

from __future__ import annotations

import pandas as pd

from privsweep.interface.records import Sentences, Transcription


def score_sentences(guess: Transcription, truth: Sentences) -> tuple[dict[str, float | None], pd.DataFrame]:
    """Metrics of the whole run, and a table with one row a victim; places of the message count alike, padding too.

    ``token_accuracy``: the share of tokens that are right; ``exact``: of sequences that are right throughout. The
    table has ``victim``, ``index`` (of its first sequence), both of these, and every diagnostic.

    Raises ValueError for shapes that differ.
    """
    if guess.tokens.shape != truth.tokens.shape:
        raise ValueError(f"guessed {tuple(guess.tokens.shape)}, the truth is {tuple(truth.tokens.shape)}")
    right = (guess.tokens.cpu() == truth.tokens.cpu()).double()
    columns = {"token_accuracy": right.mean((1, 2)), "exact": right.amin(2).mean(1)}
    columns |= {name: values.detach().cpu().double() for name, values in guess.diagnostics.items()}
    rows = pd.DataFrame({"victim": range(len(right)), "index": truth.index[:, 0].cpu().numpy()})
    for name, values in columns.items():
        rows[name] = values.numpy()
    return {name: float(values.mean()) for name, values in columns.items()}, rows
