"""Where one way of computing gives place to another: the measurements behind thresholds in the code.

    python scripts/thresholds.py --threads 1
    python scripts/thresholds.py --device cuda --only SMALL FEW

Two ways take turns; shown are the least times of both, and how many times as fast the second one is. A threshold is
well placed where that passes one. Rules of gradient matching: small networks in which one layer takes either rule.
Networks without rules: victims one by one, or together. Released models: one by one, or as the groups of a
convolution. Clipped gradients: formed, or told by what passes through the layers. Convolutions of a training step: by
PyTorch, or compiled.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from unittest.mock import patch

from benchmarks.matching_world import Problem, make_world
from benchmarks.workplace import random_images
from privsweep.compiled.convolution import VictimConvolution
from privsweep.defense.dp_sgd import DpSgd
from privsweep.gradient_inversion.engine import rule_conv, rule_dense, together
from privsweep.gradient_inversion.engine.distance import Cosine
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.interface.data import Domain
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Optimizer
from privsweep.model.convnet import ConvNet
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.training import per_example
from privsweep.training.full_batch.grouped import Grouped
from privsweep.training.full_batch.one_by_one import OneByOne
from privsweep.training.release import ReleaseTraining

import torch
from torch import nn
from torch.nn.functional import cross_entropy

CLASSES = 10
NEVER = 2**60
SECONDS = 2  # a line
Settings = Mapping[str, float]  # of thresholds by name


def evaluation(
    model: nn.Sequential, shape: tuple[int, ...], victims: int, settings: Settings, device: torch.device
) -> Callable[[], object]:
    """Of a matcher that is made with those thresholds. ``shape``: ``(B, C, H, W)``."""
    torch.manual_seed(0)
    model(torch.zeros(shape))  # lazy layers take their shape
    model = model.to(device)
    images, labels = torch.rand(victims, *shape, device=device), torch.zeros(shape[0], dtype=torch.int64, device=device)
    gradients = [torch.autograd.grad(cross_entropy(model(x), labels), list(model.parameters())) for x in images]
    names = [name for name, _ in model.named_parameters()]
    target = {n: torch.stack(g) for n, g in zip(names, zip(*gradients, strict=True), strict=True)}
    weights = {name: w.detach() for name, w in model.state_dict().items()}
    modules = {"SMALL": rule_dense}
    patches = [patch.object(modules.get(name, rule_conv), name, value) for name, value in settings.items()]
    for change in patches:
        change.start()
    match = matcher(model, weights, target, Cosine(), batch_activations(model, shape))
    for change in patches:
        change.stop()
    start = torch.randn_like(images)
    probabilities = torch.rand(victims, shape[0], CLASSES, device=device).softmax(2)

    return lambda: match(start, probabilities)


def compare(title: str, turns: Sequence[Callable[[], object]]) -> None:
    """One line for two ways, after one turn of each that does not count."""
    for turn in turns:
        turn()
    least = [float("inf")] * len(turns)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or math.isinf(max(least)):
        for i, turn in enumerate(turns):
            start = time.perf_counter()
            turn()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            least[i] = min(least[i], time.perf_counter() - start)
    print(f"  {title:50}{least[0] * 1e3:10.2f} ms{least[1] * 1e3:10.2f} ms{least[0] / least[1]:8.2f}x", flush=True)


def rules(
    title: str,
    layers: list[nn.Module],
    shape: tuple[int, ...],
    victims: int,
    settings: list[Settings],
    device: torch.device,
) -> None:
    compare(title, [evaluation(nn.Sequential(*layers), shape, victims, chosen, device) for chosen in settings])


def small(device: torch.device) -> None:
    """a linear layer by its residual, by Gram matrices"""
    for victims in (8, 64):
        for inputs, outputs in ((32, 32), (64, 64), (128, 64), (256, 64), (256, 256)):
            layers = [nn.Flatten(), nn.Linear(inputs, outputs), nn.Tanh(), nn.Linear(outputs, CLASSES)]
            title = f"{victims} victims, {inputs * outputs} entries"
            rules(title, layers, (1, 1, 1, inputs), victims, [{"SMALL": NEVER}, {"SMALL": 0}], device)


def few(device: torch.device) -> None:
    """a convolution by patches, by Gram matrices"""
    for victims in (4, 32):
        for channels, side in ((64, 2), (64, 4), (128, 4), (128, 6), (128, 8), (256, 4)):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            layers = [nn.Conv2d(3, channels, 1), nn.Tanh(), conv, nn.Flatten(), nn.LazyLinear(CLASSES)]
            title = f"{victims} victims, {channels} filters, {channels / side**2:.1f} times the positions"
            settings: list[Settings] = [
                {"MANY_PATCH_ENTRIES": NEVER, "FEW": few, "FEW_COMPILED": few} for few in (NEVER, 1e-9)
            ]
            rules(title, layers, (1, 3, side, side), victims, settings, device)


def patches(device: torch.device) -> None:
    """a convolution by patches, victim by victim"""
    for victims, batch in ((1, 1), (16, 1), (8, 8), (1, 30)):
        for channels, side in ((1, 28), (3, 32), (8, 16), (8, 32), (16, 32), (64, 16), (64, 32)):
            conv = nn.Conv2d(channels, 16, 3, padding=1)
            layers = [conv, nn.Tanh(), nn.Conv2d(16, 16, 1, 4), nn.Flatten(), nn.LazyLinear(CLASSES)]
            entries = 9 * channels * side**2 * batch
            title = f"{victims} victims with {batch} images, {channels} channels, {entries} entries"
            settings: list[Settings] = [
                {"MANY_PATCH_ENTRIES": least, "DEEP": 0, "FEW": NEVER, "FEW_COMPILED": NEVER}
                for least in (NEVER, entries)
            ]
            rules(title, layers, (batch, channels, side, side), victims, settings, device)


def without_rules(device: torch.device) -> None:
    """a network without rules, victims one by one, together"""
    for name, batch in (
        ("shufflenet_v2_x0_5", 1),
        ("mnasnet0_5", 1),
        ("shufflenet_v2_x1_0", 1),
        ("mobilenet_v3_small", 1),
        ("squeezenet1_1", 1),
        ("mobilenet_v2", 1),
        ("regnet_x_400mf", 1),
        ("shufflenet_v2_x0_5", 8),
    ):
        for victims in (4, 8, 16):
            world = make_world(Problem(("model=torchvision", f"model.name={name}"), batch=batch), victims, device)
            match, probabilities = world.matcher(slice(victims)), world.logits.softmax(2)
            alone = match.alone if isinstance(match, together.TogetherMatcher) else match
            assert isinstance(alone, together.AutogradMatcher)
            given = (world.images, probabilities)
            layer = f"{together.parameters_a_layer(alone.model):,.0f} a layer"
            title = f"{victims} victims with {batch} images, {name}, {layer}"
            compare(title, [partial(alone, *given), partial(together.together, alone, *given)])


def released(device: torch.device) -> None:
    """released models one by one, as the groups of one convolution"""
    domain, models = Domain((3, 32, 32), CLASSES, (0.0,) * 3, (1.0,) * 3), 8
    fixed, own = (random_images(n, domain.shape, n, device) for n in (200, models))
    clipping = DpSgd(max_grad_norm=1.0, epsilon=None, noise_multiplier=0.0, delta=1e-5, accountant="rdp", poisson=False)
    for defense, clipped in ((Defense(), ""), (clipping, ", clipped")):
        for width in (2, 4, 8, 16):
            made = ConvNet(
                width=width, layers=[1, 2], depth=2, kernel=4, padding="valid", pool_after=(1,), pooling="stride",
                norm="none", fc=[10], fc_width=None, activation="elu", init="truncated_normal", init_bound=0.5,
            )  # fmt: skip
            rngs = [Rng(2).child(k) for k in range(models)]
            plan = ReleaseTraining(made, domain, fixed, defense, Optimizer("sgd", 0.01, 0.9), 1, None, 8.0)
            task = plan.task(own, torch.ones(models, dtype=torch.bool), rngs)
            title = f"{width} filters, and twice as many{clipped}"
            compare(title, [partial(way(task).gradients, rngs) for way in (OneByOne, Grouped)])


def clipped(device: torch.device) -> None:
    """clipped gradients formed, told by what passes through the layers"""
    defense = DpSgd(max_grad_norm=1.0, epsilon=None, noise_multiplier=0.0, delta=1e-5, accountant="rdp", poisson=True)
    domain = Domain((3, 32, 32), CLASSES, (0.5,) * 3, (0.25,) * 3)
    for name in ("model=lenet_dlg", "model=informed_cnn", "model=lenet", "model=alexnet", "model=smlp", "model=dmlp"):
        with searching(None):
            net = build(compose([name])).model.build(domain, Rng(0)).to(device)
        x = torch.rand(64, *domain.shape, device=device)
        y = torch.arange(len(x), device=device) % CLASSES
        layers = per_example.layers_with_parameters(net)
        assert layers is not None
        share = sum(p.numel() for p in net.parameters()) / per_example.passing_through(net, layers, x)

        def way(least: float, net: nn.Module = net, x: torch.Tensor = x, y: torch.Tensor = y) -> None:
            with patch.object(per_example, "_SHARE", least):
                per_example.defended_sum(net, cross_entropy, x, y, {}, defense, Rng(0))

        compare(f"{name}, a gradient {share:.2f} of what passes", [lambda w=way: w(NEVER), lambda w=way: w(0)])


def channels(device: torch.device) -> None:
    """a training step's convolution by PyTorch, compiled: forward, by images, by weights"""
    if device.type != "cpu":
        return
    for inputs, outputs in (
        (3, 6),
        (3, 12),
        (3, 32),
        (8, 8),
        (12, 12),
        (12, 32),
        (16, 12),
        (16, 16),
        (32, 12),
        (64, 64),
    ):
        for side, stride in ((32, 2), (16, 1)):
            x, w = torch.randn(64, inputs, side, side), torch.randn(outputs, inputs, 5, 5)
            of = VictimConvolution(len(x), 1, x.shape[1:], w.shape, (stride, stride), (2, 2))
            d = torch.randn(of.output)
            sizes = [outputs], [stride, stride], [2, 2], [1, 1], False, [0, 0], 1
            back = partial(torch.ops.aten.convolution_backward, d, x, w, *sizes)
            title = f"{inputs} to {outputs} channels, {side} pixels, stride {stride}"
            theirs, ours = partial(torch.conv2d, x, w, None, stride, 2), partial(of.forward, (x, w))
            compare(f"{title}, forward", [theirs, ours])
            compare(f"{title}, by images", [partial(back, [True, False, False]), partial(of.pull_back, (d, w))])
            compare(f"{title}, by weights", [partial(back, [False, True, False]), partial(of.by_weight, x, d)])


SECTIONS = {
    "SMALL": small,
    "FEW": few,
    "MANY_PATCH_ENTRIES": patches,  # and DEEP
    "FEWEST": without_rules,  # and _LARGEST
    "NARROW": released,
    "SHARE": clipped,
    "FEW_CHANNELS": channels,  # and COLOURS
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="some of the thresholds")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    for name in args.only:
        print(f"{name}: {SECTIONS[name].__doc__}")
        SECTIONS[name](torch.device(args.device))


if __name__ == "__main__":
    main()
