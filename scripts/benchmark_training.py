"""Speed of local training: clients stacked on a leading axis against clients in turn.

    python scripts/benchmark_training.py
    python scripts/benchmark_training.py --device cuda --clients 10

Trains one FedAvg round of DLG's LeNet, Zen's LeNet and the shallow MLP on random images. The two ways take turns
until the time is up, so that a busy machine disturbs them alike; shown are medians over the turns and the median of
the ratios within a turn. Checked first: both give the same losses.
"""

from __future__ import annotations

import argparse
import statistics
import time

import privsweep  # noqa: F401  (says how idle threads wait, before PyTorch is loaded)
import torch
from torch.nn.functional import cross_entropy

from privsweep.interface.data import Architecture, Domain, ImageSet
from privsweep.defense.stack import Stack
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled
from privsweep.training.fit import fit
from privsweep.training.local import weights_of
from privsweep.training.stacked import Parallel

SHAPE, CLASSES = (1, 28, 28), 10


def lenet(activation: str, pooling: str, width: int, convolutions: int, fc: list[int]) -> ConvNet:
    return ConvNet(
        width=width, layers=[1] * convolutions, depth=convolutions, kernel=5, pool_after=[1, 2], pooling=pooling,
        padding="same", norm="none", fc=fc, fc_width=None, activation=activation, init="default", init_bound=0.5,
    )  # fmt: skip


MODELS: dict[str, Architecture] = {
    "lenet_dlg": lenet("sigmoid", "stride", 12, 3, []),
    "lenet": lenet("relu", "max", 64, 2, [120, 84]),
    "smlp": MLP(width=1024, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5),
}


def main() -> None:
    """Prints client-steps a second, one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--examples", type=int, default=640, help="of every client")
    parser.add_argument("--seconds", type=float, default=10.0, help="for every model")
    given = parser.parse_args()
    device = torch.device(given.device)
    print(f"{'model':10} {'in turn':>9} {'stacked':>9} {'ratio':>6}   client-steps a second on {device}")
    for name, architecture in MODELS.items():
        turn, stacked, ratio = measure(architecture, device, given)
        print(f"{name:10} {turn:9.0f} {stacked:9.0f} {ratio:6.2f}")


def measure(architecture: Architecture, device: torch.device, given: argparse.Namespace) -> tuple[float, float, float]:
    domain = Domain(SHAPE, CLASSES, (0.0,), (1.0,))
    net = architecture.build(domain, Rng(0)).to(device)
    start = weights_of(net)
    generator = Rng(0).child("images").generator()
    count = given.clients * given.examples
    images = torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)
    pool = ImageSet(images, torch.randint(0, CLASSES, (count,), generator=generator)).to(device)
    shards = list(torch.arange(count).split(given.examples))
    rngs = [Rng(0).child("client", k) for k in range(given.clients)]
    schedule = LocalSchedule(Optimizer("adam", 1e-3, 0.0), 1, None, given.batch)
    steps = given.clients * schedule.length(given.examples)

    examples = labelled(pool, domain, shards)
    training = Training(net, alike(start, given.clients), None, cross_entropy, examples, schedule, rngs)

    def run(parallel: Parallel) -> tuple[float, torch.Tensor]:
        begin = time.perf_counter()
        losses = fit(training, Stack({}), parallel=parallel).losses
        if device.type == "cuda":
            torch.cuda.synchronize()
        return steps / (time.perf_counter() - begin), losses

    # Not the weights: Adam turns the rounding of gradients that are zero into whole steps.
    if not torch.allclose(run("sequential")[1], run("stacked")[1], rtol=1e-3):
        raise SystemExit("stacked and sequential training disagree")
    rates: list[tuple[float, float]] = []
    end = time.perf_counter() + given.seconds
    while time.perf_counter() < end or len(rates) < 3:
        rates.append((run("sequential")[0], run("stacked")[0]))
    turn, stacked = (statistics.median(r) for r in zip(*rates, strict=True))
    return turn, stacked, statistics.median(s / t for t, s in rates)


if __name__ == "__main__":
    main()
