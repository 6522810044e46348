"""Speed of gradient matching: the batched engine against one victim at a time.

    python scripts/benchmark_gradient_matching.py
    python scripts/benchmark_gradient_matching.py --device cuda --image 1,28,28 --victims 256
    python scripts/benchmark_gradient_matching.py --attack iga --model dmlp --sigma 0.001 --victims 1,8,32
    python scripts/benchmark_gradient_matching.py --attack iga --model dmlp --victims 8 --ends 1500

Attacks single random images. Measured are (a) a plain loop of torch.autograd and a torch.optim optimiser over
victims and (b) this package with one victim, or more of them together; for DLG (squared distance, L-BFGS) image
gradients alone and the whole attack, for IGA (cosine, Adam on the gradient's signs) the whole iteration. They take
turns until the time is up, so that a busy machine disturbs them alike; shown are medians over the turns, and medians
of the ratios within a turn. ``--sigma`` adds noise to the captured gradients, which makes them of full rank.
``--ends`` runs IGA from the same start in both and shows how near the images come.

For IGA the floor is stated, too: the matrix products of a forward, a backward and two tangent sweeps at the speed of
one large product on this machine, or the reading of noisy gradients, whichever takes longer. ``--threads`` matters:
a loop over small networks is faster on one thread, all victims together on all of them.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
from collections.abc import Callable, Mapping, Sequence

from matching_floor import show_floor
from matching_world import CLASSES, MODELS, World, check, make_world
from paired_timing import Turn, measure, show
from privsweep.minimisation.adam import BatchedAdam, milestones
from privsweep.minimisation.lbfgs import BatchedLBFGS
from privsweep.gradient_inversion.objective import MatchingObjective

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim.lr_scheduler import MultiStepLR

INNER = 20  # L-BFGS iterations in an outer one
TV = 1e-6


def gradient_turns(world: World) -> Mapping[str, Turn]:
    everybody = len(world.images)

    def plain() -> int:
        for v in range(10):
            image, logits = world.leaves(v % everybody)
            torch.autograd.grad(world.residual(v % everybody, image, logits.softmax(1)), (image, logits))
        return 10

    def together(victims: int, repeats: int) -> Turn:
        match = world.matcher(slice(victims))
        images, probabilities = world.images[:victims], world.logits[:victims].softmax(2)
        return lambda: sum(len(match(images, probabilities).distance) for _ in range(repeats))

    return {"plain": plain, "1": together(1, 10), f"{everybody}": together(everybody, 5)}


def attack_turns(world: World, outer: int) -> Mapping[str, Turn]:
    everybody = len(world.images)
    rule = BatchedLBFGS(lr=1.0, inner=INNER, history=100, tolerance_grad=1e-7, tolerance_change=1e-9)
    start = torch.cat((world.images.flatten(1), world.logits.flatten(1)), 1)
    turn = itertools.count()

    def plain() -> int:
        victim, calls = next(turn) % everybody, 0
        image, logits = world.leaves(victim)
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
        objective = MatchingObjective(world.matcher(rows), tuple(world.images.shape[1:]), CLASSES)
        return int(rule.minimise(objective, start[rows], outer).evaluations.sum())

    rows = torch.arange(everybody, device=start.device)
    return {
        "plain": plain,
        "1": lambda: batched(rows[next(turn) % everybody, None]),
        f"{everybody}": lambda: batched(rows),
    }


def plain_iga(world: World, victim: int, steps: int) -> Tensor:
    """The image ``[1, C, H, W]`` where one victim's IGA ends; clamped to [0, 1]."""
    image, _ = world.leaves(victim)
    adam = torch.optim.Adam([image], lr=0.01)
    decay = MultiStepLR(adam, milestones(steps))
    for _ in range(steps):
        variation = image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()
        total = world.residual(victim, image, world.labels[victim]) + TV * variation
        (image.grad,) = torch.autograd.grad(total, image)
        image.grad.sign_()
        adam.step()
        decay.step()
        image.data.clamp_(0, 1)
    return image.detach()


def our_iga(world: World, victims: int) -> Callable[[int], Tensor]:
    """From a number of steps to where the first victims' attacks end, ``[victims, D]``."""
    pixels, shape = world.images[0].numel(), tuple(world.images.shape[1:])
    bounds = (world.images.new_zeros(pixels), world.images.new_ones(pixels))
    rule = BatchedAdam(
        lr=0.01, decay=True, signed_coordinates=pixels, bounds=bounds, keep="last", patience=0, filtered=None
    )
    given = one_hot(world.labels[:victims], CLASSES).to(world.images.dtype)
    objective = MatchingObjective(world.matcher(slice(victims)), shape, CLASSES, given, TV)
    return lambda steps: rule.minimise(objective, world.images[:victims].flatten(1), steps).x


def inverting_turns(world: World, counts: Sequence[int], steps: int) -> Mapping[str, Turn]:
    turn = itertools.count()

    def together(victims: int) -> Turn:
        attack = our_iga(world, victims)
        return lambda: len(attack(steps)) * (steps + 1)  # the last iterate is judged, too

    alone = {"plain": lambda: len(plain_iga(world, next(turn) % max(counts), steps)) * steps}
    return alone | {f"{n}": together(n) for n in counts}


def show_ends(world: World, victims: int, steps: int) -> None:
    """PSNR of both from the same start, and how far apart they end."""
    ours = our_iga(world, victims)(steps)
    plain = torch.stack([plain_iga(world, v, steps).flatten() for v in range(victims)])
    errors = [(x - world.truth.flatten(1)[:victims]).square().mean(1) for x in (plain, ours)]
    psnr = [-10 * e.clamp_min(1e-10).log10() for e in errors]
    print(f"\nWhere IGA ends after {steps} iterations, {victims} victims")
    print(f"  PSNR: torch {psnr[0].mean():.2f} dB, ours {psnr[1].mean():.2f} dB", end="; ")
    print(f"a victim's largest difference {(psnr[0] - psnr[1]).abs().max():.2f} dB")


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--attack", choices=("dlg", "iga"), default="dlg")
    add("--model", choices=MODELS, help="lenet_dlg for dlg, lenet_default (PyTorch's initial weights) for iga")
    add("--sigma", type=float, default=0.0, help="of the noise on the captured gradients")
    add("--image", type=numbers, default=(3, 32, 32), help="channels,height,width")
    add("--victims", type=numbers, default=(64,), help="at once; several numbers for iga")
    add("--outer", type=int, default=8, help="outer iterations of 20 L-BFGS iterations")
    add("--steps", type=int, default=10, help="iterations of IGA in a turn")
    add("--ends", type=int, default=0, help="iterations of IGA after which to compare the images; 0 is not at all")
    add("--seconds", type=float, default=30, help="of each measurement")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
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
        turns = inverting_turns(world, args.victims, args.steps)
        rates = measure(turns, args.seconds, device)
        show(f"Whole IGA, {args.steps} iterations", rates)
        show_floor(world, args.sigma > 0, statistics.median(rates[f"{most}"]), device)
        if args.ends:
            show_ends(world, min(args.victims), args.ends)
    else:
        show("Gradients alone", measure(gradient_turns(world), args.seconds, device))
        show(
            f"Whole DLG, {args.outer} outer iterations", measure(attack_turns(world, args.outer), args.seconds, device)
        )
    captured = sum(g.numel() * g.element_size() for g in world.target.values()) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nmemory: {peak:.2f} GiB at most, of which {captured:.2f} GiB are captured gradients")


if __name__ == "__main__":
    main()
