"""A head that the server's part was not trained with: an untrained one, or that of another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Training
from privsweep.model.split_network import split_by_setting


@component
class RandomHead(Defense):
    """After the training the client takes another head; nothing is trained again, so that accuracy is lost.

    Ensembler, section 5.2: "an untrained random M_c,h" that shows what noise can hide at most. That nothing is trained
    again is inferred from the printed loss of 65 points of accuracy. With ``trained`` it is the head of a second
    network that was trained alike, from other initial values and with other batches: what the server's part tells of
    one network's head is then held against another's (Ensembler, section 4.2). Noise that a defence before this one
    adds is another for that network: the same numbers in another order.
    """

    trained: bool

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        return split_by_setting(model, "random_head")

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        first = fit(training)
        other: Tensors = {name: w[None] for name, w in fresh(rng.child("head")).state_dict().items()}
        if self.trained:
            added = {name: w for name, w in training.start.items() if name.startswith("head.") and name not in other}
            own = {name: _shuffled(w, rng.child("noise", name)) for name, w in added.items()}
            start = {**training.start, **other, **own}
            other = fit(replace(training, start=start, rngs=[rng.child("second network")]))
        return {n: other[n] if n.startswith("head.") and n in other else w for n, w in first.items()}


def _shuffled(w: Tensor, rng: Rng) -> Tensor:
    return w.flatten()[rng.permutation(w.numel()).to(w.device)].view(w.shape)
