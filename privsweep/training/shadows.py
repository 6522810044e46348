"""Shadow models: replicas of one architecture, each trained on records of its own, and asked for its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softmax

from privsweep.interface.data import Architecture, Domain, ImageSet, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.roles import Bench
from privsweep.interface.training import Augmentation, Examples, LocalSchedule, Training
from privsweep.model.stochastic import draw
from privsweep.training.augmentation import changes
from privsweep.training.fit import fit
from privsweep.training.stacked import most_together

_NONE = Defense()
_ANSWERED = 1000  # records answered at once
_TICKS = 20  # steps between two looks at the loss


@dataclass(frozen=True)
class ShadowModel:
    """What shadows are replicas of, and the defence under which they are trained and answer."""

    architecture: Architecture  # before the defence
    defense: Defense = _NONE  # bound
    whole: bool = True  # its layers, loss and stages are the shadows' too; False: how it takes steps and answers alone

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        """A freshly initialised one, with the defence's layers."""
        net = self.architecture.build(domain, rng)
        return self.defense.model(net, rng.child("defense")) if self.whole else net

    def loss(self) -> Loss:
        return self.defense.loss(cross_entropy) if self.whole else cross_entropy

    @property
    def staged(self) -> bool:
        return self.whole and "fit" in self.defense.acts_at()


def train_shadows(
    model: ShadowModel,
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

    Shadow ``k`` draws its initial weights, the order of its batches, its augmentation, its layers' noise and its
    defence's from ``rng.child("shadow", k)``. As many are trained at once as ``memory`` GiB hold and as the device is
    fastest with; where a defence trains in stages, one.
    """
    count, defense = len(index), model.defense
    net = model.build(domain, rng).to(bench.device)
    one = domain.inputs_of(pool, torch.arange(1, device=bench.device))
    most = 1 if model.staged else most_together(net, one, schedule.batch_size, defense, "auto", memory)
    size = -(-count // -(-count // most))  # chunks of about one size

    def read(rows: Tensor) -> tuple[Tensor, Tensor]:
        x = domain.inputs_of(pool, rows)
        # The view has a plain tensor's strides, however the pool's one channel lies: convolutions round by them.
        return x.view(x.shape), pool.labels[rows]

    index = index.to(bench.device)

    def make(part: slice) -> Tensors:
        own = [rng.child("shadow", k) for k in range(part.start, part.stop)]
        nets = [model.build(domain, r.child("init")).to(bench.device) for r in own]
        states = [each.state_dict() for each in nets]
        start = {name: torch.stack([s[name] for s in states]) for name in states[0]}
        examples = Examples(read, list(index[part]), changes(augment))
        training = Training(nets[0] if model.staged else net, start, None, model.loss(), examples, schedule, own)

        def watch(done: int, total: int, losses: Tensor) -> None:
            if done % _TICKS == 0 or done == total:
                bench.tick(done, total, shadows=count, loss=losses.mean().item())

        def once(given: Training) -> Tensors:
            return fit(given, defense, memory=memory, watch=watch).weights

        def fresh(stream: Rng) -> nn.Module:
            return model.architecture.build(domain, stream).to(bench.device)

        return defense.fit(once, training, fresh, own[0].child("fit")) if model.staged else once(training)

    return bench.chunks("shadows", "trained", count, size, make)


@torch.no_grad()
def answers(
    model: ShadowModel,
    weights: Tensors,
    records: ImageSet,
    domain: Domain,
    rng: Rng,
    change: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """Probabilities ``[K, n, classes]`` that shadows with ``weights`` ``[K, ...]`` give ``records``, ``change`` applied
    to what they are fed.

    What their layers and their defence draw for an answer comes from ``rng.child("shadow", k)``.
    """
    device = records.labels.device
    net = model.build(domain, Rng(0)).to(device).eval()
    replicas = len(next(iter(weights.values())))
    out: list[list[Tensor]] = [[] for _ in range(replicas)]
    for n, rows in enumerate(torch.arange(len(records), device=device).split(_ANSWERED)):
        x = change(domain.inputs_of(records, rows))
        for k in range(replicas):
            own = rng.child("shadow", k, "answer", n)
            state = {name: w[k] for name, w in weights.items()} | draw(net, len(x), own.child("noise"), device)
            logits = functional_call(net, state, (x,))[:, : domain.classes]
            out[k].append(model.defense.predictions(softmax(logits, 1), own))
    return torch.stack([torch.cat(parts) for parts in out])
