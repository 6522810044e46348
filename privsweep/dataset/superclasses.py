"""Labels that are groups of classes: the model tells these apart, and what is inside them is nobody's task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from privsweep.interface.data import ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown


def table_of(groups: Sequence[Sequence[int]], classes: int, name: str) -> tuple[int, ...]:
    """The place among ``groups`` of the one that every class is in.

    Raises UserError, naming the dataset, unless there are two groups or more and every class is in one.
    """
    opening = f"dataset.superclasses={shown(groups)}"
    if len(groups) < 2:
        raise UserError(f"{opening}: a model tells two apart or more; take another list of classes, or [] for none")
    if not all(groups):
        raise UserError(f"{opening}: one of them holds no class; leave it out")
    count = Counter(kind for group in groups for kind in group)
    if strange := sorted(count.keys() - set(range(classes))):
        raise UserError(
            f"{opening}: dataset={name} has no class {strange[0]}; its classes are numbered 0 to {classes - 1}"
        )
    if twice := sorted(kind for kind, times in count.items() if times > 1):
        raise UserError(f"{opening}: class {twice[0]} stands there twice; name every class once")
    if lacking := [kind for kind in range(classes) if kind not in count]:
        raise UserError(f"{opening}: class {lacking[0]} is in none of them; name every class once")
    place = {kind: n for n, group in enumerate(groups) for kind in group}
    return tuple(place[kind] for kind in range(classes))


def relabelled(images: ImageSet, superclass: Sequence[int]) -> ImageSet:
    """The same with superclasses for labels, given that of every class."""
    return replace(images, labels=torch.tensor(superclass)[images.labels])
