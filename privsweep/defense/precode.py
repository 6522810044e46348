"""PRECODE: a variational bottleneck before the output layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Loss
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.loss_term import PlusLastOutput
from privsweep.model.plain import is_plain
from privsweep.model.sequence import is_sequence
from privsweep.model.stochastic import LinearBesideLossTerm
from privsweep.model.variational_bottleneck import Bottleneck


@component
class Precode(Defense):
    """Replaces the features before the output layer by random ones, decoded from a sampled code.

    The model's outputs become ``[B, classes + 1]``: logits, and the Kullback-Leibler divergence of every
    example's code from a standard normal one, in bits, whose mean the loss adds ``beta`` times. Layers
    keep their names, and ``bottleneck`` comes before ``output``. There is no strength at which it is no
    defence: with ``beta=0`` too the features are sampled and pass through ``k`` numbers.

    Scheliga et al., "PRECODE" (WACV 2022), section 3.2 and equation 3; softplus, sampling at test time too,
    no activation after the decoder and the divergence in bits (``beta`` times ln 2 gives nats) as in the
    authors' code.
    """

    k: Annotated[int, Field(ge=1)]
    beta: Annotated[float, Field(ge=0)]

    answered_by: ClassVar[Mapping[str, str]] = {"match": "deterministic_layers", "noise": "optimised"}

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        """Shares its layers with ``model``; the new ones are PyTorch's default, drawn from ``rng``.

        Raises UserError where the model is no sequence of layers that ends in a linear one named ``output``.
        """
        if not is_sequence(model):
            raise UserError(
                "defense=precode: goes before the last layer of a sequence, and the model is none; choose another "
                "model, such as model=lenet, or leave precode out"
            )
        layers = list(model.named_children())
        name, last = layers[-1] if layers else ("nothing", model)
        if name != "output" or type(last) is not nn.Linear or not is_plain(last):
            raise UserError(
                f"defense=precode: goes before a last layer that is linear and named output, and the model ends in "
                f"{name} ({type(last).__name__}); choose another model, or leave precode out"
            )
        with seeded(rng):
            bottleneck = Bottleneck(last.in_features, self.k)
        replaced = [("bottleneck", bottleneck), ("output", LinearBesideLossTerm(last))]
        return nn.Sequential(OrderedDict([*layers[:-1], *replaced]))

    def loss(self, loss: Loss) -> Loss:
        return PlusLastOutput(loss, self.beta)
