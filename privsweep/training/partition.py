"""Who holds which training examples."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

Partition = Literal["iid", "disjoint", "dirichlet"]
ATTEMPTS = 100


@lru_cache(maxsize=8)  # a run asks for it when it is checked, planned, trained and exposed
def partition(labels: Tensor, classes: int, clients: int, how: Partition, alpha: float, rng: Rng) -> tuple[Tensor, ...]:
    """Positions of every client's examples; each example belongs to exactly one client.

    ``iid`` is an equal random split. ``disjoint`` gives each client labels that no other has (Zen,
    section 4.2): ten labels over three clients are 4, 3 and 3. ``dirichlet`` draws each label's proportions
    from Dirichlet(alpha) (Hsu et al., 2019), again until nobody is left with nothing.

    Raises UserError where the examples or the labels do not go round, or examples have no single label each.
    """
    if clients > len(labels):
        raise UserError(
            f"fl_setting.clients={clients}: the dataset has {len(labels)} training examples; "
            "take fewer clients or a larger dataset.train_size"
        )
    labels = labels.cpu()
    if how == "iid":
        return tuple(part.sort().values for part in rng.permutation(len(labels)).tensor_split(clients))
    if labels.dim() > 1:
        raise UserError(
            f"fl_setting.partition={how}: goes by the class of an example, and the dataset has none; take iid"
        )
    if how == "disjoint":
        return tuple(_disjoint(labels, clients, rng))
    for attempt in range(ATTEMPTS):
        parts = _dirichlet(labels, classes, clients, alpha, rng.child("attempt", attempt))
        if min(len(p) for p in parts) > 0:
            return tuple(parts)
    raise UserError(
        f"fl_setting.dirichlet_alpha={alpha}: in {ATTEMPTS} draws some client of {clients} got no example; "
        "take a larger alpha or fewer clients"
    )


def _disjoint(labels: Tensor, clients: int, rng: Rng) -> list[Tensor]:
    present = labels.unique()
    if clients > len(present):
        raise UserError(
            f"fl_setting.partition=disjoint: {clients} clients but {len(present)} labels; "
            f"take fl_setting.clients={len(present)} or fewer"
        )
    shuffled = present[rng.permutation(len(present))]
    return [torch.isin(labels, own).nonzero().flatten() for own in shuffled.tensor_split(clients)]


def _dirichlet(labels: Tensor, classes: int, clients: int, alpha: float, rng: Rng) -> list[Tensor]:
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    for label in range(classes):
        own = (labels == label).nonzero().flatten()
        draw = rng.child("label", label)
        own = own[draw.permutation(len(own))]
        proportions = np.random.default_rng(draw.child("proportions").key()).dirichlet([alpha] * clients)
        cuts = (torch.from_numpy(proportions).cumsum(0)[:-1] * len(own)).round().long()
        for client, part in enumerate(own.tensor_split(cuts.tolist())):
            parts[client].append(part)
    return [torch.cat(p).sort().values for p in parts]
