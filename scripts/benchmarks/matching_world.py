"""The world that gradient matching is timed in: a network, random images, and what a plain loop would compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from privsweep.gradient_inversion.engine.distance import Cosine, Distance, Squared
from privsweep.gradient_inversion.engine.match import Matcher
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.interface.data import Domain, Tensors
from privsweep.interface.randomness import Rng
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

CLASSES = 10


@dataclass(frozen=True)
class Problem:
    """What is inverted."""

    model: tuple[str, ...]  # overrides
    distance: Literal["squared", "cosine"] = "cosine"
    sigma: float = 0.0  # of noise on the captured gradients, which makes them of full rank
    image: tuple[int, int, int] = (3, 32, 32)
    batch: int = 1  # images behind one gradient


@dataclass(frozen=True)
class World:
    """A network, captured gradients and starting points."""

    model: nn.Sequential
    distance: Distance
    target: Tensors  # [V, ...]
    images: Tensor  # [V, B, C, H, W]
    logits: Tensor  # [V, B, K]
    labels: Tensor  # [V, B]

    def matcher(self, rows: Tensor | slice) -> Matcher:
        weights = {name: w.detach() for name, w in self.model.state_dict().items()}
        target = {name: g[rows] for name, g in self.target.items()}
        activations = batch_activations(self.model, tuple(self.images.shape[1:]))
        return matcher(self.model, weights, target, self.distance, activations)

    def leaves(self, victim: int) -> list[Tensor]:
        return [start[victim].clone().requires_grad_(True) for start in (self.images, self.logits)]

    def residual(self, victim: int, images: Tensor, label: Tensor) -> Tensor:
        """The attack's distance as one would write it for one victim."""
        loss = cross_entropy(self.model(images), label)
        own = torch.autograd.grad(loss, list(self.model.parameters()), create_graph=True)
        goals = [goal[victim] for goal in self.target.values()]
        if isinstance(self.distance, Squared):
            return torch.stack([(g - goal).square().sum() for g, goal in zip(own, goals, strict=True)]).sum()
        flat, goal = (torch.cat([g.flatten() for g in side]) for side in (own, goals))
        return 1 - cosine_similarity(flat, goal, dim=0)


def make_world(problem: Problem, victims: int, device: torch.device, dtype: torch.dtype = torch.float32) -> World:
    rng, channels = Rng(0, ("benchmark",)), problem.image[0]
    domain = Domain(problem.image, CLASSES, (0.0,) * channels, (1.0,) * channels)
    with searching(None):
        architecture = build(compose(problem.model)).model
    model = architecture.build(domain, rng.child("init")).to(device, dtype).eval()
    shape = (victims, problem.batch, *problem.image)
    truth = rng.child("truth").normal(*shape).sigmoid().to(device, dtype)
    labels = torch.arange(victims * problem.batch, device=device).view(victims, problem.batch) % CLASSES
    target = {name: p.new_empty(victims, *p.shape).detach() for name, p in model.named_parameters()}
    for v, (x, y) in enumerate(zip(truth, labels, strict=True)):
        own = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        for (name, goal), g in zip(target.items(), own, strict=True):
            noise = rng.child("noise", v, name).normal(*g.shape).to(g) if problem.sigma else 0
            goal[v] = g + problem.sigma * noise
    images = rng.child("images").normal(*shape).to(device, dtype)
    logits = rng.child("logits").normal(victims, problem.batch, CLASSES).to(device, dtype)
    distance = Squared() if problem.distance == "squared" else Cosine()
    return World(model, distance, target, images, logits, labels)


def disagreement(problem: Problem, device: torch.device) -> float:
    """The largest relative difference between image gradients of the engine and of autograd, in float64."""
    world = make_world(problem, 2, device, torch.float64)
    ours = world.matcher(slice(2))(world.images, world.logits.softmax(2)).images
    worst = 0.0
    for v in range(2):
        images, logits = world.leaves(v)
        (plain,) = torch.autograd.grad(world.residual(v, images, logits.softmax(1)), images)
        one = slice(v, v + 1)
        alone = world.matcher(one)(world.images[one], world.logits[one].softmax(2)).images[0]
        for found in (ours[v], alone):
            worst = max(worst, ((found - plain).norm() / plain.norm()).item())
    return worst
