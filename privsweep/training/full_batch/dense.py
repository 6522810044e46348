"""Dense networks: the first layer's product with the fixed records is one for all models, and nothing is recorded.

A model's own record contributes terms of rank one, which are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from privsweep.differential_privacy.clipping import clip_factors
from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.blocks import ACTIVATION_LAYERS
from privsweep.model.plain import is_plain
from privsweep.model.sequence import is_sequence
from privsweep.training.full_batch.activations import Backward, activated
from privsweep.training.full_batch.descent import Task

# Outputs of the widest layer, of all models, that are worked on at once: on a CPU they stay in its caches.
_HELD = {"cpu": 2**18, "cuda": 2**26}
_ALIGNED = 16  # numbers: the products' other widths are slower
_FEWEST = 256  # records at once: products of fewer are slower


def fits(net: nn.Module, loss: Loss, defense: Defense, y: Tensor) -> bool:
    """Whether this is a multilayer perceptron, trained by cross-entropy on classes ``y``, and clipped at most.

    None of its parameters is frozen.
    """
    if not is_sequence(net) or loss is not cross_entropy or defense.example_bound() is None:
        return False
    if not all(map(is_plain, net)):
        return False
    layers = [layer for layer in net if not isinstance(layer, nn.Flatten)]
    dense = [
        isinstance(layer, nn.Linear) and layer.bias is not None and all(p.requires_grad for p in layer.parameters())
        for layer in layers
    ]
    # No two activations in a row: each overwrites what it is given.
    return y.dim() == 1 and all(
        here or (isinstance(layer, ACTIVATION_LAYERS) and before)
        for layer, here, before in zip(layers, dense, [False, *dense], strict=False)
    )


class Dense:
    """The models of a task that ``fits``.

    The first layer's weights are kept with those columns first that stand for inputs which are not zero in all fixed
    records: the shared product leaves out the rest.
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
        self.width = min(len(used), -(-int(used.sum()) // _ALIGNED) * _ALIGNED)
        self.leaves = [p.contiguous().clone() for p in self.packed(task.start)]
        size = _records_at_once(task.net, len(task.own_x), x.device)
        x = x[:, self.order[: self.width]]
        self.inputs = [part.T.contiguous() for part in x.split(size)]  # [D', c]
        self.lengths = [part.square().sum(0) + 1 for part in self.inputs]
        classes = self.leaves[-1].shape[1]
        self.targets = [
            one_hot(part, classes).T.to(x.dtype).contiguous() for part in task.y.split(size)
        ]  # [classes, c]
        self.own = task.own_x.flatten(1)[:, self.order, None]  # [K, D, 1]
        self.own_length = self.own.square().sum(1) + 1
        self.own_target = one_hot(task.own_y, classes)[..., None].to(x.dtype)
        self.present = task.present.to(x.dtype)[:, None, None]
        self.divisors = task.divisors.to(x.dtype)

    @torch.no_grad()
    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        first, bias = self.leaves[0], self.leaves[1]
        shared, shared_bias = first.flatten(0, 1)[:, : self.width], bias.flatten()[:, None]
        z = torch.baddbmm(bias[..., None], first, self.own)
        deltas, inputs = self._deltas(z, self.own_target, self.own_length)
        grads = []
        for delta, a in zip(deltas, [self.own, *inputs], strict=True):
            delta *= self.present
            grads += [torch.bmm(delta, a.mT), delta[..., 0].clone()]
        total = grads[0].flatten(0, 1)[:, : self.width]
        for x, target, length in zip(self.inputs, self.targets, self.lengths, strict=True):
            z = torch.addmm(shared_bias, shared, x).unflatten(0, bias.shape)
            deltas, inputs = self._deltas(z, target, length)
            total.addmm_(deltas[0].flatten(0, 1), x.T)
            for n, delta in enumerate(deltas):
                if n:
                    grads[2 * n].baddbmm_(delta, inputs[n - 1].mT)
                grads[2 * n + 1] += delta.sum(2)
        return [g.div_(self.divisors.view(-1, *[1] * (g.dim() - 1))) for g in grads]

    def _deltas(self, z: Tensor, target: Tensor, length: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients ``[K, H, c]`` of the clipped losses by all layers' outputs; and the inputs of all but the first.

        ``z`` ``[K, H, c]``: the first layer's outputs; ``length``: the squared length of its inputs, and one.
        """
        inputs: list[Tensor] = []
        backward: list[Backward] = []
        for n, layer in enumerate(self.acts):
            if n:
                z = torch.baddbmm(self.leaves[2 * n + 1][..., None], self.leaves[2 * n], z)
            z, back = activated(layer, z)
            backward.append(back)
            inputs.append(z)
        delta = torch.softmax(inputs.pop(), 1).sub_(target)
        deltas: list[Tensor] = []
        for n in reversed(range(len(self.acts))):
            delta = backward[n](delta)
            deltas.insert(0, delta)
            if n:
                delta = torch.bmm(self.leaves[2 * n].mT, delta)
        if self.bound < torch.inf:
            lengths = [length, *(a.square().sum(1) + 1 for a in inputs)]
            squares = sum((one * d.square().sum(1) for one, d in zip(lengths, deltas, strict=True)), 0 * length)
            factor = clip_factors(squares.sqrt(), self.bound)[:, None]
            for delta in deltas:
                delta *= factor
        return deltas, inputs

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self._parameters(), [leaves[0][..., self.back], *leaves[1:]], strict=True))

    def packed(self, parameters: Tensors) -> list[Tensor]:
        weight, *rest = (parameters[name] for name in self._parameters())
        return [weight[..., self.order], *rest]

    def _parameters(self) -> list[str]:
        """In the order of the leaves."""
        return [f"{name}.{kind}" for name in self.names for kind in ("weight", "bias")]

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
