"""Speed of gradient matching: the batched engine against one victim at a time.

    python scripts/benchmark_gradient_matching.py
    python scripts/benchmark_gradient_matching.py --device cuda --image 1,28,28 --victims 256

Attacks DLG's sigmoid LeNet on random images, batch 1. Measured are (a) a plain loop of torch.autograd and
torch.optim.LBFGS over victims, (b) this package with one victim, (c) with all of them together; for image
gradients alone and for whole DLG with L-BFGS. The three take turns until the time is up, so that a busy
machine disturbs them alike; shown are medians over the turns, and medians of the ratios within a turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.attack.gradient_matching import Joint
from privsweep.game import Domain, Tensors
from privsweep.gradient_distance import Squared
from privsweep.gradient_matching import Matcher, matcher
from privsweep.lbfgs import LBFGS
from privsweep.model.convnet import ConvNet
from privsweep.randomness import Rng

CLASSES = 10
INNER = 20  # L-BFGS iterations in an outer one
Turn = Callable[[], float]  # evaluations of one victim a second


@dataclass(frozen=True)
class World:
    """A network, captured gradients and starting points."""

    model: nn.Sequential
    target: Tensors  # [V, ...]
    images: Tensor  # [V, 1, C, H, W]
    logits: Tensor  # [V, 1, K]

    def matcher(self, rows: Tensor) -> Matcher:
        weights = {name: w.detach() for name, w in self.model.state_dict().items()}
        target = {name: g[rows] for name, g in self.target.items()}
        return matcher(self.model, weights, target, Squared(), 1)

    def distance(self, victim: int, image: Tensor, logits: Tensor) -> Tensor:
        """DLG's objective as one would write it for one victim."""
        loss = cross_entropy(self.model(image), logits.softmax(1))
        own = torch.autograd.grad(loss, list(self.model.parameters()), create_graph=True)
        pairs = zip(own, self.target.values(), strict=True)
        return torch.stack([(g - goal[victim]).square().sum() for g, goal in pairs]).sum()


def make_world(shape: tuple[int, int, int], victims: int, device: torch.device, dtype: torch.dtype) -> World:
    rng = Rng(0, ("benchmark",))
    domain = Domain(shape, CLASSES, (0.0,) * shape[0], (1.0,) * shape[0])
    lenet = ConvNet(
        width=12,
        layers=(1, 1, 1),
        depth=3,
        kernel=5,
        pool_after=(1, 2),
        pooling="stride",
        norm="none",
        fc=(),
        fc_width=None,
        activation="sigmoid",
        init="uniform",
        init_bound=0.5,
    )
    model = lenet.build(domain, rng.child("init")).to(device, dtype)
    truth = rng.child("truth").normal(victims, 1, *shape).sigmoid().to(device, dtype)
    grads = [
        torch.autograd.grad(
            cross_entropy(model(x), torch.tensor([v % CLASSES], device=device)), list(model.parameters())
        )
        for v, x in enumerate(truth)
    ]
    names = [name for name, _ in model.named_parameters()]
    target = {name: torch.stack(parts) for name, parts in zip(names, zip(*grads, strict=True), strict=True)}
    images = rng.child("images").normal(victims, 1, *shape).to(device, dtype)
    logits = rng.child("logits").normal(victims, 1, CLASSES).to(device, dtype)
    return World(model, target, images, logits)


def check(shape: tuple[int, int, int], device: torch.device) -> float:
    """The largest relative difference between image gradients of the engine and of autograd, in float64."""
    world = make_world(shape, 4, device, torch.float64)
    ours = world.matcher(torch.arange(4, device=device))(world.images, world.logits.softmax(2)).images
    worst = 0.0
    for v in range(4):
        image = world.images[v].clone().requires_grad_(True)
        (plain,) = torch.autograd.grad(world.distance(v, image, world.logits[v]), image)
        alone = world.matcher(torch.tensor([v], device=device))(
            world.images[v : v + 1], world.logits[v : v + 1].softmax(2)
        ).images[0]
        for found in (ours[v], alone):
            worst = max(worst, ((found - plain).norm() / plain.norm()).item())
    return worst


def timed(work: Callable[[], int], device: torch.device) -> float:
    """Runs ``work``, which returns how many evaluations of one victim it made; their number a second."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    count = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def gradient_turns(world: World, device: torch.device) -> Mapping[str, Turn]:
    everybody = len(world.images)
    together, alone = (world.matcher(torch.arange(n, device=device)) for n in (everybody, 1))

    def plain() -> int:
        for v in range(10):
            image = world.images[v % everybody].clone().requires_grad_(True)
            logits = world.logits[v % everybody].clone().requires_grad_(True)
            torch.autograd.grad(world.distance(v % everybody, image, logits), (image, logits))
        return 10

    def batched(match: Matcher, victims: int, repeats: int) -> int:
        images, probabilities = world.images[:victims], world.logits[:victims].softmax(2)
        for _ in range(repeats):
            match(images, probabilities)
        return victims * repeats

    return {
        "plain": lambda: timed(plain, device),
        "one": lambda: timed(lambda: batched(alone, 1, 10), device),
        "all": lambda: timed(lambda: batched(together, everybody, 5), device),
    }


def attack_turns(world: World, outer: int, device: torch.device) -> Mapping[str, Turn]:
    everybody = len(world.images)
    rule = LBFGS(lr=1.0, inner=INNER, history=100, tolerance_grad=1e-7, tolerance_change=1e-9)
    start = torch.cat((world.images.flatten(1), world.logits.flatten(1)), 1)
    turn = iter(range(10**9))

    def plain() -> int:
        victim, calls = next(turn) % everybody, 0
        image = world.images[victim].clone().requires_grad_(True)
        logits = world.logits[victim].clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([image, logits], lr=1.0, history_size=100)

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            distance = world.distance(victim, image, logits)
            image.grad, logits.grad = torch.autograd.grad(distance, (image, logits))
            return distance.detach()

        for _ in range(outer):
            optimizer.step(closure)
        return calls

    def batched(rows: Tensor) -> int:
        objective = Joint(world.matcher(rows), tuple(world.images.shape[1:]), CLASSES)
        return int(rule.minimise(objective, start[rows], outer).evaluations.sum())

    return {
        "plain": lambda: timed(plain, device),
        "one": lambda: timed(lambda: batched(torch.tensor([next(turn) % everybody], device=device)), device),
        "all": lambda: timed(lambda: batched(torch.arange(everybody, device=device)), device),
    }


def measure(turns: Mapping[str, Turn], seconds: float) -> dict[str, list[float]]:
    """Rates of every kind, turn about, until the time is up; at least three turns after a warm-up."""
    for turn in turns.values():
        turn()
    rates: dict[str, list[float]] = {kind: [] for kind in turns}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates["plain"]) < 3:
        for kind, turn in turns.items():
            rates[kind].append(turn())
    return rates


def show(title: str, rates: Mapping[str, list[float]], victims: int) -> None:
    labels = {"plain": "torch, one at a time", "one": "ours, one", "all": f"ours, {victims} together"}
    print(f"\n{title} ({len(rates['plain'])} turns)")
    print(f"  {'':24}{'victim evaluations/s':>22}{'against torch':>16}{'spread':>16}")
    for kind, label in labels.items():
        ratios = sorted(r / p for r, p in zip(rates[kind], rates["plain"], strict=True))
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        print(f"  {label:24}{statistics.median(rates[kind]):22.0f}{statistics.median(ratios):15.1f}x{spread:>16}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="3,32,32", help="channels,height,width")
    parser.add_argument("--victims", type=int, default=64)
    parser.add_argument("--outer", type=int, default=8, help="outer iterations of 20 L-BFGS iterations")
    parser.add_argument("--seconds", type=float, default=30, help="of each of the two measurements")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    channels, height, width = (int(n) for n in args.image.split(","))
    shape, device = (channels, height, width), torch.device(args.device)

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"sigmoid LeNet, {args.image} images, {args.victims} victims, {device}, {where}")
    print(f"image gradients agree with autograd to {check(shape, device):.1e} (relative, float64)")
    world = make_world(shape, args.victims, device, torch.float32)
    show("Gradients alone", measure(gradient_turns(world, device), args.seconds), args.victims)
    show(
        f"Whole DLG, {args.outer} outer iterations",
        measure(attack_turns(world, args.outer, device), args.seconds),
        args.victims,
    )


if __name__ == "__main__":
    main()
