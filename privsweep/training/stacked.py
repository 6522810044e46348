"""Replicas of one network in training on a leading axis, each with its own weights, examples and noise.

Its weights depend on its own stream and examples only: to rounding they are those of a replica alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import pad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import pad_sequence
from torch.utils._pytree import tree_leaves

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.replayed import Replayed, launching
from privsweep.interface.rounding import rounded_step
from privsweep.interface.training import Training
from privsweep.model.blocks import ACTIVATION_LAYERS
from privsweep.model.dropout import Dropout
from privsweep.model.ensemble import Selector
from privsweep.model.perturbation import FixedNoise
from privsweep.model.plain import is_plain
from privsweep.model.sequence import is_sequence
from privsweep.model.stochastic import Stochastic, draw, noise_layers
from privsweep.training.frozen import moving, train_mode
from privsweep.training.stepper import Stepper, steady

Parallel = Literal["auto", "stacked", "abreast", "sequential"]
# Of one tensor on a CPU: larger ones go back to the system when freed, and every step would fault their pages in anew.
_CPU_BYTES = 2**25
_CPU_LEAST = 4  # replicas; of fewer together the larger products gain nothing
_GPU_MOST = 16  # replicas abreast; every one's kernels are recorded


class Stacked:
    """The replicas of ``training``, for what ``stackable`` lets be stacked.

    Replicas of unequal size are padded: a padded example weighs nothing, and one that is done keeps its weights.
    """

    def __init__(self, training: Training, defense: Defense):
        self.net, self.loss, self.data, self.defense = training.net, training.loss, training.data, defense
        self.names = moving(self.net, training.trainable)
        stored = training.start
        self.current = {name: stored[name].detach().clone(memory_format=torch.contiguous_format) for name in stored}
        self.leaves = [self.current[name].requires_grad_() for name in self.names]
        self.noise = list(noise_layers(self.net))
        self.stepper = Stepper(training.schedule.optimizer, self.leaves, len(self.data.index))
        self.replayed = Replayed(self._step, self.data.index[0].device)
        self.defended = "gradient" in defense.acts_at()
        self.by_count = bool(self.noise or self.data.augment or self.defended)  # whether a step goes by ``counts``
        self.finished: dict[int, Tensors] = {}
        self.counts: tuple[int, ...] = ()
        self.weigh = self.sizes = torch.empty(0)
        self._begin()

    def _begin(self) -> None:
        train_mode(self.net, set(self.names))
        self.index = pad_sequence(list(self.data.index), batch_first=True)

    @torch.no_grad()
    def again(self, training: Training) -> None:
        self.data = training.data
        for name, w in self.current.items():
            w.copy_(training.start[name])
        self.stepper.forget()
        self.finished = {}
        self._begin()

    def at(self, done: Sequence[float]) -> None:
        self.stepper.at(done[0])  # where the rate changes, replicas have equally many steps

    def step(self, batches: Sequence[tuple[Tensor, int] | None], rngs: Sequence[Rng]) -> Tensor:
        device = self.index.device
        self._keep_finished(batches)
        nobody = torch.empty(0, dtype=torch.int64, device=device)
        parts = [nobody if b is None else b[0] for b in batches]
        self._weigh(tuple(len(part) for part in parts), device)
        widest = self.weigh.shape[1]
        padded = torch.stack([part if len(part) == widest else pad(part, (0, widest - len(part))) for part in parts])
        rows = self.index.gather(1, padded)
        given = self._read(rows) if self.data.waits else (rows,)
        kind = self.counts if self.by_count else None
        return self.replayed(self.weigh, self.sizes, *given, rngs=rngs, kind=kind)[0]

    def _read(self, rows: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.unflatten(0, rows.shape) for t in self.data.read(rows.flatten()))

    def _step(self, weigh: Tensor, sizes: Tensor, *given: Tensor, rngs: Sequence[Rng]) -> tuple[Tensor, ...]:
        """A whole step, of the examples at ``given`` positions ``[R, B]`` or of those themselves; the losses ``[R]``.

        So many of a replica's are its own as ``counts`` says.
        """
        x, y = given if self.data.waits else self._read(*given)
        if self.data.augment is not None:
            x = x.clone()
            for own, count, rng in zip(x, self.counts, rngs, strict=True):
                own[:count] = self.data.augment(own[:count], rng.child("augment"))
        drawn = [draw(self.net, n, rng.child("noise"), x.device) for n, rng in zip(self.counts, rngs, strict=True)]
        noise = {name: pad_sequence([d[name] for d in drawn], batch_first=True) for name in self.noise}
        with rounded_step(x.device):
            outputs = stacked_forward(self.net, self.current, noise, x)
            each = vmap(lambda o, t: self.loss(o[None], t[None]))(outputs.flatten(0, 1), y.flatten(0, 1))
        each = each.view(weigh.shape)
        # A sum of means: no replica's gradient knows of another.
        values = torch.where(sizes > 0, (each * weigh).sum(1) / sizes.clamp_min(1), 0.0)
        grads = torch.autograd.grad(values.sum(), self.leaves)
        self.stepper.step(self._defended([g.contiguous() for g in grads], rngs))
        return (values.detach(),)

    def weights(self) -> Tensors:
        with torch.no_grad():
            for k, kept in self.finished.items():
                for name, w in kept.items():
                    self.current[name][k] = w
        return {name: w.detach().clone() for name, w in self.current.items()}

    def state(self) -> Tensors:
        return self.stepper.state()

    def remember(self, state: Tensors) -> None:
        self.stepper.remember(state)

    def _keep_finished(self, batches: Sequence[tuple[Tensor, int] | None]) -> None:
        """The optimiser moves all replicas; what those that are done had before is put back in the end."""
        for k, batch in enumerate(batches):
            if batch is None and k not in self.finished:
                self.finished[k] = {name: self.current[name][k].detach().clone() for name in self.names}

    def _weigh(self, counts: tuple[int, ...], device: torch.device) -> None:
        """What every example of a step counts, ``[R, widest batch]``, and how many there are, ``[R]``."""
        if counts != self.counts:
            self.counts, self.sizes = counts, torch.tensor(counts, device=device)
            self.weigh = (torch.arange(max(counts), device=device) < self.sizes[:, None]).float()

    def _defended(self, grads: list[Tensor], rngs: Sequence[Rng]) -> list[Tensor]:
        if not self.defended:
            return grads
        apart = []
        for k, (count, rng) in enumerate(zip(self.counts, rngs, strict=True)):
            own: Tensors = {name: g[k] for name, g in zip(self.names, grads, strict=True)}
            apart.append(self.defense.gradient(own, count, rng) if count else own)
        return [torch.stack([own[name] for own in apart]) for name in self.names]


def stacked_forward(net: nn.Module, weights: Tensors, noise: Tensors, x: Tensor) -> Tensor:
    """Outputs ``[K, B, ...]`` of K replicas on inputs ``[K, B, ...]``, each with its own weights and noise."""
    if not is_dense(net):
        return vmap(lambda w, part: functional_call(net, w, (part,)), randomness="error")({**weights, **noise}, x)
    for name, layer in net.named_children():
        match layer:
            case nn.Flatten():
                x = x.flatten(2)
            case nn.Linear():
                # Weights first: so their gradient comes out in their own layout, which saves a copy of it.
                x = torch.baddbmm(weights[f"{name}.bias"][..., None], weights[f"{name}.weight"], x.mT).mT
            case Dropout():
                x = functional_call(layer, {"noise": noise[f"{name}.noise"]}, (x,))
            case _:
                x = layer(x)
    return x


def is_dense(net: nn.Module) -> bool:
    """Whether this is a sequence of a multilayer perceptron's layers."""
    return is_sequence(net) and all(
        is_plain(layer)
        and (
            isinstance(layer, (nn.Flatten, Dropout, *ACTIVATION_LAYERS))
            or (isinstance(layer, nn.Linear) and layer.bias is not None)
        )
        for layer in net
    )


def stackable(net: nn.Module, defense: Defense) -> bool:
    """Not with buffers of unknown layers, whose updates may be in place, nor with a gradient an example.

    Those of batch normalisation are updated as they should be, and some layers' never change.
    """
    known = all(
        isinstance(layer, _BatchNorm | Stochastic | FixedNoise | Selector)
        for layer in net.modules()
        if any(True for _ in layer.buffers(recurse=False))
    )
    return known and steady(defense)


def at_once(device: torch.device) -> Literal["stacked", "abreast"]:
    """How replicas train together on a device."""
    return "abreast" if device.type == "cuda" and launching.graphs else "stacked"


def mixes_examples(net: nn.Module) -> bool:
    """Whether an example's outputs depend on what else is in the batch, padding too."""
    return any(isinstance(layer, _BatchNorm) for layer in net.modules())


def most_together(
    net: nn.Module, x: Tensor, batch: int, defense: Defense, parallel: Parallel, memory: float | None
) -> int:
    """How many replicas train together, at least one, on the device of ``x``, an example ``[1, ...]``.

    No more than ``memory`` GiB hold (None: all); with ``auto`` a few on a GPU, and on a CPU where the products are
    dense and small.
    """
    way = at_once(x.device) if parallel == "auto" else parallel
    if way == "sequential" or not (steady(defense) if way == "abreast" else stackable(net, defense)):
        return 1
    parameters, activations = [p.numel() for p in net.parameters()], numbers_of(net, x)
    held = 4 * sum(parameters)  # weights, their gradient, Adam's two moments
    kept = 2 * batch * sum(activations)  # forward and backward
    size = sys.maxsize if memory is None else max(1, int(memory * 2**30 / (4 * (held + kept))))
    if parallel != "auto":
        return size
    if x.device.type == "cuda":
        return min(size, _GPU_MOST) if way == "abreast" else size
    # Convolutions of two LeNets together take longer than one after the other; so do layers that are large alone.
    largest = 4 * max(*parameters, batch * max(activations))
    small = min(size, _CPU_BYTES // largest)
    return small if is_dense(net) and small >= _CPU_LEAST else 1


@torch.no_grad()
def numbers_of(net: nn.Module, x: Tensor) -> list[int]:
    """Numbers of one example: its own, and those that the forward pass of every innermost layer leaves behind."""
    sizes = [x.numel()]
    layers = [layer for layer in net.modules() if not list(layer.children())]

    def count(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        # A recurrent layer puts out a tuple, and a user's own whatever it likes.
        sizes.append(sum(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)))

    hooks = [layer.register_forward_hook(count) for layer in layers]
    was = net.training
    net.eval()(x)
    net.train(was)
    for hook in hooks:
        hook.remove()
    return sizes
