"""Random: the head is exchanged for an untrained one, at the cost of accuracy."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Training
from privsweep.model.split_network import split_by_setting


@component
class RandomHead(Defense):
    """After the training the client takes a head with fresh initial values; nothing is trained again.

    Ensembler, section 5.2: "an untrained random M_c,h" that shows what noise can hide at most. That nothing is trained
    again is inferred from the printed loss of 65 points of accuracy.
    """

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        return split_by_setting(model, "random_head")

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        untrained = fresh(rng.child("head")).state_dict()
        return {n: untrained[n][None] if n.startswith("head.") else w for n, w in fit(training).items()}
