"""Shadow models: replicas of one architecture, each trained on records of its own, and asked for its answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softmax

from privsweep.interface.data import Architecture, Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.roles import Bench
from privsweep.interface.training import Augmentation, Examples, LocalSchedule, Training
from privsweep.training.augmentation import changes
from privsweep.training.fit import fit
from privsweep.training.stacked import most_together

_ANSWERED = 1000  # records answered at once
_TICKS = 20  # steps between two looks at the loss


def train_shadows(
    architecture: Architecture,
    pool: ImageSet,
    index: Tensor,
    domain: Domain,
    schedule: LocalSchedule,
    rng: Rng,
    bench: Bench,
    memory: float,
    augment: Augmentation = "none",
) -> Tensors:
    """Weights ``[K, ...]``, parameters and buffers by name, of shadows trained on ``pool`` at ``index`` ``[K, n]``.

    Shadow ``k`` draws its initial weights, the order of its batches, its augmentation and its layers' noise from
    ``rng.child("shadow", k)``. As many are trained at once as ``memory`` GiB hold and as the device is fastest with.
    """
    count = len(index)
    net = architecture.build(domain, rng).to(bench.device)
    one = domain.inputs_of(pool, torch.arange(1, device=bench.device))
    most = most_together(net, one, schedule.batch_size, Defense(), "auto", memory)
    size = -(-count // -(-count // most))  # chunks of about one size

    def read(rows: Tensor) -> tuple[Tensor, Tensor]:
        x = domain.inputs_of(pool, rows)
        # The view has a plain tensor's strides, however the pool's one channel lies: convolutions round by them.
        return x.view(x.shape), pool.labels[rows]

    index = index.to(bench.device)

    def make(part: slice) -> Tensors:
        own = [rng.child("shadow", k) for k in range(part.start, part.stop)]
        states = [architecture.build(domain, r.child("init")).to(bench.device).state_dict() for r in own]
        start = {name: torch.stack([s[name] for s in states]) for name in states[0]}
        examples = Examples(read, list(index[part]), changes(augment))
        training = Training(net, start, None, cross_entropy, examples, schedule, own)

        def watch(done: int, total: int, losses: Tensor) -> None:
            if done % _TICKS == 0 or done == total:
                bench.tick(done, total, shadows=count, loss=losses.mean().item())

        return fit(training, memory=memory, watch=watch).weights

    return bench.chunks("shadows", "trained", count, size, make)


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
