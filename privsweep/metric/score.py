"""Scores a guess against the truth, whatever its kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from privsweep.interface.data import Domain, TextDomain
from privsweep.interface.guess import Answers, Guess, Reconstruction, Scores, Transcription
from privsweep.interface.truth import Images, Membership, Properties, Sentences, Truth
from privsweep.metric.reconstruction import score_reconstruction, unscored


class Scored(NamedTuple):
    """A guess beside the truth."""

    metrics: dict[str, float | None]  # of the whole run
    rows: pd.DataFrame  # one a victim or candidate
    guess: Guess  # of several answers the chosen one; images and sentences in the order of the originals
    answers: Mapping[str, Reconstruction] = MappingProxyType({})  # of several, those that are pictured besides


def score(
    guess: Guess,
    truth: Truth | None,
    domain: Domain | TextDomain,
    paper_scale: str | None,
    asr_threshold: float,
    delta: float | None = None,
) -> Scored:
    """Scores a guess of any kind.

    Of several answers the chosen one's stand under the plain names, every one's under ``<metric>_<answer>``. Where they
    are reconstructions, ``oracle_ssim`` and ``oracle_psnr`` are two more: the answer whose mean over victims is best,
    which only who has the truth can choose. Ensembler reports these two.
    ``paper_scale`` and ``asr_threshold`` are those of ``score_reconstruction``, ``delta`` that of ``score_membership``.

    Without the truth, images have what the attack says of itself.

    Raises TypeError where the guess is of another kind than the truth.
    """
    match guess, truth, domain:  # statistics, which take long to import, are for those that need them
        case Answers(), _, _:
            each = {n: score(g, truth, domain, paper_scale, asr_threshold, delta) for n, g in guess.by_name.items()}
            best = {f"oracle_{by}": _best(each, by) for by in ("ssim", "psnr") if isinstance(truth, Images)}
            each |= best
            chosen = each[guess.chosen]
            metrics, rows = dict(chosen.metrics), chosen.rows.copy()
            for answer, of in each.items():
                metrics |= {f"{name}_{answer}": value for name, value in of.metrics.items()}
                named = of.rows.drop(columns=[c for c in ("victim", "candidate", "index", "indices") if c in of.rows])
                rows = rows.join(named.add_suffix(f"_{answer}"))
            pictured = {n: s.guess for n, s in best.items() if isinstance(s.guess, Reconstruction)}
            return Scored(metrics, rows, chosen.guess, pictured)
        case Scores(), Membership(), _:
            from privsweep.metric.membership import score_membership

            return Scored(*score_membership(guess, truth, delta), guess)
        case Scores(), Properties(), _:
            from privsweep.metric.properties import score_properties

            return Scored(*score_properties(guess, truth), guess)
        case Reconstruction(), Images(), Domain():
            return Scored(*score_reconstruction(guess, truth, domain, paper_scale, asr_threshold))
        case Reconstruction(), None, _:
            return Scored(*unscored(guess), guess)
        case Transcription(), Sentences(), TextDomain():
            from privsweep.metric.sentences import in_order, score_sentences

            ordered = in_order(guess, truth)
            return Scored(*score_sentences(ordered, truth, domain), ordered)
    raise TypeError(f"a guess at {type(guess).__name__} cannot be scored against {type(truth).__name__}")


def _best(each: Mapping[str, Scored], by: str) -> Scored:
    """The answer with the highest mean; one that is no number counts as lowest."""

    def value(name: str) -> float:
        found = each[name].metrics[by]
        return -math.inf if found is None else found

    return each[max(each, key=value)]
