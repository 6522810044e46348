"""A random forest that tells updates with a property from others, by updates that are simulated.

Axes: ``P`` gradients of the adversary's own examples, ``V`` updates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from privsweep.interface.randomness import Rng
from privsweep.membership_inference.discriminant import drawn_of
from privsweep.membership_inference.update_ratio import Products

_DIRECTIONS = 200  # in which gradients vary most: features of an update
_TREES = 50
_ZERO = 1e-9  # of the largest eigenvalue: what is below has come of rounding


def told_by_forest(
    of: Products, has: Tensor, alike: Tensor, examples: int, with_it: int, batches: int, rng: Rng
) -> Tensor:
    """How many more of the trees than half find the property in each update, as a share, ``[V]``.

    Melis et al. (IEEE S&P 2019), whose features are an update's entries, which are pooled or thinned out where they are
    many; here they are its coordinates along the directions in which gradients vary most. ``batches`` updates with the
    property are simulated, with ``with_it`` of their ``examples`` of the group ``has``, bool ``[P]``, and as many
    without it, of the group ``alike`` instead; their other examples are any without the property.
    """
    from sklearn.ensemble import RandomForestClassifier  # here, for it takes long to import

    count = len(of.public)
    each = of.public.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(of.public - each - each.T + of.public.mean())
    kept = values > _ZERO * values[-1].abs()
    kept[: max(0, count - _DIRECTIONS)] = False
    basis = vectors[:, kept] / values[kept].sqrt()
    own = basis.T @ of.public  # [directions, P]
    groups = {True: has.nonzero()[:, 0], False: alike.nonzero()[:, 0]}
    rest = (~has).nonzero()[:, 0]
    features = []
    for there in (True, False):
        for n in range(batches):
            draws = rng.child(int(there), n)
            those = torch.cat(
                [drawn_of(groups[there], with_it, draws), drawn_of(rest, examples - with_it, draws.child(0))]
            )
            features.append(own[:, those].mean(1))
    forest = RandomForestClassifier(_TREES, random_state=rng.child("trees").key() % 2**32, n_jobs=1)
    forest.fit(torch.stack(features).cpu().numpy(), np.repeat([True, False], batches))
    found = forest.predict_proba((basis.T @ of.seen).T.cpu().numpy())[:, 1]
    return torch.from_numpy(found).to(of.seen) - 0.5
