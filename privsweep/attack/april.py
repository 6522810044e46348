"""A vision transformer's image, read off the gradients of its patch embedding and of its positions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import fold

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.label_inference import label_images, not_sent, output_layer
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, finite, refuses_difference
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, Update
from privsweep.interface.roles import Bench, View
from privsweep.model.first_layer import Patches, patches

_ROUNDING = 1e-7  # of the largest entry: noise below it is that of float32
_LEAST = 1e-60


@component
class April(AttackBase):
    """The image of a single example, from a vision transformer with learnt positions, by one linear system.

    "APRIL" (Lu et al., CVPR 2022), section 3: the gradient of a learnt position is that of the loss with respect to the
    patch embedded there. They solve the first attention layer for the embeddings, which needs a block without
    normalisation before it, and the embedding for the patches. Ours takes the step between: the gradient of the
    embedding's weight is the sum over patches of embedding's gradient times patch, and all of these gradients are
    known. So the patches follow from the first layer alone, whatever is behind it: exactly where there are no more of
    them than the embedding is wide, and nearly so with some more.

    Where entries were pruned, columns count for as much as their zeros leave certain: what is whole tells all.
    Under noise the singular values of the positions' gradients are shrunk by what it adds to them, and the answer is
    the mean of what the gradient leaves open of independent uniform pixels. How much noise there is shows in the bias's
    gradient, which without any is the sum of the positions'.
    """

    at_most: ClassVar[int] = 1
    observes: ClassVar[type[Update] | None] = Update
    needs: ClassVar[frozenset[str]] = frozenset({"model", "domain", "recipe"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"client", "server"}), "white-box")

    def refuses(self, view: View) -> str | None:
        return refuses_difference(view)

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        found = patches(model, image_shape(domain, "attack", "attack=none"))
        if found is None:
            return (
                "attack=april: the network must embed the patches of an image and add learnt positions; take "
                "model=vit, with model.positions=learnt, or attack=iga"
            )
        if (output := output_layer(model, domain.classes)) is None:
            return "attack=april: the network must end in a linear layer; take model=vit, or attack=iga"
        names = [f"{found.layer}.weight", f"{found.layer}.bias", found.position, f"{output}.weight"]
        missing = not_sent(model, names)
        return f"attack=april: the update has no {', '.join(missing)}; take attack=iga" if missing else None

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """Of several examples their mixture. Raises UserError for another model, and as ``captured_gradient``."""
        found = patches(known.model, known.domain.shape)
        if found is None:
            raise UserError(str(self.fits(known.model, known.domain, None)))
        gradient = captured_gradient(seen, known)
        sent = {name: gradient[name] for name in (found.position, f"{found.layer}.weight", f"{found.layer}.bias")}
        position, weight, bias = (g.nan_to_num(0, 0, 0).double() for g in sent.values())
        position = position.view(len(position), -1, weight.shape[1])[:, found.before :]
        one = _image(position, weight, bias, known.domain, found).to(gradient[found.position])
        images = one[:, None].expand(-1, seen.examples, -1, -1, -1)
        labels = label_images(known.model, seen.weights, gradient, images, known.domain.classes)
        return Reconstruction(images=images, diverged=~finite(sent), labels=labels)


def _image(position: Tensor, weight: Tensor, bias: Tensor, domain: Domain, found: Patches) -> Tensor:
    """Inputs ``[V, C, H, W]``, of gradients of positions ``[V, P, D]``, weight ``[V, D, C, k, k]``, bias ``[V, D]``."""
    count, shape = position.shape[1], weight.shape[2:]
    low, high = (bound.double() for bound in domain.box(weight.device))
    grey = ((low + high) / 2).expand(shape).flatten()
    spread = ((high - low).square() / 12).mean()
    # The bias's gradient, all positions' sum, makes grey of what the weight's holds. It is off from their sum by its
    # own noise and by theirs, an entry of the weight's by its own, by grey times that of the bias and by a pixel's
    # distance from grey times that of every position.
    gone, whole = position == 0, (position != 0).all(1) & (bias != 0)
    whole |= ~whole.any(1, keepdim=True)
    noise = ((bias - position.sum(1)).square() * whole).sum(1) / (whole.sum(1) * (1 + count))
    noise = torch.maximum(noise, (_ROUNDING * position.abs().amax((1, 2))).square()).clamp_min(_LEAST)[:, None]
    each = noise * (1 + grey.square().mean() + count * spread)
    pruned = gone.sum(1) * spread + (weight == 0).flatten(2).double().mean(2)
    trust = (each / (each + _below(position, weight)[:, None] * pruned)).sqrt()  # of a column; 1 where none is pruned
    patch, size, unit = torch.linalg.svd(position * trust[:, None], full_matrices=False)
    added = noise * trust.square().sum(1, keepdim=True)  # by noise, to squares
    size = size * (1 - added / size.square().clamp_min(_LEAST)).clamp_min(0)
    left = (weight.flatten(2) - torch.where(bias == 0, position.sum(1), bias)[:, :, None] * grey) * trust[:, :, None]
    inputs = patch @ ((size / (size.square() + each / spread))[:, :, None] * (unit @ left)) + grey
    return fold(inputs.mT, domain.shape[1:], found.side, stride=found.side)


def _below(position: Tensor, weight: Tensor) -> Tensor:
    """The mean square of what was pruned, ``[V]``, for what is left is larger; about zero where nothing was."""
    sent = torch.cat((position.flatten(1), weight.flatten(1)), 1).abs()
    least = sent.masked_fill(sent == 0, torch.inf).amin(1)
    return torch.where(least.isfinite(), least, 0).square() / 3
