"""Membership inference by shadow training (Shokri et al., 2017), as Zen runs it (section 5.3)."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch

from privsweep.interface.component import JudgementOnly, component
from privsweep.interface.data import Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions
from privsweep.interface.roles import Bench
from privsweep.membership_inference.scores import finite
from privsweep.membership_inference.shadow_attack import ShadowAttack
from privsweep.training.shadows import answers


@component
class ShadowMembership(ShadowAttack):
    """Learns from shadows' answers, a class at a time, how a model answers records that it was trained on.

    Each shadow trains on ``shadow_size`` public records, half of them by default, and is asked for these and for as
    many others. A candidate's score is the probability of being a member that the classifier of its label gives to
    the target's answer; from 0.5 it is taken for one. Classes that no shadow was trained on, or was always trained on,
    share one classifier of all classes. An answer that is not finite, of a model that diverged, counts as one that
    tells all classes alike.
    """

    classifier: JudgementOnly[Literal["mlp", "logistic"]]

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Answers ``probabilities`` ``[K, 2n, classes]`` to ``n`` records in and ``n`` out, and their ``labels``."""
        prior = known.prior
        size = self.shadow_size or len(prior) // 2
        chosen = [rng.child("shadow", k, "records").permutation(len(prior))[: 2 * size] for k in range(self.shadows)]
        asked = torch.stack(chosen).to(prior.labels.device)
        model = self.model(known)
        weights = self.trained(known, prior, asked[:, :size], rng, bench)
        replies = []
        for k, rows in enumerate(asked):
            own = {name: w[k : k + 1] for name, w in weights.items()}
            replies.append(answers(model, own, prior.take(rows), known.domain, rng.child("asked", k)))
        return {"probabilities": torch.cat(replies), "labels": prior.labels[asked]}

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        size = prepared["labels"].shape[1] // 2
        x = finite(prepared["probabilities"].flatten(0, 1)).cpu().double().numpy()
        labels = prepared["labels"].flatten().cpu().numpy()
        member = np.tile(np.arange(2 * size) < size, len(prepared["labels"]))
        asked, asked_labels = finite(seen.probabilities).cpu().double().numpy(), known.candidates.labels.cpu().numpy()
        scores, common = np.empty(len(asked)), None
        for label in np.unique(asked_labels):
            rows, own = asked_labels == label, labels == label
            if len(np.unique(member[own])) == 2:
                model = self.fitted(x[own], member[own], rng.child("class", int(label)))
            else:
                model = common = common or self.fitted(x, member, rng.child("all classes"))
            scores[rows] = model.predict_proba(asked[rows])[:, 1]
        found = torch.from_numpy(scores).to(bench.device)
        return Scores(found, found >= 0.5)

    def fitted(self, x: np.ndarray, member: np.ndarray, rng: Rng) -> Any:
        """A classifier of answers ``[n, classes]``; the layers and epochs are those of the library that Zen used."""
        # Here, for the import takes a second, which planning need not wait.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier

        if self.classifier == "logistic":
            return LogisticRegression(max_iter=1000).fit(x, member)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a stated number of epochs, not convergence
            return MLPClassifier(
                (128, 64, 64), batch_size=min(32, len(x)), max_iter=12, random_state=rng.key() % 2**32
            ).fit(x, member)
