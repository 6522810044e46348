"""The input of a network's first linear layer, read off its gradient without any optimisation."""

from __future__ import annotations

import sys
from math import prod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.image_prior import LEAST, ImagePrior
from privsweep.gradient_inversion.label_inference import label_images, not_sent, output_layer
from privsweep.gradient_inversion.likely_input import likely_input
from privsweep.gradient_inversion.lone_units import inputs_by_agreement
from privsweep.gradient_inversion.rank_one import Network, input_behind, nearest_rank_one
from privsweep.gradient_inversion.sparse_errors import inputs_by_sparsity
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, refuses_difference
from privsweep.interface.component import UnlessZero, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, Update
from privsweep.interface.roles import Bench, View
from privsweep.model.first_layer import first_linear, following


@component
class Analytic(AttackBase):
    """Exact inversion of a linear first layer: weight gradient over bias gradient (Phong et al., 2017, section 3).

    A unit's weight gradient is the sum over examples of its error times the input, its bias gradient the sum of
    the errors. For one example the weight gradient is of rank one: its leading singular vector is the input, of which
    the bias gradient tells the norm, so that noise on the gradient averages out over all units and all pixels, and
    entries that were pruned are made up for by the others (``gradient_inversion.rank_one``). For more, the zeros that
    ReLU leaves in their errors tell the examples apart, exactly and of up to about eighteen (Dimitrov et al., 2024:
    ``gradient_inversion.sparse_errors``). Under noise, and of more, a unit that only one example activates gives that
    example's input, and such units agree with one another: the largest groups of agreeing units are taken, which needs
    ReLU and more units than examples (``gradient_inversion.lone_units``). Noise is averaged out there too, for the
    weight gradient's rank is the number of examples.

    ``most_probable``: what noise leaves of a single image is weighed against a Gaussian of the adversary's own images
    (``gradient_inversion.image_prior``, ``gradient_inversion.likely_input``; ours). The errors of the layer's units are
    measured beforehand, so that the image loses no contrast, as it does where one is sought whose own errors fit.
    """

    agreement: Annotated[float, Field(gt=0)]  # of batches: sine of the largest angle between inputs that count as one
    most_probable: UnlessZero[bool]

    # 1: one example by its singular vector. 2: of batches, what exceeds their rank is noise; what was pruned is left
    # out. 3: batches by the zeros of ReLU.
    version: ClassVar[int] = 3
    observes: ClassVar[type[Update] | None] = Update
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"client", "server"}), "white-box")
    instead: ClassVar[str] = "attack.most_probable=false"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"model", "domain", "recipe"}) | self.prepares_from

    @property
    def prepares_from(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"domain", "prior"} if self.most_probable else ())

    @property
    def at_most(self) -> int:
        return 1 if self.most_probable else sys.maxsize

    def refuses(self, view: View) -> str | None:
        return refuses_difference(view)

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        first, output = first_linear(model, prod(domain.shape)), output_layer(model, domain.classes)
        if first is None:
            return (
                "attack=analytic: the first layer with weights must be linear with a bias, and see the whole image; "
                "take model=smlp or dmlp"
            )
        if output is None:
            return "attack=analytic: the model must end in a linear layer; take model=smlp or dmlp, or attack=iga"
        if self.most_probable and (prior is None or len(prior) < LEAST):
            given = f"attack.most_probable=true: under a Gaussian of {LEAST} images at least"
            return f"{given} of the adversary's own; hold some out: dataset.prior_size=10000"
        missing = not_sent(model, [f"{first}.weight", f"{first}.bias", f"{output}.weight"])
        return f"attack=analytic: the update has no {', '.join(missing)}; take attack=iga" if missing else None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """The Gaussian of the adversary's own images, if it is asked for."""
        if not self.most_probable:
            return {}
        own = known.prior.to(bench.device)
        return ImagePrior.fitted(known.domain, own, rng.child("prior"), prod(known.domain.shape)).tensors()

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """Raises UserError for a model that does not begin with a linear layer, and as ``captured_gradient``."""
        first = first_linear(known.model, prod(known.domain.shape))
        if first is None:
            raise UserError(str(self.fits(known.model, known.domain, None)))
        gradient = captured_gradient(seen, known)
        weight, bias = gradient[f"{first}.weight"], gradient[f"{first}.bias"]
        if seen.examples == 1:
            network = Network(known.model, first, seen.weights, known.domain)
            product = nearest_rank_one(weight, bias)
            found = input_behind(product, bias, gradient, network)
            if self.most_probable:
                prior = ImagePrior.of(prepared, 1.0, found)
                found = likely_input(product, found, bias, gradient, network, prior)
        else:
            found = torch.stack(
                [
                    self._batch(weight[at], bias[at], first, seen, known, rng.child("victim", number))
                    for at, number in enumerate(seen.victims)
                ]
            )
        images = found.view(len(found), seen.examples, *known.domain.shape)
        labels = label_images(known.model, seen.weights, gradient, images.nan_to_num(0), known.domain.classes)
        diverged = ~images.isfinite().flatten(1).all(1)
        return Reconstruction(images=images.nan_to_num(0), diverged=diverged, labels=labels)

    def _batch(self, weight: Tensor, bias: Tensor, first: str, seen: Update, known: Knowledge, rng: Rng) -> Tensor:
        """The inputs ``[N, D]`` behind one victim's gradients; grey where an example leaves none."""
        if [type(layer) for _, layer in following(known.model, first, 1)] == [nn.ReLU]:
            layer = seen.weights[f"{first}.weight"], seen.weights[f"{first}.bias"]
            told = inputs_by_sparsity(weight, bias, layer, seen.examples, rng)
            if told is not None:
                grey = known.domain.inputs(torch.full(known.domain.shape, 0.5, device=told.device)).view(1, -1)
                return torch.cat((told, grey.expand(seen.examples - len(told), -1)))
        return inputs_by_agreement(weight, bias, seen.examples, self.agreement)
