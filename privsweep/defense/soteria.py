"""Soteria: what the gradient of one dense layer says of the image behind it is cut down (Sun et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

# Numbers of the features' derivatives that are formed at once: on a CPU few stay in its caches. All 768 of a LeNet, by
# 64 images, take one core 2.5 s at 2**18, 2.8 s at 2**20 and 6 s at 2**25. Not measured on a GPU.
_HELD = {"cpu": 2**19, "cuda": 2**27}


@component
class Soteria(Defense):
    """Sets columns of one dense layer's weight gradient to zero: those of the features that tell most of the image.

    Such a gradient is made of the features that go into the layer, the data representation, and an adversary who has
    them has the image. Of ``features`` r, the ``fraction`` with the least ``|dr_i / dX| / |r_i|``, the mean over the
    batch, X an image and the norm that of all its pixels, are taken for zero in the gradient, exactly so many as a
    whole number allows; the rest of the network's gradient stays as it is, and so does its output. A feature that is
    zero for an image has no quotient there, and one that is zero for all of them is not pruned. ``fraction=0`` is no
    defence.

    ``layer`` is the name of an ``nn.Linear`` that takes one vector of features an image; None: the first such behind
    another layer with weights, in a transformer the last. Where a perceptron is defended, the layer before it still
    gives the image away, so that it is meant for what follows convolutions.

    Sun et al., "Soteria: Provable defense against privacy leakage in federated learning from representation
    perspective" (CVPR 2021), section 5 with p = 0 for the features' distance; the mean over a batch as in the authors'
    code, which adds up. An adversary matches what is left: see ``only_nonzero`` of gradient matching, and Balunovic et
    al., "Bayesian framework for gradient leakage" (ICLR 2022), section 5.
    """

    fraction: Annotated[float, Field(ge=0, le=1)]
    layer: str | None

    answered_by: ClassVar[Mapping[str, str]] = {"only_nonzero": "true"}

    def acts_at(self) -> frozenset[str]:
        return super().acts_at() - {"model"}  # which it only looks at

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        """As it is. Raises UserError where it has no such layer, or takes no images."""
        if any(isinstance(layer, nn.Embedding) for layer in model.modules()):
            raise UserError(
                "defense=soteria: weighs features by how they change with the pixels of an image, and the model reads "
                "words; leave it out"
            )
        self._dense(model)
        return model

    def batch_gradient(self, grad: Tensors, model: nn.Module, x: Tensor, rng: Rng) -> Tensors:
        """Raises UserError where the layer has other inputs than one vector of features an image."""
        names = self._dense(model)
        if self.fraction == 0:
            return grad
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            name, features = _first_of_vectors(model, names, x)
            if (weight := f"{name}.weight") not in grad:
                return grad
            told = _quotients(features, x)
        pruned = told.topk(round(self.fraction * len(told)), largest=False).indices
        return {**grad, weight: grad[weight].index_fill(1, pruned, 0)}

    def _dense(self, model: nn.Module) -> list[str]:
        """The names of layers, of which the first that takes one vector an image is defended."""
        weighty = [name for name, layer in model.named_modules() if isinstance(getattr(layer, "weight", None), Tensor)]
        dense = [name for name in weighty if type(model.get_submodule(name)) is nn.Linear]  # attention has others
        if self.layer is not None:
            if self.layer not in dense:
                known = f"is none of the model's dense layers, {', '.join(dense)}" if dense else "the model has none"
                raise UserError(f"defense.soteria.layer={self.layer}: {known}; take null, or another model")
            return [self.layer]
        behind = [name for name in dense if name != weighty[0]]
        if not behind:
            raise UserError(
                "defense=soteria: defends a dense layer behind another layer with weights, and the model has none; "
                "choose another model, such as model=lenet, or leave soteria out"
            )
        return behind


class _ReachedError(Exception):
    """The layer's features are known, and what follows it need not be computed."""


def _first_of_vectors(model: nn.Module, names: list[str], x: Tensor) -> tuple[str, Tensor]:
    """The first layer that is given one vector of features for each of the images ``x``; and these, ``[N, F]``."""
    shapes = []
    for name in names:
        features = _features(model, name, x)
        if features.dim() == 2:
            return name, features
        shapes.append("x".join(map(str, features.shape[1:])))
    what = f"defense.soteria.layer={names[0]}: takes" if len(names) == 1 else "defense=soteria: every dense layer takes"
    raise UserError(
        f"{what} several vectors of an image, {' or '.join(dict.fromkeys(shapes))}; name a dense layer that takes one, "
        "or choose another model"
    )


def _quotients(r: Tensor, x: Tensor) -> Tensor:
    """Of every feature of ``r`` ``[N, F]``: the mean of ``|dr_i / dX| / |r_i|`` over the images ``x`` that have it.

    Infinity, where none has it.
    """
    # Of the sum over the batch, as the authors: images that normalisation mixes have their part in each other's.
    summed = r.sum(0)
    unit = torch.eye(len(summed), device=x.device, dtype=r.dtype)
    size = max(1, _HELD[x.device.type] // x.numel())
    norms = [
        torch.autograd.grad(summed, x, part, retain_graph=True, is_grads_batched=True)[0].flatten(2).norm(dim=2)
        for part in unit.split(size)
    ]
    r = r.detach().abs().T
    known = r > 0
    quotients = torch.where(known, torch.cat(norms) / torch.where(known, r, 1), 0.0)
    count = known.sum(1)
    return torch.where(count > 0, quotients.sum(1) / count.clamp_min(1), torch.inf)


def _features(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """What goes into the layer, without the noise of stochastic layers; the model's buffers stay as they are."""
    reached: list[Tensor] = []

    def stop(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        reached.append(given[0])
        raise _ReachedError

    own = {name: t.detach() for name, t in model.named_parameters()}
    own |= {name: t.clone() for name, t in model.named_buffers()}
    hook = model.get_submodule(layer).register_forward_pre_hook(stop)
    try:
        functional_call(model, own, (x,))
    except _ReachedError:
        pass
    finally:
        hook.remove()
    if not reached:
        raise UserError(f"defense.soteria.layer={layer}: the model does not call it; name another dense layer")
    return reached[0]
