"""Gradient matching: the engine against a plain loop of torch.autograd and a torch.optim optimiser over victims.

Attacks random images. For IGA (cosine, Adam on the gradient's signs) the whole iteration is timed; for DLG (squared
distance, L-BFGS) image gradients alone, and the whole attack. Checked first: the gradients are autograd's, in float64.
A plain loop over a network as small as LeNet is faster on one thread (``--threads 1``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim.lr_scheduler import MultiStepLR

from benchmarks.contest import Case, Contest, DisagreementError, Setup, Turn, UnavailableError
from benchmarks.matching_floor import floor
from benchmarks.matching_world import CLASSES, Problem, World, disagreement, make_world
from privsweep.compiled.convolution import compiled_for
from privsweep.compiled.library import compiled
from privsweep.gradient_inversion.objective import MatchingObjective
from privsweep.minimisation.adam import BatchedAdam, milestones
from privsweep.minimisation.lbfgs import BatchedLBFGS

TV = 1e-6
NEAR = 1e-9  # relative, in float64


def _world(problem: Problem, setup: Setup, counts: tuple[int, ...]) -> World:
    if setup.quick:
        small = () if "model=torchvision" in problem.model else ("model.width=4",)
        problem = replace(problem, model=(*problem.model, *small), image=(1, 32, 32))
    if (apart := disagreement(problem, setup.device)) > NEAR:
        raise DisagreementError(f"image gradients differ from autograd's by {apart:.1e}")
    return make_world(problem, max(counts), setup.device)


def _counts(problem: Problem, setup: Setup) -> tuple[int, ...]:
    if setup.victims or setup.quick:
        return setup.victims or (1, 2)
    if problem.batch > 1:
        return (1,)
    if "model=resnet18" in problem.model:
        return (1, 4, 16)
    return (1, 8, 32, 128) if setup.device.type == "cpu" else (1, 32, 256)


def iga(problem: Problem, setup: Setup) -> Contest:
    """Whole iterations; a floor beneath."""
    counts = _counts(problem, setup)
    world, steps, turn = _world(problem, setup, counts), setup.sized(1, 10, 50), itertools.count()
    most = len(world.images)

    def plain() -> float:
        plain_iga(world, next(turn) % most, steps)
        return steps

    def together(victims: int) -> Turn:
        attack = our_iga(world, victims)
        return lambda: len(attack(steps)) * (steps + 1)  # the last iterate is judged, too

    return Contest(plain, {_victims(n): together(n) for n in counts}, floor(world, problem.sigma > 0, setup))


def in_c(problem: Problem, victims: int, setup: Setup) -> Contest:
    """Whole iterations of IGA of as many victims, with the convolutions' C code, beside the same without it."""
    if not compiled_for(setup.device, torch.float32):
        raise UnavailableError("there is no C compiler, or a GPU does the work")
    count = min(setup.victims or (victims,)) if not setup.quick else 2
    world, steps = _world(problem, setup, (count,)), setup.sized(1, 10, 50)

    def turn(code: bool) -> Turn:
        with compiled(code):
            attack = our_iga(world, count)  # rules are chosen here
        return lambda: len(attack(steps)) * (steps + 1)

    return Contest(turn(False), {_victims(count): turn(True)})


def plain_iga(world: World, victim: int, steps: int) -> Tensor:
    """The images ``[B, C, H, W]`` where one victim's IGA ends; clamped to [0, 1]."""
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
        0.01, decay=True, signed_coordinates=pixels, bounds=bounds, keep="last", patience=0, filtered=None
    )
    given = one_hot(world.labels[:victims], CLASSES).to(world.images.dtype)
    objective = MatchingObjective(world.matcher(slice(victims)), shape, CLASSES, given, TV)
    return lambda steps: rule.minimise(objective, world.images[:victims].flatten(1), steps).x


def dlg_gradients(problem: Problem, setup: Setup) -> Contest:
    """Gradients of images and labels alone."""
    counts = setup.victims or (1, setup.sized(2, 64, 256))
    world = _world(problem, setup, counts)
    few = min(10, len(world.images))

    def plain() -> float:
        for v in range(few):
            images, logits = world.leaves(v)
            torch.autograd.grad(world.residual(v, images, logits.softmax(1)), (images, logits))
        return few

    def together(victims: int) -> Turn:
        match = world.matcher(slice(victims))
        images, probabilities = world.images[:victims], world.logits[:victims].softmax(2)
        return lambda: sum(len(match(images, probabilities).distance) for _ in range(5))

    return Contest(plain, {_victims(n): together(n) for n in counts}, floor(world, problem.sigma > 0, setup))


def dlg(problem: Problem, setup: Setup) -> Contest:
    """Evaluations in whole attacks, of as many outer iterations of 20 inner ones."""
    counts, outer = setup.victims or (1, setup.sized(2, 64, 256)), setup.sized(1, 8, 8)
    world, turn = _world(problem, setup, counts), itertools.count()
    most = len(world.images)
    rule = BatchedLBFGS(lr=1.0, inner=20, history=100, tolerance_grad=1e-7, tolerance_change=1e-9)
    start = torch.cat((world.images.flatten(1), world.logits.flatten(1)), 1)

    def plain() -> float:
        victim, calls = next(turn) % most, 0
        images, logits = world.leaves(victim)
        optimizer = torch.optim.LBFGS([images, logits], lr=1.0, history_size=100)

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            distance = world.residual(victim, images, logits.softmax(1))
            images.grad, logits.grad = torch.autograd.grad(distance, (images, logits))
            return distance.detach()

        for _ in range(outer):
            optimizer.step(closure)
        return calls

    def together(victims: int) -> Turn:
        shape = tuple(world.images.shape[1:])

        def ours() -> float:
            first = next(turn) % most if victims == 1 else 0  # alone, they take turns as in the plain loop
            rows = torch.arange(first, first + victims, device=start.device)
            objective = MatchingObjective(world.matcher(rows), shape, CLASSES)
            return int(rule.minimise(objective, start[rows], outer).evaluations.sum())

        return ours

    return Contest(plain, {_victims(n): together(n) for n in counts})


def _victims(count: int) -> str:
    return "1 victim" if count == 1 else f"{count} victims"


_LENET = ("model=lenet_dlg", "model.init=default")  # PyTorch's initial weights
_RESNET = ("model=resnet18", "model.stem=imagenet")
_IGA = {
    "iga_lenet": ("IGA on LeNet", Problem(_LENET)),
    "iga_smlp": ("IGA on the shallow MLP", Problem(("model=smlp",))),
    "iga_dmlp": ("IGA on the deep MLP", Problem(("model=dmlp",))),
    "iga_dmlp_noisy": ("IGA on the deep MLP, noisy gradients", Problem(("model=dmlp",), sigma=1e-3)),
    "iga_resnet18": ("IGA on ResNet18, 1x64x64", Problem(_RESNET, image=(1, 64, 64))),
    "iga_without_rules": (
        "IGA on torchvision's ShuffleNet, which has no rules",
        Problem(("model=torchvision", "model.name=shufflenet_v2_x0_5")),
    ),
    "iga_resnet18_batch": (
        "IGA on ResNet18, 30 images behind a gradient",
        Problem(_RESNET, image=(1, 64, 64), batch=30),
    ),
}
_DLG = Problem(("model=lenet_dlg",), "squared")
CASES = {
    **{
        name: Case(f"{about}, or a loop over victims", "a victim's iteration", partial(iga, problem))
        for name, (about, problem) in _IGA.items()
    },
    **{
        f"compiled_{count}": Case(
            f"IGA on LeNet, {_victims(count)}, its convolutions in C, or by PyTorch",
            "a victim's iteration",
            partial(in_c, Problem(_LENET), count),
        )
        for count in (1, 16, 128)
    },
    "dlg_gradients": Case(
        "DLG's gradients on LeNet, or a loop over victims", "a victim's gradient", partial(dlg_gradients, _DLG)
    ),
    "dlg": Case(
        "DLG with L-BFGS on LeNet, or torch's L-BFGS over victims", "a victim's evaluation", partial(dlg, _DLG)
    ),
}
