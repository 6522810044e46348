"""Released models: the informed adversary's MNIST network (784-10-10, ELU) by full-batch gradient descent on 10,000
random images and one more, a model; all at once, or one after the other by PyTorch's own gradient of the whole batch.

Its convolutional network too, as narrow as its experiments have it at scale=quick, on 200 images. The floor is the
training's own matrix products at the speed of a large one. Checked first: both ways give the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.contest import Case, Contest, DisagreementError, Setup, Turn
from benchmarks.floor import products
from benchmarks.workplace import random_images
from privsweep.defense.dp_sgd import DpSgd
from privsweep.interface.data import Architecture, Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Optimizer
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.training.full_batch.descent import descend
from privsweep.training.full_batch.one_by_one import OneByOne
from privsweep.training.release import ReleaseTraining


@dataclass(frozen=True)
class Network:
    domain: Domain
    made: Architecture
    records: tuple[int, int, int]  # in the fixed set: to try it, on a CPU, on a GPU
    counts: tuple[int, ...]  # of models that are trained together
    work: int  # FLOP of products for one record of one model's step


DENSE = Network(
    Domain((1, 28, 28), 10, (0.0,), (1.0,)),
    MLP(width=10, depth=1, activation="elu", dropout=0.0, init="default", init_bound=0.5),
    (40, 10_000, 10_000),
    (64, 256),
    4 * 784 * 10 + 6 * 10 * 10,
)
CONVOLUTIONAL = Network(
    Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3),
    ConvNet(
        width=4, layers=[1, 2], depth=2, kernel=4, padding="valid", pool_after=(1,), pooling="stride", norm="none",
        fc=[10], fc_width=None, activation="elu", init="truncated_normal", init_bound=0.5,
    ),
    (20, 200, 200),
    (8, 64),
    4 * 225 * 48 * 4 + 6 * (144 * 64 * 8 + 1152 * 10 + 10 * 10),
)  # fmt: skip


def releases(network: Network, clip: float | None, setup: Setup) -> Contest:
    """``clip``: the norm that every record's gradient is clipped to."""
    records, epochs, alone = setup.sized(*network.records), setup.sized(1, 30, 30), setup.sized(2, 4, 4)
    counts = (3,) if setup.quick else network.counts
    defense: Defense = Defense()
    if clip is not None:
        defense = DpSgd(
            max_grad_norm=clip, epsilon=None, noise_multiplier=0.0, delta=1e-5, accountant="rdp", poisson=False
        )
    fixed = random_images(records, network.domain.shape, 0, setup.device)
    rule = Optimizer("sgd", 0.2 if network is DENSE else 0.01, 0.9)
    algorithm = ReleaseTraining(network.made, network.domain, fixed, defense, rule, epochs, None, 8.0)
    _agree(algorithm)

    def one_by_one() -> float:
        return len(_alone(algorithm, alone))

    return Contest(
        one_by_one,
        {f"{n} models": _together(algorithm, n) for n in counts},
        products(epochs * records * network.work, setup.device, 256 if setup.quick else 2048),
    )


def _together(algorithm: ReleaseTraining, models: int) -> Turn:
    """In as many calls as an attack makes."""
    own, size = _own(algorithm, models), algorithm.together(algorithm.fixed.labels.device)

    def turn() -> float:
        for part in torch.arange(models).split(size):
            algorithm(own.take(part), torch.ones(len(part), dtype=torch.bool), [Rng(2).child(int(k)) for k in part])
        return models

    return turn


def _own(algorithm: ReleaseTraining, models: int) -> ImageSet:
    """The one more of each."""
    return random_images(models, algorithm.domain.shape, 1, torch.device("cpu"))


def _alone(algorithm: ReleaseTraining, models: int) -> list[Tensors]:
    """One model after the other, from start to end."""
    own, weights = _own(algorithm, models), []
    for k in range(models):
        rngs = [Rng(2).child(k)]
        task = algorithm.task(own.take(torch.tensor([k])), torch.ones(1, dtype=torch.bool), rngs)
        weights.append(descend(OneByOne(task), task, algorithm.rule, algorithm.epochs, rngs)[algorithm.epochs])
    return weights


def _agree(algorithm: ReleaseTraining) -> None:
    """Both ways on two models."""
    own, rngs = _own(algorithm, 2), [Rng(2).child(k) for k in range(2)]
    stacked = algorithm(own, torch.ones(2, dtype=torch.bool), rngs)
    for k, alone in enumerate(_alone(algorithm, 2)):
        if max(float((stacked[name][k] - w[0]).abs().max()) for name, w in alone.items()) > 1e-3:
            raise DisagreementError("together and one by one the weights differ")


_CLIPPED = "the same, every record's gradient clipped"
CASES = {
    "releases": Case("released models together, or one after the other", "a model", partial(releases, DENSE, None)),
    "releases_clipped": Case(_CLIPPED, "a model", partial(releases, DENSE, 10.0)),
    "releases_cnn": Case("narrow convolutional ones", "a model", partial(releases, CONVOLUTIONAL, None)),
    "releases_cnn_clipped": Case(_CLIPPED, "a model", partial(releases, CONVOLUTIONAL, 10.0)),
}
