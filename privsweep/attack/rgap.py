"""The image behind a network that begins with convolutions, solved for layer by layer."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.joint_refinement import numbers_of_one, refined
from privsweep.gradient_inversion.label_inference import label_images, not_sent, output_layer
from privsweep.gradient_inversion.recursion import AT_MOST, recursion
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, finite, refuses_difference
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Observation, ThreatModel, Update
from privsweep.interface.roles import Bench, View
from privsweep.model.convolution_chain import ConvolutionChain, convolution_chain


@component
class Rgap(AttackBase):
    """The image of a single example, through convolutions, by one linear system each ("R-GAP": Zhu and Blaschko, 2021).

    They go back from the loss. Ours begins at the first dense layer, whose gradient tells its input and its error
    exactly whatever is behind, be it a random bottleneck, and weighs every equation by how sure it is
    (``gradient_inversion.recursion``). What noise and pruning have left of the image is then fitted to all layers'
    gradients at once (``gradient_inversion.joint_refinement``).
    """

    memory: ResourceOnly[Annotated[float, Field(gt=0)]]  # GiB for the victims that are fitted at once

    # 1: all layers at once after one by one; what was pruned or saturates. 2: of all victims at once, in float64.
    version: ClassVar[int] = 2
    at_most: ClassVar[int] = 1
    observes: ClassVar[type[Update] | None] = Update
    needs: ClassVar[frozenset[str]] = frozenset({"model", "domain", "recipe"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"client", "server"}), "white-box")

    def refuses(self, view: View) -> str | None:
        return refuses_difference(view)

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        shape = image_shape(domain, "attack", "attack=none")
        chain, output = convolution_chain(model), output_layer(model, domain.classes)
        if chain is None or output is None:
            return (
                "attack=rgap: the network must be a sequence of convolutions, activations that nowhere fall, "
                "nn.Flatten and a linear layer with a bias (the last layer needs none where there are more than two "
                "classes), without pooling or normalisation in between; take model=lenet_dlg, or attack=iga; of a "
                "perceptron, attack=analytic"
            )
        if prod(shape) > AT_MOST:
            size = f"{prod(shape):,} numbers, and at most {AT_MOST:,} are solved for at once"
            return f"attack=rgap: an image has {size}; take attack=iga"
        names = [f"{step.name}.weight" for step in chain.convolutions]
        dense = [f"{chain.dense}.{name}" for name, _ in model.get_submodule(chain.dense).named_parameters()]
        missing = not_sent(model, [*names, *dense, f"{output}.weight"])
        return f"attack=rgap: the update has no {', '.join(missing)}; take attack=iga" if missing else None

    def victims_at_once(self, seen: Observation, known: Knowledge, device: torch.device) -> int:
        """As many as fit ``memory`` when they are fitted."""
        return max(1, int(self.memory * 2**30 / (8 * numbers_of_one(known.model, self._chain(known), known.domain))))

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """Of several examples their mixture. Raises UserError for another model, and as ``captured_gradient``."""
        chain = self._chain(known)
        gradient = captured_gradient(seen, known)
        whole = finite(gradient)
        # A training that diverged leaves no gradient, and no weights that could be factorised.
        gradient, weights = (
            {name: t.nan_to_num(0, 0, 0) for name, t in values.items()} for values in (gradient, seen.weights)
        )
        near = recursion(chain, weights, gradient, known.domain, rng)
        found = refined(chain, weights, gradient, known.domain, near)
        images = found[:, None].expand(-1, seen.examples, -1, -1, -1)
        labels = label_images(known.model, weights, gradient, images, known.domain.classes)
        return Reconstruction(images=images, diverged=~whole, labels=labels)

    def _chain(self, known: Knowledge) -> ConvolutionChain:
        """Raises UserError for another model."""
        chain = convolution_chain(known.model)
        if chain is None:
            raise UserError(str(self.fits(known.model, known.domain, None)))
        return chain
