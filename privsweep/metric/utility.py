"""The utility of a trained model: what its own users get from it, whatever it tells an adversary."""

from __future__ import annotations

import torch
from torch import nn

from privsweep.interface.data import Data, Tensors
from privsweep.interface.translation import TranslationDomain
from privsweep.metric.accuracy import accuracy
from privsweep.metric.translation import BATCH, bleu_of_translations, loss_a_token


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
