"""Dense networks: the first layer's product with the fixed records is one for all models, and nothing is recorded.

A model's own record contributes terms of rank one, which are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from privsweep.differential_privacy.clipping import clip_factors
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.blocks import ACTIVATION_LAYERS
from privsweep.model.sequence import is_sequence
from privsweep.training.full_batch.activations import Backward, activated
from privsweep.training.full_batch.descent import Task

# Outputs of the widest layer, of all models, that are worked on at once: on a CPU they stay in its caches.
_HELD = {"cpu": 2**20, "cuda": 2**26}
_FEWEST = 256  # records at once: products of fewer are slower


def fits(task: Task) -> bool:
    """Whether the network is a multilayer perceptron, trained by cross-entropy and clipped at most."""
    if not is_sequence(task.net) or task.loss is not cross_entropy or task.defense.example_bound() is None:
        return False
    layers = [layer for layer in task.net if not isinstance(layer, nn.Flatten)]
    dense = [isinstance(layer, nn.Linear) and layer.bias is not None for layer in layers]
    # No two activations in a row: each overwrites what it is given.
    return task.y.dim() == 1 and all(
        here or (isinstance(layer, ACTIVATION_LAYERS) and before)
        for layer, here, before in zip(layers, dense, [False, *dense], strict=False)
    )


class Dense:
    """The models of a task that ``fits``.

    The first leaf is ``[K, H, D + 1]``, the first layer's weights beside its bias. Its columns are those of inputs that
    are not zero in all fixed records, the bias, and the rest, which the shared product leaves out.
    """

    def __init__(self, task: Task):
        self.names = [name for name, layer in task.net.named_children() if isinstance(layer, nn.Linear)]
        self.acts = _activations(task.net)
        bound = task.defense.example_bound()
        assert bound is not None
        self.bound = bound
        x = task.x.flatten(1)
        used = (x != 0).any(0)
        self.order = torch.cat((used.nonzero()[:, 0], (~used).nonzero()[:, 0]))
        self.back = self.order.argsort()
        self.kept = int(used.sum())
        self.leaves = [p.contiguous().clone() for p in self.packed(task.start)]
        replicas = len(task.own_x)
        size = _records_at_once(task.net, replicas, x.device)
        x = x[:, self.order[: self.kept]]
        self.inputs = [torch.cat((part.T, part.new_ones(1, len(part)))) for part in x.split(size)]  # [D' + 1, c]
        self.lengths = [part.square().sum(0) for part in self.inputs]
        classes = task.start[f"{self.names[-1]}.bias"].shape[1]
        self.targets = [one_hot(part, classes).T.to(x.dtype) for part in task.y.split(size)]  # [classes, c]
        own = task.own_x.flatten(1)[:, self.order]
        self.own = torch.cat((own[:, : self.kept], own.new_ones(replicas, 1), own[:, self.kept :]), 1)[..., None]
        self.own_length = self.own.square().sum(1)
        self.own_target = one_hot(task.own_y, classes)[..., None].to(x.dtype)
        self.present = task.present.to(x.dtype)[:, None, None]
        self.counts = task.counts.to(x.dtype)

    @torch.no_grad()
    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        first = self.leaves[0]
        shared = first.flatten(0, 1)[:, : self.kept + 1]
        deltas, inputs = self._deltas(torch.bmm(first, self.own), self.own_target, self.own_length)
        for delta in deltas:
            delta *= self.present
        grads = [torch.bmm(deltas[0], self.own.mT)]
        for delta, a in zip(deltas[1:], inputs, strict=True):
            grads += [torch.bmm(delta, a.mT), delta[..., 0].clone()]
        total = grads[0].flatten(0, 1)[:, : self.kept + 1]
        for x, target, length in zip(self.inputs, self.targets, self.lengths, strict=True):
            z = torch.mm(shared, x).unflatten(0, first.shape[:2])
            deltas, inputs = self._deltas(z, target, length)
            total.addmm_(deltas[0].flatten(0, 1), x.T)
            for n, (delta, a) in enumerate(zip(deltas[1:], inputs, strict=True)):
                grads[2 * n + 1].baddbmm_(delta, a.mT)
                grads[2 * n + 2] += delta.sum(2)
        return [g.div_(self.counts.view(-1, *[1] * (g.dim() - 1))) for g in grads]

    def _deltas(self, z: Tensor, target: Tensor, length: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients ``[K, H, c]`` of the clipped losses by all layers' outputs; and the inputs of all but the first.

        ``z`` ``[K, H, c]``: the first layer's outputs; ``length``: the squared length of its inputs, and one.
        """
        inputs: list[Tensor] = []
        backward: list[Backward] = []
        for n, layer in enumerate(self.acts):
            if n:
                z = torch.baddbmm(self.leaves[2 * n][..., None], self.leaves[2 * n - 1], z)
            z, back = activated(layer, z)
            backward.append(back)
            inputs.append(z)
        delta = torch.softmax(inputs.pop(), 1).sub_(target)
        deltas: list[Tensor] = []
        for n in reversed(range(len(self.acts))):
            delta = backward[n](delta)
            deltas.insert(0, delta)
            if n:
                delta = torch.bmm(self.leaves[2 * n - 1].mT, delta)
        if self.bound < torch.inf:
            lengths = [length, *(a.square().sum(1) + 1 for a in inputs)]
            squares = sum((one * d.square().sum(1) for one, d in zip(lengths, deltas, strict=True)), 0 * length)
            factor = clip_factors(squares.sqrt(), self.bound)[:, None]
            for delta in deltas:
                delta *= factor
        return deltas, inputs

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        packed, rest = leaves[0], leaves[1:]
        columns = torch.cat((packed[..., : self.kept], packed[..., self.kept + 1 :]), -1)
        out = {f"{self.names[0]}.weight": columns[..., self.back], f"{self.names[0]}.bias": packed[..., self.kept]}
        for n, name in enumerate(self.names[1:]):
            out |= {f"{name}.weight": rest[2 * n], f"{name}.bias": rest[2 * n + 1]}
        return out

    def packed(self, parameters: Tensors) -> list[Tensor]:
        weight, bias = (parameters[f"{self.names[0]}.{kind}"] for kind in ("weight", "bias"))
        columns = weight[..., self.order]
        first = torch.cat((columns[..., : self.kept], bias[..., None], columns[..., self.kept :]), -1)
        return [first, *(parameters[f"{name}.{kind}"] for name in self.names[1:] for kind in ("weight", "bias"))]

    def buffers(self) -> Tensors:
        return {}


def _activations(net: nn.Module) -> list[nn.Module]:
    """What stands behind every dense layer; the identity where that is nothing."""
    out: list[nn.Module] = []
    for layer in net.children():
        if isinstance(layer, nn.Linear):
            out.append(nn.Identity())
        elif not isinstance(layer, nn.Flatten):
            out[-1] = layer
    return out


def _records_at_once(net: nn.Module, replicas: int, device: torch.device) -> int:
    widest = max(layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear))
    return max(_FEWEST, _HELD[device.type] // (replicas * widest))
