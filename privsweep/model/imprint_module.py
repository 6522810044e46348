"""A classifier behind two dense layers, as a malicious server asks its clients to train."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from pydantic import PositiveInt
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Domain, image_shape
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.sequence import is_sequence


@component
class ImprintModule:
    """Two linear layers with ReLU between, from an image to one of the same shape, before the layers of ``inner``.

    Fowl et al., "Robbing the Fed" (ICLR 2022), section 4: who chooses the architecture can have the images of any
    classifier pass a layer that keeps them apart (``attack.imprint``). Layers are named ``imprint_flatten, imprint_in,
    imprint_act, imprint_out, imprint_image``; those of ``inner`` keep their names, where it is a sequence, and are
    below ``inner`` otherwise.
    """

    width: PositiveInt  # units between
    inner: Any  # an architecture for images

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        """Freshly initialised from ``rng``, on the CPU; inputs ``[B, C, H, W]``. As ``inner`` builds, and raises."""
        shape = image_shape(domain, "model", "model=translation_transformer")
        inner, pixels = self.inner.build(domain, rng.child("inner")), math.prod(shape)
        with seeded(rng):
            module = {
                "imprint_flatten": nn.Flatten(),
                "imprint_in": nn.Linear(pixels, self.width),
                "imprint_act": nn.ReLU(),
                "imprint_out": nn.Linear(self.width, pixels),
                "imprint_image": nn.Unflatten(1, shape),
            }
        layers = dict(inner.named_children()) if is_sequence(inner) else {"inner": inner}
        return nn.Sequential(OrderedDict({**module, **layers}))
