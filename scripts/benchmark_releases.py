"""Speed of training released models: all at once against one after the other.

    python scripts/benchmark_releases.py
    python scripts/benchmark_releases.py --models 64 --epochs 10 --threads 1 --clip 10

Trains the informed adversary's MNIST network (784-10-10, ELU) by full-batch gradient descent on 10,000 random images
and one more, a model. The ways take turns, so that a busy machine disturbs them alike; shown are medians over the
turns, and of the ratios within a turn. One after the other is PyTorch's own gradient of the whole batch. One turn more
is a large matrix product: the share is that of its speed which the training's own products reach, were there nothing
else. Checked first: both ways give the same weights.
"""

from __future__ import annotations

import argparse
import statistics

import privsweep  # noqa: F401  (says how idle threads wait, before PyTorch is loaded)
import torch

from paired_timing import measure
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Optimizer
from privsweep.defense.dp_sgd import DpSgd
from privsweep.model.mlp import MLP
from privsweep.training.full_batch.descent import descend
from privsweep.training.full_batch.one_by_one import OneByOne
from privsweep.training.release import ReleaseTraining

DOMAIN = Domain((1, 28, 28), 10, (0.0,), (1.0,))
NETWORK = MLP(width=10, depth=1, activation="elu", dropout=0.0, init="default", init_bound=0.5)
WEIGHTS = (784 * 10, 10 * 10)  # of either layer
SIDE = 3000  # of the product that peak speed is measured by
ALONE = 4  # models of a turn one after the other


def main() -> None:
    """Prints models a second, one line a number of models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument(
        "--clip", type=float, help="the norm that every record's gradient is clipped to; none, unless given"
    )
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--seconds", type=float, default=20.0, help="for every number of models, at least")
    given = parser.parse_args()
    device = torch.device(given.device)
    if given.threads:
        torch.set_num_threads(given.threads)
    defense: Defense = Defense()
    if given.clip:
        defense = DpSgd(
            max_grad_norm=given.clip, epsilon=None, noise_multiplier=0.0, delta=1e-5, accountant="rdp", poisson=False
        )
    algorithm = ReleaseTraining(
        NETWORK,
        DOMAIN,
        images(given.records, 0).to(device),
        defense,
        Optimizer("sgd", 0.2, 0.9),
        given.epochs,
        None,
        8.0,
    )
    agree(algorithm)
    print(f"{given.records} records, {given.epochs} epochs, on {device}, {torch.get_num_threads()} threads")
    head = f"{'models':>7} {'one by one':>11} {'together':>9} {'ratio':>6} {'spread':>13}"
    print(f"{head} {'peak GFLOP/s':>13} {'share':>6} turns")
    work = given.epochs * given.records * (4 * WEIGHTS[0] + 6 * WEIGHTS[1])  # products of one model, in FLOP
    for models in given.models:
        turns = {
            "plain": lambda: one_by_one(algorithm, ALONE),
            "together": lambda models=models: together(algorithm, models),
            "product": lambda: product(device),
        }
        rates = measure(turns, given.seconds, device)
        ratios = sorted(t / p for p, t in zip(rates["plain"], rates["together"], strict=True))
        shares = [t * work / p for p, t in zip(rates["product"], rates["together"], strict=True)]
        plain, stacked, peak = (statistics.median(rates[kind]) for kind in turns)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(
            f"{models:7} {plain:11.3f} {stacked:9.3f} {statistics.median(ratios):6.2f} {spread:>13} {peak / 1e9:13.1f} "
            f"{statistics.median(shares):6.0%} {len(ratios):5}"
        )


def images(count: int, seed: int) -> ImageSet:
    """Random ones, none of whose pixels is black throughout."""
    generator = Rng(seed).generator()
    pixels = torch.randint(1, 256, (count, *DOMAIN.shape), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.randint(0, DOMAIN.classes, (count,), generator=generator))


def together(algorithm: ReleaseTraining, models: int) -> int:
    """In as many calls as an attack makes."""
    own, size = images(models, 1), algorithm.together(algorithm.fixed.labels.device)
    for part in torch.arange(models).split(size):
        algorithm(own.take(part), torch.ones(len(part), dtype=torch.bool), [Rng(2).child(int(k)) for k in part])
    return models


def trained_alone(algorithm: ReleaseTraining, models: int) -> list[Tensors]:
    """One model after the other, from start to end."""
    own, weights = images(models, 1), []
    for k in range(models):
        rngs = [Rng(2).child(k)]
        task = algorithm.task(own.take(torch.tensor([k])), torch.ones(1, dtype=torch.bool), rngs)
        weights.append(descend(OneByOne(task), task, algorithm.rule, algorithm.epochs, rngs))
    return weights


def one_by_one(algorithm: ReleaseTraining, models: int) -> int:
    return len(trained_alone(algorithm, models))


def product(device: torch.device) -> int:
    """FLOP of one large matrix product."""
    a = torch.ones(SIDE, SIDE, device=device)
    for _ in range(8):
        torch.mm(a, a)
    return 8 * 2 * SIDE**3


def agree(algorithm: ReleaseTraining) -> None:
    """Both ways on two models."""
    own, rngs = images(2, 1), [Rng(2).child(k) for k in range(2)]
    stacked = algorithm(own, torch.ones(2, dtype=torch.bool), rngs)
    for k, alone in enumerate(trained_alone(algorithm, 2)):
        if max(float((stacked[name][k] - w[0]).abs().max()) for name, w in alone.items()) > 1e-3:
            raise SystemExit("training together and one by one disagree")


if __name__ == "__main__":
    main()
