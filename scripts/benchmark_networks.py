"""Speed of training several whole networks, as Ensembler's first stage does: stacked on a leading axis, or in turn.

    python scripts/benchmark_networks.py --width 16 --networks 4 --batch 64
    python scripts/benchmark_networks.py --device cuda --precision tf32

ResNet18 on random images of CIFAR-10's size. Shown are seconds for one network-epoch of 50,000 images, for either way,
and the ratio: the two take turns until the time is up, so that a busy machine disturbs them alike (medians over turns).
"""

from __future__ import annotations

import argparse
import statistics
import time

import privsweep  # noqa: F401  (says how idle threads wait, before PyTorch is loaded)
import torch
from torch.nn.functional import cross_entropy

from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, labelled
from privsweep.model.resnet import ResNet
from privsweep.training.augmentation import crop_flip
from privsweep.training.fit import fit
from privsweep.training.stacked import Parallel

EPOCH = 50_000


def main() -> None:
    """Prints one line for every batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["float32", "tf32"], default="float32")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--batch", default="128", help="batch sizes, with commas between")
    parser.add_argument("--steps", type=int, default=10, help="of every network and turn")
    parser.add_argument("--seconds", type=float, default=10.0, help="for every batch size")
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = given.precision == "tf32"
    device = torch.device(given.device)
    title = f"{given.networks} ResNet18 of width {given.width} on {device}, {given.precision}"
    print(f"{title}\n{'batch':>6} {'in turn':>9} {'stacked':>9} {'ratio':>6}   seconds a network-epoch")
    for batch in map(int, given.batch.split(",")):
        turn, stacked, ratio = measure(batch, device, given)
        print(f"{batch:6} {turn:9.2f} {stacked:9.2f} {ratio:6.2f}", flush=True)


def measure(batch: int, device: torch.device, given: argparse.Namespace) -> tuple[float, float, float]:
    domain = Domain((3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3)
    architecture = ResNet(
        blocks=(2, 2, 2, 2), width=given.width, stem="pooled", norm="batch", activation="relu", init="he"
    )
    nets = [architecture.build(domain, Rng(k)).to(device) for k in range(given.networks)]
    start = {name: torch.stack([n.state_dict()[name] for n in nets]) for name in nets[0].state_dict()}
    count, generator = batch * given.steps, Rng(0).generator()
    images = torch.randint(0, 256, (count, *domain.shape), generator=generator, dtype=torch.uint8)
    pool = ImageSet(images, torch.randint(0, 10, (count,), generator=generator)).to(device)
    data = labelled(pool, domain, [torch.arange(count)] * given.networks, crop_flip)
    schedule = LocalSchedule(Optimizer("sgd", 0.01, 0.9, 5e-4), 1, None, batch)
    rngs = [Rng(0).child(k) for k in range(given.networks)]
    training = Training(nets[0], start, None, cross_entropy, data, schedule, rngs)

    def run(parallel: Parallel) -> tuple[float, torch.Tensor]:
        begin = time.perf_counter()
        losses = fit(training, parallel=parallel).losses
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / given.networks * EPOCH / count, losses

    tolerance = 1e-2 if given.precision == "float32" else 0.1
    if not torch.allclose(run("sequential")[1], run("stacked")[1], rtol=tolerance):
        raise SystemExit("stacked and sequential training disagree")
    taken: list[tuple[float, float]] = []
    end = time.perf_counter() + given.seconds
    while time.perf_counter() < end or len(taken) < 3:
        taken.append((run("sequential")[0], run("stacked")[0]))
    turn, stacked = (statistics.median(t) for t in zip(*taken, strict=True))
    return turn, stacked, statistics.median(t / s for t, s in taken)


if __name__ == "__main__":
    main()
