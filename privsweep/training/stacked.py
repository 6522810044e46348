"""Shadow models: replicas of one architecture, each trained on records of its own, together on a leading axis.

A shadow's weights depend on its own stream and records only: to rounding they are those of ``training.train``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy, softmax

from privsweep.interface.data import Architecture, Domain, ImageSet, Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.roles import Bench
from privsweep.model.dropout import Dropout
from privsweep.model.sequence import is_sequence
from privsweep.model.stochastic import draw, noise_layers
from privsweep.training.local import LocalSchedule

_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid)
_ANSWERED = 1000  # records answered at once
_TICKS = 20  # steps between two looks at the loss
# Of one tensor on a CPU: larger ones go back to the system when freed, and every step would fault their pages in anew.
_CPU_BYTES = 2**25
_CPU_LEAST = 4  # shadows; of fewer together the larger products gain nothing


def train_shadows(
    architecture: Architecture,
    pool: ImageSet,
    index: Tensor,
    domain: Domain,
    schedule: LocalSchedule,
    rng: Rng,
    bench: Bench,
    memory: float,
) -> Tensors:
    """Weights ``[K, ...]``, parameters and buffers by name, of shadows trained on ``pool`` at ``index`` ``[K, n]``.

    Shadow ``k`` draws its initial weights, the order of its batches and its layers' noise from
    ``rng.child("shadow", k)``. As many are trained at once as ``memory`` GiB hold and as the device is fastest with.
    """
    count = len(index)
    most = at_once(architecture.build(domain, rng), domain, schedule.batch_size, memory, bench.device)
    size = -(-count // -(-count // most))  # chunks of about one size

    def make(part: slice) -> Tensors:
        own = [rng.child("shadow", k) for k in range(part.start, part.stop)]
        nets = [architecture.build(domain, r.child("init")).to(bench.device) for r in own]

        def tick(done: int, total: int, loss: Callable[[], float]) -> None:
            if done % _TICKS == 0 or done == total:
                bench.tick(done, total, shadows=count, loss=loss())

        return train_stack(nets, pool, index[part], domain, schedule, own, tick)

    return bench.chunks("shadows", "trained", count, size, make)


def train_stack(
    nets: Sequence[nn.Module],
    pool: ImageSet,
    index: Tensor,
    domain: Domain,
    schedule: LocalSchedule,
    rngs: Sequence[Rng],
    tick: Callable[[int, int, Callable[[], float]], None] = lambda done, total, loss: None,
) -> dict[str, Tensor]:
    """Trains replicas of one network from their own weights, and returns them stacked; ``nets`` stay as they are.

    Replica ``k`` sees the records ``index[k]`` in the batches that ``schedule`` draws from ``rngs[k]``; the loss is
    cross-entropy.
    Batch normalisation keeps running statistics in place, so a network with them must come alone.
    """
    device = pool.labels.device
    net = nets[0].train()
    names = [name for name, _ in net.named_parameters()]
    states = [n.state_dict() for n in nets]
    weights = {name: torch.stack([s[name].detach() for s in states]) for name in states[0]}
    leaves = [weights[name].requires_grad_() for name in names]
    optimizer = schedule.optimizer.make(leaves)
    index = index.to(device)
    draws = zip(*(schedule.batches(index.shape[1], rng) for rng in rngs), strict=True)
    total = schedule.length(index.shape[1])
    for count, batches in enumerate(draws):
        rows = index.gather(1, torch.stack(batches).to(device))  # [K, B]
        x = domain.inputs_of(pool, rows.flatten()).unflatten(0, rows.shape)
        drawn = [draw(net, rows.shape[1], rng.child("step", count, "noise"), device) for rng in rngs]
        noise = {name: torch.stack([d[name] for d in drawn]) for name in drawn[0]}
        logits = stacked_forward(net, weights, noise, x)
        # A sum of means: no replica's gradient knows of another.
        each = cross_entropy(logits.flatten(0, 1), pool.labels[rows.flatten()], reduction="none")
        loss = each.view(rows.shape).mean(1)
        grads = torch.autograd.grad(loss.sum(), leaves)
        for leaf, grad in zip(leaves, grads, strict=True):
            leaf.grad = grad.contiguous()
        optimizer.step()
        tick(count + 1, total, lambda loss=loss: loss.mean().item())  # type: ignore[misc]
    return {name: w.detach() for name, w in weights.items()}


def stacked_forward(net: nn.Module, weights: Tensors, noise: Tensors, x: Tensor) -> Tensor:
    """Outputs ``[K, B, ...]`` of K replicas on inputs ``[K, B, C, H, W]``, each with its own weights and noise."""
    if len(x) == 1:
        return functional_call(net, {n: w[0] for n, w in {**weights, **noise}.items()}, (x[0],))[None]
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
    """Whether it is a sequence of layers, all of which are those of a multilayer perceptron."""
    return is_sequence(net) and all(
        isinstance(layer, (nn.Flatten, Dropout, *_ELEMENTWISE))
        or (isinstance(layer, nn.Linear) and layer.bias is not None)
        for layer in net
    )


def at_once(net: nn.Module, domain: Domain, batch: int, memory: float, device: torch.device) -> int:
    """Shadows to train together, at least one."""
    noise = noise_layers(net)
    if any(name not in noise for name, _ in net.named_buffers()):
        return 1
    parameters, activations = [p.numel() for p in net.parameters()], _activations(net, domain)
    held = 4 * sum(parameters)  # weights, their gradient, Adam's two moments
    kept = 2 * batch * sum(activations)  # forward and backward
    size = max(1, int(memory * 2**30 / (4 * (held + kept))))
    if device.type == "cuda":
        return size
    # Convolutions of two LeNets together take longer than one after the other; so do layers that are large alone.
    largest = 4 * max(*parameters, batch * max(activations))
    small = min(size, _CPU_BYTES // largest)
    return small if is_dense(net) and small >= _CPU_LEAST else 1


def _activations(net: nn.Module, domain: Domain) -> list[int]:
    """Numbers that the forward pass of every layer without others inside leaves behind of one example, and its input's.

    Zeros pass a copy of the network on the CPU, in eval mode.
    """
    part = deepcopy(net).eval()
    x = torch.zeros(1, *domain.shape, dtype=next(net.parameters()).dtype)
    sizes = [x.numel()]
    for layer in part.modules():
        if not any(layer.children()):
            layer.register_forward_hook(lambda _, given, output: sizes.append(output.numel()))
    with torch.no_grad():
        part(x)
    return sizes


@torch.no_grad()
def answers(net: nn.Module, weights: Tensors, records: ImageSet, domain: Domain) -> Tensor:
    """Probabilities ``[K, n, classes]`` that replicas of ``net`` with ``weights`` ``[K, ...]`` give ``records``."""
    net = net.to(records.labels.device).eval()
    replicas = len(next(iter(weights.values())))
    out: list[list[Tensor]] = [[] for _ in range(replicas)]
    for rows in torch.arange(len(records), device=records.labels.device).split(_ANSWERED):
        x = domain.inputs_of(records, rows)
        for k in range(replicas):
            out[k].append(softmax(functional_call(net, {n: w[k] for n, w in weights.items()}, (x,)), 1))
    return torch.stack([torch.cat(parts) for parts in out])
