"""Where the rules of gradient matching change places: the measurements behind the thresholds in ``rule_*.py``.

    python scripts/matching_thresholds.py --threads 1
    python scripts/matching_thresholds.py --device cuda

Evaluates small networks in which one layer takes either rule. The rules take turns; shown are the least times of
both, and how many times as fast the second one is. A threshold is well placed where that passes one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from unittest.mock import patch

from privsweep.gradient_inversion.engine import rule_conv, rule_dense
from privsweep.gradient_inversion.engine.distance import Cosine
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

CLASSES = 10
NEVER = 2**60
SECONDS = 2  # a line
Settings = Mapping[str, float]  # of thresholds by name


def evaluation(
    model: nn.Sequential, shape: tuple[int, ...], victims: int, settings: Settings, device: torch.device
) -> Callable[[], None]:
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

    def evaluate() -> None:
        match(start, probabilities)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return evaluate


def compare(
    title: str,
    layers: list[nn.Module],
    shape: tuple[int, ...],
    victims: int,
    rules: list[Settings],
    device: torch.device,
) -> None:
    """One line for two rules."""
    turns = [evaluation(nn.Sequential(*layers), shape, victims, settings, device) for settings in rules]
    least = [float("inf")] * len(turns)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for i, turn in enumerate(turns):
            start = time.perf_counter()
            turn()
            least[i] = min(least[i], time.perf_counter() - start)
    print(f"  {title:50}{least[0] * 1e3:10.2f} ms{least[1] * 1e3:10.2f} ms{least[0] / least[1]:8.2f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)

    print("SMALL: a linear layer by its residual, by Gram matrices")
    for victims in (8, 64):
        for inputs, outputs in ((32, 32), (64, 64), (128, 64), (256, 64), (256, 256)):
            layers = [nn.Flatten(), nn.Linear(inputs, outputs), nn.Tanh(), nn.Linear(outputs, CLASSES)]
            title = f"{victims} victims, {inputs * outputs} entries"
            compare(title, layers, (1, 1, 1, inputs), victims, [{"SMALL": NEVER}, {"SMALL": 0}], device)

    print("FEW: a convolution by patches, by Gram matrices")
    for victims in (4, 32):
        for channels, side in ((64, 2), (64, 4), (128, 4), (128, 6), (128, 8), (256, 4)):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            layers = [nn.Conv2d(3, channels, 1), nn.Tanh(), conv, nn.Flatten(), nn.LazyLinear(CLASSES)]
            title = f"{victims} victims, {channels} filters, {channels / side**2:.1f} times the positions"
            rules = [{"MANY_PATCH_ENTRIES": NEVER, "FEW": few} for few in (NEVER, 1e-9)]
            compare(title, layers, (1, 3, side, side), victims, rules, device)

    print("MANY_PATCH_ENTRIES and DEEP: a convolution by patches, victim by victim")
    for victims, batch in ((1, 1), (16, 1), (8, 8), (1, 30)):
        for channels, side in ((1, 28), (3, 32), (8, 16), (8, 32), (16, 32), (64, 16), (64, 32)):
            conv = nn.Conv2d(channels, 16, 3, padding=1)
            layers = [conv, nn.Tanh(), nn.Conv2d(16, 16, 1, 4), nn.Flatten(), nn.LazyLinear(CLASSES)]
            entries = 9 * channels * side**2 * batch
            title = f"{victims} victims with {batch} images, {channels} channels, {entries} entries"
            rules = [{"MANY_PATCH_ENTRIES": least, "DEEP": 0, "FEW": NEVER} for least in (NEVER, entries)]
            compare(title, layers, (batch, channels, side, side), victims, rules, device)


if __name__ == "__main__":
    main()
