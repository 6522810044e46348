"""Speed of gradient matching: the batched engine against one victim at a time.

    python scripts/benchmark_gradient_matching.py
    python scripts/benchmark_gradient_matching.py --device cuda --image 1,28,28 --victims 256
    python scripts/benchmark_gradient_matching.py --attack iga --model dmlp --sigma 0.001 --victims 1,8,32

Attacks single random images. Measured are (a) a plain loop of torch.autograd and a torch.optim optimiser over
victims and (b) this package with one victim, or more of them together; for DLG (squared distance, L-BFGS) image
gradients alone and the whole attack, for IGA (cosine, signed Adam) the whole iteration. They take turns until the
time is up, so that a busy machine disturbs them alike; shown are medians over the turns, and medians of the ratios
within a turn. ``--sigma`` adds noise to the captured gradients, which makes them of full rank.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from privsweep.first_order import FirstOrder
from privsweep.game import Architecture, Domain, Tensors
from privsweep.gradient_distance import Cosine, Distance, Squared
from privsweep.gradient_matching import Matcher, matcher
from privsweep.lbfgs import LBFGS
from privsweep.matching_objective import Joint
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.randomness import Rng

CLASSES = 10
INNER = 20  # L-BFGS iterations in an outer one
TV = 1e-6
Turn = Callable[[], float]  # evaluations of one victim a second


def lenet(init: str) -> ConvNet:
    return ConvNet(
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
        init=init,
        init_bound=0.5,
    )


def mlp(depth: int) -> MLP:
    return MLP(width=1024, depth=depth, activation="relu", init="default", init_bound=0.5)


MODELS: dict[str, Architecture] = {
    "lenet_dlg": lenet("uniform"),
    "lenet_default": lenet("default"),
    "smlp": mlp(2),
    "dmlp": mlp(4),
}


@dataclass(frozen=True)
class World:
    """A network, captured gradients and starting points."""

    model: nn.Sequential
    distance: Distance
    target: Tensors  # [V, ...]
    images: Tensor  # [V, 1, C, H, W]
    logits: Tensor  # [V, 1, K]
    labels: Tensor  # [V, 1]

    def matcher(self, rows: Tensor | slice) -> Matcher:
        weights = {name: w.detach() for name, w in self.model.state_dict().items()}
        target = {name: g[rows] for name, g in self.target.items()}
        return matcher(self.model, weights, target, self.distance, 1)

    def residual(self, victim: int, image: Tensor, label: Tensor) -> Tensor:
        """The attack's distance as one would write it for one victim."""
        loss = cross_entropy(self.model(image), label)
        own = torch.autograd.grad(loss, list(self.model.parameters()), create_graph=True)
        goals = [goal[victim] for goal in self.target.values()]
        if isinstance(self.distance, Squared):
            return torch.stack([(g - goal).square().sum() for g, goal in zip(own, goals, strict=True)]).sum()
        flat, goal = (torch.cat([g.flatten() for g in side]) for side in (own, goals))
        return 1 - cosine_similarity(flat, goal, dim=0)


def make_world(args: argparse.Namespace, victims: int, dtype: torch.dtype) -> World:
    rng, device = Rng(0, ("benchmark",)), torch.device(args.device)
    domain = Domain(args.image, CLASSES, (0.0,) * args.image[0], (1.0,) * args.image[0])
    model = MODELS[args.model].build(domain, rng.child("init")).to(device, dtype)
    truth = rng.child("truth").normal(victims, 1, *args.image).sigmoid().to(device, dtype)
    labels = torch.arange(victims, device=device)[:, None] % CLASSES
    target = {name: p.new_empty(victims, *p.shape).detach() for name, p in model.named_parameters()}
    for v, (x, y) in enumerate(zip(truth, labels, strict=True)):
        own = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        for (name, goal), g in zip(target.items(), own, strict=True):
            noise = rng.child("noise", v, name).normal(*g.shape).to(g) if args.sigma else 0
            goal[v] = g + args.sigma * noise
    images = rng.child("images").normal(victims, 1, *args.image).to(device, dtype)
    logits = rng.child("logits").normal(victims, 1, CLASSES).to(device, dtype)
    distance = Squared() if args.attack == "dlg" else Cosine()
    return World(model, distance, target, images, logits, labels)


def check(args: argparse.Namespace) -> float:
    """The largest relative difference between image gradients of the engine and of autograd, in float64."""
    world = make_world(args, 2, torch.float64)
    ours = world.matcher(slice(2))(world.images, world.logits.softmax(2)).images
    worst = 0.0
    for v in range(2):
        image = world.images[v].clone().requires_grad_(True)
        (plain,) = torch.autograd.grad(world.residual(v, image, world.logits[v].softmax(1)), image)
        alone = world.matcher(slice(v, v + 1))(world.images[v : v + 1], world.logits[v : v + 1].softmax(2)).images[0]
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
    together, alone = (world.matcher(slice(n)) for n in (everybody, 1))

    def plain() -> int:
        for v in range(10):
            image = world.images[v % everybody].clone().requires_grad_(True)
            logits = world.logits[v % everybody].clone().requires_grad_(True)
            torch.autograd.grad(world.residual(v % everybody, image, logits.softmax(1)), (image, logits))
        return 10

    def batched(match: Matcher, victims: int, repeats: int) -> int:
        images, probabilities = world.images[:victims], world.logits[:victims].softmax(2)
        for _ in range(repeats):
            match(images, probabilities)
        return victims * repeats

    return {
        "plain": lambda: timed(plain, device),
        "1": lambda: timed(lambda: batched(alone, 1, 10), device),
        f"{everybody}": lambda: timed(lambda: batched(together, everybody, 5), device),
    }


def attack_turns(world: World, outer: int, device: torch.device) -> Mapping[str, Turn]:
    everybody = len(world.images)
    rule = LBFGS(lr=1.0, inner=INNER, history=100, tolerance_grad=1e-7, tolerance_change=1e-9)
    start = torch.cat((world.images.flatten(1), world.logits.flatten(1)), 1)
    turn = itertools.count()

    def plain() -> int:
        victim, calls = next(turn) % everybody, 0
        image = world.images[victim].clone().requires_grad_(True)
        logits = world.logits[victim].clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([image, logits], lr=1.0, history_size=100)

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            distance = world.residual(victim, image, logits.softmax(1))
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
        "1": lambda: timed(lambda: batched(torch.tensor([next(turn) % everybody], device=device)), device),
        f"{everybody}": lambda: timed(lambda: batched(torch.arange(everybody, device=device)), device),
    }


def inverting_turns(world: World, counts: Sequence[int], steps: int, device: torch.device) -> Mapping[str, Turn]:
    """Iterations of IGA; the image is boxed to [0, 1]."""
    pixels, shape, turn = world.images[0].numel(), tuple(world.images.shape[1:]), itertools.count()
    box = (world.images.new_zeros(pixels), world.images.new_ones(pixels))
    rule = FirstOrder(lr=0.01, decay=True, signed=pixels, box=box, keep="last", patience=1200)
    given = one_hot(world.labels, CLASSES).to(world.images.dtype)

    def plain() -> int:
        victim = next(turn) % max(counts)
        image = world.images[victim].clone().requires_grad_(True)
        adam = torch.optim.Adam([image], lr=0.01)
        for _ in range(steps):
            variation = image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()
            total = world.residual(victim, image, world.labels[victim]) + TV * variation
            (image.grad,) = torch.autograd.grad(total, image)
            image.grad.sign_()
            adam.step()
            image.data.clamp_(0, 1)
        return steps

    def batched(objective: Joint, victims: int) -> int:
        rule.minimise(objective, world.images[:victims].flatten(1), steps)
        return victims * (steps + 1)  # the last iterate is judged, too

    def together(victims: int) -> Turn:
        objective = Joint(world.matcher(slice(victims)), shape, CLASSES, given[:victims], TV)
        return lambda: timed(lambda: batched(objective, victims), device)

    return {"plain": lambda: timed(plain, device), **{f"{n}": together(n) for n in counts}}


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


def show(title: str, rates: Mapping[str, list[float]]) -> None:
    print(f"\n{title} ({len(rates['plain'])} turns)")
    print(f"  {'':24}{'victim evaluations/s':>22}{'against torch':>16}{'spread':>16}")
    for kind in rates:
        label = "torch, one at a time" if kind == "plain" else f"ours, {kind} together"
        ratios = sorted(r / p for r, p in zip(rates[kind], rates["plain"], strict=True))
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        print(f"  {label:24}{statistics.median(rates[kind]):22.0f}{statistics.median(ratios):15.1f}x{spread:>16}")


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", choices=("dlg", "iga"), default="dlg")
    parser.add_argument(
        "--model", choices=MODELS, help="lenet_dlg for dlg, lenet_default (PyTorch's initial weights) for iga"
    )
    parser.add_argument("--sigma", type=float, default=0.0, help="of the noise on the captured gradients")
    parser.add_argument("--image", type=numbers, default=(3, 32, 32), help="channels,height,width")
    parser.add_argument("--victims", type=numbers, default=(64,), help="at once; several numbers for iga")
    parser.add_argument("--outer", type=int, default=8, help="outer iterations of 20 L-BFGS iterations")
    parser.add_argument("--steps", type=int, default=10, help="iterations of IGA in a turn")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    args = parser.parse_args()
    args.model = args.model or {"dlg": "lenet_dlg", "iga": "lenet_default"}[args.attack]
    if args.threads:
        torch.set_num_threads(args.threads)
    device, most = torch.device(args.device), max(args.victims)

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    size = "x".join(map(str, args.image))
    print(f"{args.attack} on {args.model}, {size} images, {device}, {where}, noise {args.sigma:g}")
    print(f"image gradients agree with autograd to {check(args):.1e} (relative, float64)")
    world = make_world(args, most, torch.float32)
    if args.attack == "iga":
        turns = inverting_turns(world, args.victims, args.steps, device)
        show(f"Whole IGA, {args.steps} iterations", measure(turns, args.seconds))
    else:
        show("Gradients alone", measure(gradient_turns(world, device), args.seconds))
        whole = attack_turns(world, args.outer, device)
        show(f"Whole DLG, {args.outer} outer iterations", measure(whole, args.seconds))
    captured = sum(g.numel() * g.element_size() for g in world.target.values()) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nmemory: {peak:.2f} GiB at most, of which {captured:.2f} GiB are captured gradients")


if __name__ == "__main__":
    main()
