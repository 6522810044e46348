"""Gradients of single examples in rows, as the clients' defence leaves them, to compare a captured update with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Update
from privsweep.model.blocks import IN_GROUPS
from privsweep.training.per_example import example_gradients
from privsweep.training.stacked import mixes_examples

_AT_ONCE = 64  # examples that pass the network together, for what passes through it is not counted
_TRIED = 8  # batches of public examples by which it is told how much shorter whole updates become
_PRUNED = 0.5  # of an update's entries: where fewer are no zeros, the others were pruned


@dataclass(frozen=True)
class ExampleRows:
    """Of ``n`` examples. Axes: ``D`` numbers of a gradient."""

    loss: Loss
    inputs: Tensor  # [n, C, H, W]
    labels: Tensor  # int64 [n]
    noise: Tensors  # [n, ...]: what stochastic layers read
    clipping: Defense | None  # the defence, where its clipping of examples is known
    names: tuple[str, ...]  # of the parameters that were sent, in the order of an update's

    def few(self, rows: Tensor, own: Rng, model: nn.Module) -> Tensor:
        """Float64 ``[len(rows), D]``, all at once."""
        drawn = {name: z[rows] for name, z in self.noise.items()}
        each, _ = example_gradients(model, self.loss, self.inputs[rows], self.labels[rows], drawn)
        if self.clipping is not None:
            each = dict(self.clipping.example_gradients(each, own))
        return flat({name: each[name] for name in self.names})

    def part(self, rows: Tensor, columns: Tensor | slice, own: Rng, model: nn.Module) -> Tensor:
        """Float64 ``[len(rows), columns]``, a few at once."""
        parts = enumerate(rows.split(_AT_ONCE))
        return torch.cat([self.few(some, own.child(n), model)[:, columns] for n, some in parts])

    def passing(self, seen: Update, model: nn.Module, public: int, scale: float, defense: Defense, rng: Rng) -> float:
        """By what the defence multiplies a client's update, the mean over batches of the first ``public`` examples.

        ``scale``: what an update is multiplied by to make a gradient of it. What the defence adds to a batch's gradient
        is told from it by their product, what it prunes is left out.
        """
        each = min(public, seen.examples // seen.contributors)
        found = []
        batches = torch.arange(public, device=self.labels.device).split(each)
        for n, rows in enumerate(batches[: min(_TRIED, public // each)]):
            own = rng.child("batch", n)
            sums = torch.stack(
                [self.few(some, own.child("clipped", k), model).sum(0) for k, some in enumerate(rows.split(_AT_ONCE))]
            )
            mean = sums.sum(0) / len(rows)
            shapes = {name: d.shape[1:] for name, d in seen.delta.items()}
            parts = mean.float().split([shape.numel() for shape in shapes.values()])
            grad = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            passed = defense.gradient(grad, len(rows), own.child("gradient"))
            sent = defense.update({name: g / scale for name, g in passed.items()}, own.child("update"))
            left = torch.cat([t.flatten() for t in sent.values()]).double() * scale
            found.append((left @ mean) / mean.where(left != 0, 0.0).square().sum())
        told = torch.stack(found).nanmean()
        return float(told) if told > 0 else 1.0  # nothing, where records have no gradients, or noise drowns them


def mixed(model: nn.Module, attack: str) -> str | None:
    """Why examples of that model have no gradients of their own, in words that name a remedy, or None."""
    if not mixes_examples(model):
        return None
    return f"{attack}: with batch normalisation no example has a gradient of its own; take {IN_GROUPS}, or none"


def flat(of: Tensors) -> Tensor:
    """``[n, D]``, float64: products of long rows lose digits."""
    return torch.cat([t.reshape(len(t), -1) for t in of.values()], 1).double()


def only_direction(seen: Update, known: Knowledge) -> bool:
    """Whether the length of an update says nothing."""
    return seen.kind == "difference" and known.recipe.optimizer != "sgd"


def whole(target: Tensor, clipping: Defense | None) -> bool:
    """Whether zeros of updates ``[V, D]`` are what gradients have, not what a defence has made of other numbers."""
    pruned = clipping is not None and "only_nonzero" in clipping.answered_by
    return not pruned and bool((target != 0).double().mean() >= _PRUNED)


def tells_steps(seen: Update, known: Knowledge, defense: Defense | None) -> bool:
    """Whether it says how far several steps of one client went."""
    steps = seen.kind == "difference" and seen.contributors == 1 and known.recipe.steps > 1
    return steps and not (defense and defense.acts_at() & {"update", "server_view", "aggregate"})


def halfway(model: nn.Module, seen: Update, victim: int) -> None:
    """Sets ``model`` to the weights halfway between those before and after a difference (the midpoint rule; ours)."""
    moved = {name: seen.weights[name] + d[victim] / 2 for name, d in seen.delta.items()}
    model.load_state_dict({**seen.weights, **moved})
