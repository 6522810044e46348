"""DR-ensemble: several server networks trained together in one round, with dropout among them for a selector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Training
from privsweep.model.dropout import Dropout
from privsweep.model.ensemble import PerNetwork, ensembled
from privsweep.model.split_network import SplitNetwork, split_by_setting


@component
class DropoutEnsemble(Defense):
    """``networks`` bodies on the server; in training the client drops the answers of each with probability ``p``.

    Ensembler, section 5.2: dropout in the place of the selector, "with only one round of training". In use nothing is
    dropped: what the client sends does not depend on it.
    """

    networks: Annotated[int, Field(ge=1)]
    p: Annotated[float, Field(ge=0, lt=1)]

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        dropout = PerNetwork(Dropout((self.networks, 1), self.p), self.networks)
        net = split_by_setting(model, "dropout_ensemble")
        return ensembled(net, self.networks, ("dropout", dropout), "dropout_ensemble", rng)

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        """One training, of bodies with initial values of their own."""
        start = dict(training.start)
        for i in range(self.networks):
            own = fresh(rng.child("network", i))
            assert isinstance(own, SplitNetwork)
            start |= {f"body.nets.{i}.{name}": w[None] for name, w in own.body.state_dict().items()}
        return fit(replace(training, start=start))
