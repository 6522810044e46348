"""The world that gradient matching is timed in: a network, random images, and what a plain loop would compute."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.interface.data import Domain, Tensors
from privsweep.gradient_inversion.engine.distance import Cosine, Distance, Squared
from privsweep.gradient_inversion.engine.match import Matcher
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.interface.randomness import Rng

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

CLASSES = 10
MODELS = {
    "lenet_dlg": ["model=lenet_dlg"],
    "lenet_default": ["model=lenet_dlg", "model.init=default"],
    "smlp": ["model=smlp"],
    "dmlp": ["model=dmlp"],
    "resnet18": ["model=resnet18", "model.stem=imagenet"],
}


@dataclass(frozen=True)
class World:
    """A network, captured gradients and starting points."""

    model: nn.Sequential
    distance: Distance
    truth: Tensor  # [V, 1, C, H, W], pixels from 0 to 1
    target: Tensors  # [V, ...]
    images: Tensor  # [V, 1, C, H, W]
    logits: Tensor  # [V, 1, K]
    labels: Tensor  # [V, 1]

    def matcher(self, rows: Tensor | slice) -> Matcher:
        weights = {name: w.detach() for name, w in self.model.state_dict().items()}
        target = {name: g[rows] for name, g in self.target.items()}
        activations = batch_activations(self.model, tuple(self.images.shape[1:]))
        return matcher(self.model, weights, target, self.distance, activations)

    def leaves(self, victim: int) -> list[Tensor]:
        return [start[victim].clone().requires_grad_(True) for start in (self.images, self.logits)]

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
    with searching(None):
        architecture = build(compose(MODELS[args.model])).model
    model = architecture.build(domain, rng.child("init")).to(device, dtype).eval()
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
    return World(model, Squared() if args.attack == "dlg" else Cosine(), truth, target, images, logits, labels)


def check(args: argparse.Namespace) -> float:
    """The largest relative difference between image gradients of the engine and of autograd, in float64."""
    world = make_world(args, 2, torch.float64)
    ours = world.matcher(slice(2))(world.images, world.logits.softmax(2)).images
    worst = 0.0
    for v in range(2):
        image, logits = world.leaves(v)
        (plain,) = torch.autograd.grad(world.residual(v, image, logits.softmax(1)), image)
        alone = world.matcher(slice(v, v + 1))(world.images[v : v + 1], world.logits[v : v + 1].softmax(2)).images[0]
        for found in (ours[v], alone):
            worst = max(worst, ((found - plain).norm() / plain.norm()).item())
    return worst
