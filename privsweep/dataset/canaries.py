"""Canaries: images with a wrong label, which nothing but having been trained on them makes a model believe."""

from __future__ import annotations

import torch

from privsweep.interface.beside import Canaries
from privsweep.interface.data import ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.wrong_labels import wrong


def set_aside(name: str, train: ImageSet, count: int, classes: int, rng: Rng) -> tuple[ImageSet, Canaries]:
    """``count`` of the training images with a label that is drawn among the wrong ones.

    Half of them are trained on, as a draw has it, and the others leave the training split, whose images keep their
    order. Raises UserError where there are too few images.
    """
    if count < 2:
        raise UserError("dataset.canaries=1: half of them are trained on; take 2 or more, or 0 for none")
    if count > len(train):
        raise UserError(
            f"dataset.canaries={count}: dataset={name} has {len(train)} training images for it; take {len(train)} or "
            "fewer"
        )
    drawn = rng.child("which").permutation(len(train))[:count]
    labels = train.labels.clone()
    labels[drawn] = wrong(labels[drawn], classes, rng.child("labels"))
    mislabelled = ImageSet(train.images, labels)
    inside, outside = (half.sort().values for half in drawn.tensor_split([count // 2]))
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[outside] = False
    places = kept.cumsum(0) - 1
    return mislabelled.take(kept.nonzero()[:, 0]), Canaries(places[inside], mislabelled.take(outside))
