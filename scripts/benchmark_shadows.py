"""Speed of shadow training: shadows stacked on a leading axis against one after the other.

    python scripts/benchmark_shadows.py
    python scripts/benchmark_shadows.py --model lenet --shadows 16 --device cuda

Trains shadow models of membership inference (Zen's: four hidden layers of 128 neurons, dropout 0.2) for one epoch on
random images of CIFAR-10's size. Both ways draw the same batches and dropout, and take turns until the time is up, so
that a busy machine disturbs them alike; shown are medians over the turns, and of the ratios within a turn. Checked
first: both give the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import privsweep  # noqa: F401  (says how idle threads wait, before PyTorch is loaded)
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from privsweep.interface.data import Architecture, Domain, ImageSet
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.defense.stack import Stack
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, labelled, replica
from privsweep.training.fit import fit
from privsweep.training.stacked import most_together

DOMAIN = Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)
PLAN = LocalSchedule(Optimizer("adam", 1e-4, 0.0), epochs=1, steps=None, batch_size=64)
MODELS: dict[str, Architecture] = {
    "shadow_mlp": MLP(width=128, depth=4, activation="relu", dropout=0.2, init="default", init_bound=0.5),
    "smlp": MLP(width=1024, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5),
    "lenet": ConvNet(
        width=64, layers=[1, 1], depth=2, kernel=5, pool_after=[1, 2], pooling="max", norm="none", fc=[120, 84],
        padding="same", fc_width=None, activation="relu", init="default", init_bound=0.5,
    ),
}  # fmt: skip


def main() -> None:
    """Prints epochs of one model a second, one line a number of shadows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", choices=sorted(MODELS), default="shadow_mlp")
    parser.add_argument("--shadows", type=int, nargs="+", default=[5, 16, 64])
    parser.add_argument("--together", type=int, help="in one stack; as the program chooses, unless given")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--records", type=int, default=1280, help="of every shadow")
    parser.add_argument("--seconds", type=float, default=20.0, help="for every number of shadows, at least")
    given = parser.parse_args()
    device = torch.device(given.device)
    if given.threads:
        torch.set_num_threads(given.threads)
    print(f"{given.model}, {given.records} records a shadow, one epoch, on {device}, {torch.get_num_threads()} threads")
    print(f"{'shadows':>7} {'together':>8} {'one by one':>11} {'stacked':>9} {'ratio':>6} {'spread':>13} {'turns':>6}")
    for shadows in given.shadows:
        net = MODELS[given.model].build(DOMAIN, Rng(0)).to(device)
        most = most_together(net, DOMAIN.blank(1).to(device), PLAN.batch_size, Stack({}), "auto", 4.0)
        together = given.together or -(-shadows // -(-shadows // most))
        turn, stacked, ratios = measure(MODELS[given.model], device, shadows, together, given.records, given.seconds)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        middle = statistics.median(ratios)
        print(f"{shadows:7} {together:8} {turn:11.2f} {stacked:9.2f} {middle:6.2f} {spread:>13} {len(ratios):6}")


def measure(
    architecture: Architecture, device: torch.device, shadows: int, together: int, records: int, seconds: float
) -> tuple[float, float, list[float]]:
    """Models a second one by one and stacked, and the sorted ratios."""
    generator = Rng(0).child("images").generator()
    images = torch.randint(0, 256, (2 * records, *DOMAIN.shape), generator=generator, dtype=torch.uint8)
    pool = ImageSet(images, torch.randint(0, DOMAIN.classes, (2 * records,), generator=generator)).to(device)
    index = torch.stack([Rng(0).child("records", k).permutation(2 * records)[:records] for k in range(shadows)])
    rngs = [Rng(0).child("shadow", k) for k in range(shadows)]

    def fresh() -> list[nn.Module]:
        return [architecture.build(DOMAIN, rng.child("init")).to(device) for rng in rngs]

    def trained(nets: list[nn.Module], together: int) -> list[dict[str, torch.Tensor]]:
        out = []
        for first in range(0, shadows, together):
            part = slice(first, first + together)
            states = [net.state_dict() for net in nets[part]]
            start = {name: torch.stack([s[name] for s in states]) for name in states[0]}
            examples = labelled(pool, DOMAIN, list(index[part]))
            training = Training(nets[first], start, None, cross_entropy, examples, PLAN, rngs[part])
            weights = fit(training, Stack({}), parallel="stacked").weights
            out += [replica(weights, k) for k in range(len(states))]
        return out

    def one_by_one(nets: list[nn.Module]) -> list[dict[str, torch.Tensor]]:
        return trained(nets, 1)

    def stacked(nets: list[nn.Module]) -> list[dict[str, torch.Tensor]]:
        return trained(nets, together)

    def rate(way: Callable[[list[nn.Module]], object]) -> float:
        nets = fresh()
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        way(nets)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return shadows / (time.perf_counter() - begin)

    for one, other in zip(one_by_one(fresh()), stacked(fresh()), strict=True):
        # Adam turns the rounding of gradients that are nearly zero into steps of 1e-4.
        if max(float((one[name] - other[name]).abs().max()) for name in one) > 10 * PLAN.optimizer.lr:
            raise SystemExit("stacked and sequential training disagree")
    rates: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        rates.append((rate(one_by_one), rate(stacked)))
    turn, stack = (statistics.median(r) for r in zip(*rates, strict=True))
    return turn, stack, sorted(s / t for t, s in rates)


if __name__ == "__main__":
    main()
