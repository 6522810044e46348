"""DR-single: one network, trained with dropout on the features that leave the client."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.perturbation import FeatureDropout
from privsweep.model.split_network import appended, split_by_setting


@component
class DropoutSingle(Defense):
    """Dropout after the head, in training and in use; with ``p=0`` it is no defence.

    Ensembler, section 5.2. That dropout stays on in use is ours, after ResSFL's code (Li et al., 2022): else what the
    client sends would be as without it.
    """

    p: Annotated[float, Field(ge=0, lt=1)]

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        net = split_by_setting(model, "dropout_single")
        return net.with_parts(head=appended(net.head, "dropout", FeatureDropout(net.sent, self.p)))
