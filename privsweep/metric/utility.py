"""The utility of a trained model: what its own users get from it, whatever it tells an adversary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privsweep.interface.data import Data, ImageSet, Tensors
from privsweep.interface.translation import TranslationDomain
from privsweep.metric.accuracy import accuracy
from privsweep.metric.translation import BATCH, bleu_of_translations, loss_a_token

_JUDGED = 64  # released models whose accuracy is measured, at most


def utility(model: nn.Module, weights: Tensors, data: Data) -> dict[str, float]:
    """``train_accuracy`` and ``test_accuracy``, after every round.

    Of a model that translates they are shares of tokens, given the true words before each; that of training is over as
    many pairs as the validation split has, and ``validation_loss`` is the cross-entropy a token.
    """
    if not isinstance(data.domain, TranslationDomain):
        return {
            "train_accuracy": accuracy(model, weights, data.train, data.domain),
            "test_accuracy": accuracy(model, weights, data.test, data.domain),
        }
    watched = data.test if data.validation is None else data.validation
    device = data.train.labels.device
    some = data.train.take(torch.arange(min(len(watched), len(data.train)), device=device))
    return {
        "train_accuracy": accuracy(model, weights, some, data.domain, BATCH),
        "test_accuracy": accuracy(model, weights, data.test, data.domain, BATCH),
        "validation_loss": loss_a_token(model, weights, watched, data.domain),
    }


def final_utility(model: nn.Module, weights: Tensors, data: Data) -> dict[str, float]:
    """What costs too much for every round: ``bleu``, from 0 to 1, of the translations of the test split."""
    if not isinstance(data.domain, TranslationDomain):
        return {}
    return {"bleu": bleu_of_translations(model, weights, data.test, data.domain)}


def released_utility(
    model: nn.Module, data: Data, fixed: ImageSet, start: Tensors | None, weights: Tensors, targets: Tensor, each: int
) -> dict[str, float]:
    """Mean accuracies, on ``fixed`` and on test images, of some targets' first models among ``[V * each, ...]``.

    A model's own target is no test image of its own. ``start_test_accuracy`` is that of ``start``, where all begin.
    """
    found = []
    for v in range(min(len(targets), _JUDGED)):
        own = {name: w[v * each] for name, w in weights.items()}
        others = torch.arange(len(data.test)) != targets[v]
        test = data.test.take(others.nonzero()[:, 0].to(data.test.labels.device))
        found.append((accuracy(model, own, fixed, data.domain), accuracy(model, own, test, data.domain)))
    train, test_ = (sum(side) / len(found) for side in zip(*found, strict=True))
    reached = {"train_accuracy": train, "test_accuracy": test_}
    if start is not None:
        reached["start_test_accuracy"] = accuracy(model, start, data.test, data.domain)
    return reached
